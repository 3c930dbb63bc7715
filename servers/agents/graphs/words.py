"""What is written into a node, wherever it is drawn."""

from unicodedata import category, east_asian_width

from servers.domain.graphs import Node

MOST_CHARACTERS = 48


def title(node: Node) -> str:
    return shortened(node.label) or node.kind


def remark(node: Node) -> str:
    """Its kind, how it stands, what it took."""
    parts = [node.kind.replace("_", " "), node.state.replace("_", " ")]
    if node.duration:
        parts.append(_seconds(node.duration))
    if node.usage:
        parts.append(f"{node.usage.prompt_tokens}+{node.usage.completion_tokens} tokens")
    return " · ".join(part for part in parts if part)


def _seconds(duration: float) -> str:
    return f"{duration * 1000:.0f} ms" if duration < 1 else f"{duration:.1f} s"


def shortened(text: str, most: int = MOST_CHARACTERS) -> str:
    """One line of what can be shown."""
    head = text[: most * 20]
    line = " ".join("".join(c if _shown(c) else " " for c in head).split())
    return line if len(line) <= most and len(head) == len(text) else f"{line[: most - 1]}…"


def _shown(character: str) -> bool:
    """Neither control characters nor those that turn the direction of what follows."""
    return category(character)[0] != "C"


def cells(text: str) -> int:
    """How wide a line is, in characters of one width."""
    return sum(2 if east_asian_width(c) in "WF" else 1 for c in text)
