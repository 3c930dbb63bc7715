"""An agent's system prompt: who it is, `prompts.system`, then `prompts.context`.

Templates are compiled once, when the agent is declared, so that a mistake in one is an
error of the manifest, with its line. A template sees the names of `prompts.variables` and
of the request's context (which wins), both whole as `variables` and `context`, and `agent`
and `now` (UTC).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from jinja2 import Template, TemplateSyntaxError, meta
from jinja2.exceptions import TemplateError

from servers.agents.manifest import Agent
from servers.agents.prompts.budget import Budget
from servers.agents.prompts.sandbox import BUDGET, PromptEnvironment
from servers.domain.chat import Json
from servers.kernel.errors import NotReady
from servers.kernel.paths import Path, Wrong

MAX_TEMPLATE = 64 * 1024  # characters
_MARKS = ("{{", "{%", "{#")


@dataclass(frozen=True, slots=True)
class _Section:
    """A part of the prompt: plain text, or a template."""

    field: str
    text: str
    template: Template | None = None


class Prompt:
    """The compiled prompts of one agent. Satisfies what a run needs: `render` and `stages`."""

    def __init__(self, agent: Agent) -> None:
        prompts = agent.spec.prompts
        self._agent = agent.name
        self._names = _identity(agent)
        self._variables = dict(prompts.variables)
        environment = PromptEnvironment(prompts.templates)
        self._sections = (
            _Section("identity", _introduction(agent)),
            _section(environment, "prompts.system", prompts.system),
            _section(environment, "prompts.context", prompts.context),
        )
        self._stages = {
            name: _section(environment, f"orchestration.stage_prompts.{name}", text)
            for name, text in agent.spec.orchestration.stage_prompts.items()
        }
        self._plain = all(each.template is None for each in self._sections)
        self._text = _joined(each.text for each in self._sections) if self._plain else ""

    def render(self, context: Json, now: float) -> str:
        """The system prompt of a run; empty where there is nothing to say.

        Raises NotReady (PROMPT_FAILED) where a template fails or costs too much.
        """
        if self._plain:
            return self._text
        with self._values(context, now) as values:
            return _joined(self._rendered(each, values) for each in self._sections)

    def stages(self, context: Json, now: float) -> dict[str, str]:
        """What a run is told in the stages that have a prompt. Raises as `render`."""
        if not self._stages:
            return {}
        with self._values(context, now) as values:
            return {name: self._rendered(each, values) for name, each in self._stages.items()}

    @contextmanager
    def _values(self, context: Json, now: float) -> Iterator[dict[str, Any]]:
        """What templates see, for as long as they are rendered."""
        values = (
            self._variables
            | dict(context)
            | {
                "variables": self._variables,
                "context": dict(context),
                "agent": self._names,
                "now": datetime.fromtimestamp(now, UTC),
            }
        )
        token = BUDGET.set(Budget())
        try:
            yield values
        finally:
            BUDGET.reset(token)

    def _rendered(self, section: _Section, values: dict[str, Any]) -> str:
        if section.template is None:
            return section.text
        try:
            return section.template.render(values)
        except Exception as error:  # a template can raise whatever its expressions raise
            raise NotReady(
                f"agent {self._agent!r}: spec.{section.field} can't be rendered: {_reason(error)}",
                reason="PROMPT_FAILED",
                agent=self._agent,
                field=f"spec.{section.field}",
            ) from error


def wrong_prompts(agent: Agent) -> Iterator[Wrong]:
    """What is wrong with an agent's templates, for the errors of its manifest."""
    prompts, stages = agent.spec.prompts, agent.spec.orchestration.stage_prompts
    environment = PromptEnvironment(prompts.templates)
    texts: dict[Path, str] = {
        **{("spec", "orchestration", "stage_prompts", n): text for n, text in stages.items()},
        ("spec", "prompts", "system"): prompts.system,
        ("spec", "prompts", "context"): prompts.context,
        **{("spec", "prompts", "templates", n): text for n, text in prompts.templates.items()},
    }
    for path, text in texts.items():
        if wrong := _wrong(environment, text, prompts.templates):
            yield Wrong(path, wrong)


def _wrong(environment: PromptEnvironment, text: str, templates: Json) -> str:
    if len(text) > MAX_TEMPLATE:
        return f"longer than {MAX_TEMPLATE} characters"
    try:
        tree = environment.parse(text)
        environment.compile(text)
    except TemplateSyntaxError as error:
        return f"line {error.lineno} of the template: {error.message}"
    except RecursionError:
        return "the template is nested too deeply"
    for name in meta.find_referenced_templates(tree):
        if name is not None and name not in templates:
            known = ", ".join(sorted(templates)) or "none"
            return f"includes {name!r}, which spec.prompts.templates does not have; known: {known}"
    return ""


def _section(environment: PromptEnvironment, field: str, text: str) -> _Section:
    dynamic = any(mark in text for mark in _MARKS)
    return _Section(field, text, environment.from_string(text) if dynamic else None)


def _introduction(agent: Agent) -> str:
    identity = agent.spec.identity
    lines = (("Your role", identity.role), ("Your manner", identity.personality))
    return "\n".join(f"{what}: {text.strip()}" for what, text in lines if text.strip())


def _identity(agent: Agent) -> dict[str, str]:
    identity = agent.spec.identity
    return {
        "name": agent.name,
        "version": agent.metadata.version,
        "display_name": identity.display_name or agent.name,
        "description": identity.description,
    }


def _joined(texts: Iterator[str]) -> str:
    return "\n\n".join(text for each in texts if (text := each.strip()))


def _reason(error: Exception) -> str:
    if isinstance(error, TemplateError):
        return str(error.message or error)
    if isinstance(error, RecursionError):
        return "it includes or calls itself without end"
    return f"{type(error).__name__}: {error}"
