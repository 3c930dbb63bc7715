"""A Python function as a tool."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from pydantic_core import to_json

from servers.domain.chat import ToolSpec
from servers.domain.tools import Tool
from servers.kernel.errors import InvalidInput
from servers.tools.declare import checked_name, declaration_of
from servers.tools.ports import Invocation
from servers.tools.schema import signature_of
from servers.tools.threads import Threads


class FunctionTool:
    """Runs an async function on the loop and any other in a thread."""

    def __init__(self, function: Callable[..., Any], threads: Threads, name: str = "") -> None:
        """`name` overrides the declared one. Raises InvalidInput for what can't be a tool."""
        declared, signature = declaration_of(function), signature_of(function)
        self._signature = signature
        self._threads = threads
        self._is_async = _is_async(function)
        self.tool = Tool(
            ToolSpec(
                checked_name(name or declared.name or getattr(function, "__name__", "")),
                declared.description or signature.description,
                signature.parameters,
            ),
            idempotent=declared.idempotent,
            timeout=declared.timeout,
        )

    async def call(self, arguments: str, invocation: Invocation) -> str:
        call = self._signature.bind(arguments, invocation)
        try:
            if self._is_async:
                return rendered(await call())
            return await self._threads.run(partial(_called, call))
        except SystemExit as stop:  # a tool may fail, not end the mesh
            raise RuntimeError(f"the tool tried to end the process ({stop})") from stop


def rendered(value: Any) -> str:
    """A result as a model reads it: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else to_json(value, fallback=str).decode()


def _called(call: Callable[[], Any]) -> str:
    return rendered(call())


def _is_async(function: Callable[..., Any]) -> bool:
    target = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004 - the method itself is wanted
    if inspect.isgeneratorfunction(target) or inspect.isasyncgenfunction(target):
        raise InvalidInput(
            f"the function {target.__name__!r} can't be a tool: it yields; return the result",
            reason="TOOL_UNUSABLE",
        )
    return inspect.iscoroutinefunction(target)
