"""Names in a manifest -> the code that serves them."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from servers.kernel.errors import InvalidInput, NotReady

DISTRIBUTION = "astromesh-grpc"


class Registry:
    """Adapters by name, imported only when first asked for.

    The built-in ones are listed where the registry is made, so that a reader sees them
    all; a plugin adds its own through the entry-point group. `planned` names what users
    may well ask for and this version does not have, each with what to do instead ("" for
    no advice). `extras` says which extra brings the package that an adapter imports.
    """

    def __init__(
        self,
        group: str,
        *,
        planned: Mapping[str, str] | None = None,
        extras: Mapping[str, str] | None = None,
        **builtin: str,
    ) -> None:
        self.group = group
        self._builtin = builtin
        self._planned = planned or {}
        self._extras = extras or {}
        self._found: dict[str, str] | None = None

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._targets()))

    def check(self, name: str) -> None:
        """Whether `name` can be asked for, without importing it. Raises InvalidInput."""
        if name in self._targets():
            return
        known = ", ".join(self)
        if name in self._planned:
            advice = self._planned[name]
            raise InvalidInput(
                f"{self.group}: {name!r} is not supported by this version, only {known}"
                + (f". {advice}" if advice else ""),
                reason="NOT_SUPPORTED",
                name=name,
            )
        raise InvalidInput(f"{self.group}: no {name!r}, only {known}", name=name)

    def __getitem__(self, name: str) -> Any:
        self.check(name)
        module, _, attribute = self._targets()[name].partition(":")
        try:
            return getattr(import_module(module), attribute)
        except ModuleNotFoundError as missing:
            extra = self._extras.get(name, name)
            raise NotReady(
                f"{self.group} {name!r} needs the package {missing.name!r}: "
                f"pip install '{DISTRIBUTION}[{extra}]'",
                reason="EXTRA_MISSING",
                extra=extra,
                module=missing.name or "",
            ) from missing

    def _targets(self) -> dict[str, str]:
        """Read on first use: nothing happens while a module is imported."""
        if self._found is None:
            plugins = {each.name: each.value for each in entry_points(group=self.group)}
            self._found = plugins | self._builtin
        return self._found
