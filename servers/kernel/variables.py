"""``${NAME}`` and ``${NAME:-default}`` in manifests.

Expanded after parsing, so that what a variable holds can't change the structure of a file.
``$${`` stands for a literal ``${``.
"""

import re
from collections.abc import Mapping
from typing import Any

from servers.kernel.paths import Path, Wrong

_VARIABLE = re.compile(r"\$(\$)?\{(\w+)(?::-([^}]*))?\}")


class Expanded(str):
    """Text that is wholly the value of one variable, and so may stand for a number."""

    __slots__ = ()


class Expansion:
    """Expands one manifest and remembers which values held variables."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self.sources: dict[Path, str] = {}  # where a variable was used, and the text before
        self.missing: list[Wrong] = []

    def expand(self, value: Any, path: Path = ()) -> Any:
        match value:
            case str():
                return self._text(value, path)
            case list():
                return [self.expand(item, (*path, index)) for index, item in enumerate(value)]
            case dict():
                return {key: self.expand(item, (*path, key)) for key, item in value.items()}
        return value

    def _text(self, text: str, path: Path) -> str:
        if "${" not in text:
            return text
        expanded = _VARIABLE.sub(lambda match: self._lookup(match, path), text)
        if expanded != text.replace("$${", "${"):
            self.sources[path] = text
        whole = _VARIABLE.fullmatch(text)
        return Expanded(expanded) if whole and not whole[1] else expanded

    def _lookup(self, match: re.Match[str], path: Path) -> str:
        escaped, name, default = match.groups()
        if escaped:
            return match[0][1:]
        found = self._env.get(name)
        if default is not None:
            return found or default  # as in a shell: empty counts as unset
        if found is None:
            self._miss(name, path)
        return found or ""

    def _miss(self, name: str, path: Path) -> None:
        says = (
            f"environment variable {name} is not set;"
            f" set it, or write ${{{name}:-default}}, or $${{{name}}} for the plain text"
        )
        self.missing.append(Wrong(path, says))
