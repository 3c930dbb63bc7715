"""Brings a manifest to one spelling per key and remembers where each part was written.

Users write `window_size`, `max_turns` or `max_messages` for one thing. Models know one of
them; errors speak of what the user wrote.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from servers.kernel.explain import nearest
from servers.kernel.paths import Path, Wrong, at, dotted, matches


class Spelling:
    """A copy of a manifest that is being rewritten."""

    def __init__(self, written: Any) -> None:
        self.value = deepcopy(written)
        self.conflicts: list[Wrong] = []
        self._origins: dict[Path, Path] = {}

    def rename(self, pattern: str, names: Mapping[str, str]) -> None:
        """In every mapping that fits `pattern`: old key -> new key. A new name may be
        dotted (``parameters.top_p``): the value moves into the mapping of that name."""
        for path, mapping in list(matches(self.value, pattern)):
            if isinstance(mapping, dict):
                for old in [key for key in mapping if key in names]:
                    self._move(path, mapping, old, tuple(names[old].split(".")))

    def gather(self, pattern: str, known: frozenset[str], into: str) -> None:
        """In every mapping that fits: keys that are not `known` move into the mapping `into`."""
        for path, mapping in list(matches(self.value, pattern)):
            if isinstance(mapping, dict):
                for key in [key for key in mapping if key not in known and key != into]:
                    self._move(path, mapping, key, (into, key))

    def lift(
        self, pattern: str, inner: str, moves: Mapping[str, str], implied: Mapping[str, Any]
    ) -> None:
        """In every mapping that fits: keys of its mapping `inner` move out of it, and what
        `inner` implies is said where nothing was."""
        for path, mapping in list(matches(self.value, pattern)):
            if isinstance(mapping, dict) and isinstance(mapping.get(inner), dict):
                for old in [key for key in mapping[inner] if key in moves]:
                    mapping[f"{inner}.{old}"] = mapping[inner].pop(old)
                    self._origins[(*path, f"{inner}.{old}")] = (*path, inner, old)
                    self._move(path, mapping, f"{inner}.{old}", tuple(moves[old].split(".")))
                if not mapping[inner]:
                    del mapping[inner]
                for key, value in implied.items():
                    mapping.setdefault(key, value)

    def unzip(self, pattern: str, items: str, moves: Mapping[str, str]) -> None:
        """In every mapping that fits: where an item of its list `items` is a mapping, the item's
        `name` takes its place, and what `moves` names goes into mappings by that name."""
        for path, mapping in list(matches(self.value, pattern)):
            listed = mapping.get(items) if isinstance(mapping, dict) else None
            for index, item in enumerate(listed if isinstance(listed, list) else ()):
                if isinstance(item, dict) and isinstance(item.get("name"), str):
                    self._unzip(mapping, path, (items, index), moves)

    def _unzip(
        self, mapping: dict[str, Any], path: Path, place: tuple[str, int], moves: Mapping[str, str]
    ) -> None:
        items, index = place
        item, written = mapping[items][index], (*path, items, index)
        name = item["name"]
        for key in item.keys() - {"name"}:
            target = mapping.setdefault(moves[key], {}) if key in moves else None
            if target is None:
                known = nearest(key, ["name", *moves])
                self.conflicts.append(Wrong((*written, key), f"unknown key {key!r}{known}"))
            elif isinstance(target, dict) and target.setdefault(name, item[key]) == item[key]:
                self._origins[(*path, moves[key], name)] = (*written, key)
            elif isinstance(target, dict):
                other = dotted((*path, moves[key], name))
                says = f"means the same as {other}; keep one of them"
                self.conflicts.append(Wrong((*written, key), says))
        mapping[items][index] = name
        self._origins[written] = (*written, "name")

    def words(self, pattern: str, names: Mapping[str, str]) -> None:
        """In every text that fits `pattern`: old word -> new word."""
        self.reshape(pattern, lambda text: names.get(text, text) if _is_text(text) else text)

    def listed(self, pattern: str) -> None:
        """Where one mapping stands for a list of one."""
        for path, value in list(matches(self.value, pattern)):
            if isinstance(value, dict | str):
                self._put(path, [value])
                self._origins[(*path, 0)] = self.written(path)

    def named(self, pattern: str, key: str) -> None:
        """Where a text stands for the mapping ``{key: text}``."""
        for path, value in list(matches(self.value, pattern)):
            if isinstance(value, str):
                self._put(path, {key: value})
                self._origins[(*path, key)] = self.written(path)

    def reshape(self, pattern: str, change: Callable[[Any], Any]) -> None:
        """Replace every value that fits `pattern` by what `change` makes of it."""
        for path, value in list(matches(self.value, pattern)):
            self._put(path, change(value))

    def written(self, path: Path) -> Path:
        """Where the user wrote what stands at `path` now."""
        for length in range(len(path), 0, -1):
            if origin := self._origins.get(path[:length]):
                return origin + path[length:]
        return path

    def _put(self, path: Path, value: Any) -> None:
        at(self.value, path[:-1])[path[-1]] = value

    def _move(self, path: Path, mapping: dict[str, Any], old: str, new: tuple[str, ...]) -> None:
        target = mapping
        for step in new[:-1]:
            if target.get(step) is None:
                target[step] = {}
            target = target[step]
            if not isinstance(target, dict):  # validation will say what is wrong with it
                return
        origin, value = self.written((*path, old)), mapping.pop(old)
        if target.get(new[-1]) is not None and target[new[-1]] != value:
            other = dotted(self.written((*path, *new)))
            self.conflicts.append(Wrong(origin, f"means the same as {other}; keep one of them"))
            return
        target[new[-1]] = value
        self._origins[(*path, *new)] = origin


def _is_text(value: Any) -> bool:
    return isinstance(value, str)
