"""Short ways to write agents in tests."""

from textwrap import indent

import pytest

from servers.agents.manifest import Agent
from servers.kernel.errors import InvalidInput
from servers.kernel.manifest import load

MODEL = "model: {primary: {provider: ollama, model: m}}\n"


def text(spec: str, metadata: str = "{name: a}") -> str:
    head = f"apiVersion: astromesh/v1\nkind: Agent\nmetadata: {metadata}\nspec:\n"
    return head + indent(spec, "  ")


def agent(spec: str, **env: str) -> Agent:
    (found,) = load(Agent, text(spec), "a.agent.yaml", env)
    return found


def violations(whole: str, **env: str) -> dict[str, str]:
    """Field -> what is wrong with it."""
    with pytest.raises(InvalidInput) as caught:
        load(Agent, whole, "a.agent.yaml", env)
    assert caught.value.reason == "MANIFEST_INVALID"
    return {each.field: each.description for each in caught.value.violations}


def wrong(spec: str, **env: str) -> dict[str, str]:
    return violations(text(spec), **env)
