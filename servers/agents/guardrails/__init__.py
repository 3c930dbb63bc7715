"""Rules about texts that come in and go out: compiled once, applied whole or to a stream.

They redact, block or warn. What they report never holds the text.
"""

from servers.agents.guardrails.compiling import compiled
from servers.agents.guardrails.rules import Checked, CostLimit, Judge, Rules, StreamGuard

__all__ = ["Checked", "CostLimit", "Judge", "Rules", "StreamGuard", "compiled"]
