"""Where tool functions come from besides the built-in ones: plugins and configuration.

Both import code by name. Only an operator's own files may name a function: taking
"module:function" from a request would let its sender run anything.
"""

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from servers.kernel.errors import InvalidInput, NotReady

GROUP = "astromesh.tools"


def plugin_names() -> frozenset[str]:
    """The tools that installed packages offer, without importing any."""
    return frozenset(point.name for point in entry_points(group=GROUP))


def plugin_functions(found: Iterable[EntryPoint] | None = None) -> dict[str, Callable[..., Any]]:
    """Functions that installed packages offer: tool name -> function.

    Raises NotReady, naming the plugin, where one can't be imported.
    """
    points = entry_points(group=GROUP) if found is None else found
    return {point.name: function_at(point.name, point.value) for point in points}


def configured_functions(targets: Mapping[str, str]) -> dict[str, Callable[..., Any]]:
    """Functions that a RuntimeConfig names: tool name -> "module:function"."""
    return {name: function_at(name, target) for name, target in targets.items()}


def function_at(name: str, target: str) -> Callable[..., Any]:
    """Import "module:function" (or "module:object.method") for the tool `name`."""
    module, colon, path = target.partition(":")
    if not (module and colon and path):
        raise InvalidInput(
            f"tool {name!r}: {target!r} names no function; write it as module:function",
            reason="TOOL_TARGET_INVALID",
        )
    found: Any = _imported(name, module)
    for part in path.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise InvalidInput(
            f"tool {name!r}: the module {module!r} has no function {path!r}",
            reason="TOOL_TARGET_INVALID",
        )
    return found  # type: ignore[no-any-return]  # callable() is all there is to know


def _imported(name: str, module: str) -> Any:
    try:
        return import_module(module)
    except Exception as error:  # a module may raise anything while it is imported
        raise NotReady(
            f"tool {name!r}: the module {module!r} can't be imported: "
            f"{type(error).__name__}: {error}",
            reason="TOOL_IMPORT_FAILED",
        ) from error
