"""The code blocks of a Markdown page, and whether what a command printed looks as shown."""

import doctest
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

_PART = re.compile(r"^```(\w+)\n(.*?)^```$|^#+ (.*?)$", re.MULTILINE | re.DOTALL)
_OUTPUT = ("text", "json")
_LIKE = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
_WORD = re.compile(r"[A-Z][A-Z0-9_]+")  # of an enum
_SAID = ("state", "reason", "code", "message")  # compared, where other values only have a type


@dataclass(frozen=True)
class Block:
    """`shown` is the output that the page shows right behind the block, as `text` or `json`."""

    name: str  # the heading it stands under, and its number
    language: str
    text: str
    shown: str = ""
    shown_as: str = ""

    @property
    def file(self) -> str:
        """The file that a block of YAML or Python is to be saved as: its first line says so."""
        found = re.match(r"# (\S+\.(?:yaml|py))\n", self.text)
        return found[1] if found and self.language != "bash" else ""


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    found: list[Block] = []
    heading, end = "", 0
    for match in _PART.finditer(text):
        language, body, title = match.groups()
        if title:
            heading = title
        elif language in _OUTPUT and found and not text[end : match.start()].strip():
            found[-1] = replace(found[-1], shown=body, shown_as=language)
        else:
            found.append(Block(f"{len(found) + 1} {heading}", language, body))
        end = match.end()
    return found


def looks_like(shown: str, kind: str, printed: str) -> bool:
    """``...`` in a text stands for anything; JSON may have more keys and other values."""
    if kind == "json":
        return _alike(json.loads(shown), json.loads(printed))
    return doctest.OutputChecker().check_output(shown, printed, _LIKE)


def _alike(shown: Any, printed: Any, key: str = "") -> bool:
    match shown:
        case dict():
            return isinstance(printed, dict) and all(
                name in printed and _alike(value, printed[name], name)
                for name, value in shown.items()
            )
        case list():
            return isinstance(printed, list) and all(map(_alike, shown, printed))
        case str() if _WORD.fullmatch(shown) and key not in _SAID:
            return isinstance(printed, str) and bool(_WORD.fullmatch(printed))
    return shown == printed if key in _SAID else type(shown) is type(printed)
