"""System prompts: Jinja2 templates of an agent, rendered in a sandbox."""

from servers.agents.prompts.prompt import Prompt, wrong_prompts

__all__ = ["Prompt", "wrong_prompts"]
