"""Short ways to write rules in tests."""

from typing import Any

from servers.agents.guardrails import Rules, compiled
from servers.agents.manifest.guardrails import Guardrail, Guardrails


def rule(type: str, action: str = "", message: str = "", **options: Any) -> Guardrail:
    return Guardrail(type=type, action=action, message=message, options=options)


def rules(*both: Guardrail) -> Rules:
    """The same rules for what comes in and what goes out."""
    return compiled(Guardrails(input=both, output=both))
