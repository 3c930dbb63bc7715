"""Keeps a tool's result from filling the model's context window."""

import re
from math import ceil

CHARACTERS_PER_TOKEN = 4
_MARKER = re.compile(r"\n\[\.\.\. \d+ tokens cut\]\Z")


def estimate_tokens(text: str) -> int:
    """About how many tokens `text` is: characters / 4, rounded up.

    An estimate until the model's own tokenizer is at hand. It is close for English prose
    and too low by a half or more for code, digits and most other scripts.
    """
    return ceil(len(text) / CHARACTERS_PER_TOKEN)


def cut(text: str, budget: int) -> tuple[str, int]:
    """`text` within `budget` tokens, and how many tokens were cut off.

    What is cut ends in a marker that says how much is missing. The marker counts towards
    the budget; a budget smaller than the marker leaves the marker alone.
    """
    total = estimate_tokens(text)
    if total <= budget:
        return text, 0
    kept = max(0, budget - estimate_tokens(_marker(total)))
    missing = total - kept
    return text[: kept * CHARACTERS_PER_TOKEN] + _marker(missing), missing


def marker_at(text: str) -> int:
    """Where the marker stands in a text that was cut; its end in one that was not."""
    found = _MARKER.search(text)
    return found.start() if found else len(text)


def _marker(tokens: int) -> str:
    return f"\n[... {tokens} tokens cut]"
