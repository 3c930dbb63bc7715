"""Interceptors that cost next to nothing: a method is wrapped at its first call.

grpc asks its interceptors at every call. A method's wrapping never changes, so that it is
made once and only looked up afterwards.
"""

import inspect
from abc import abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc

from servers.kernel.calls import Context

# A method in grpc's reader-writer form: streams write to the context and return None.
Method: TypeAlias = Callable[[Any, Context], Awaitable[Any]]


class Wrapping(grpc.aio.ServerInterceptor):
    """Subclass this with `wrap`, which is called once per method of the server."""

    def __init__(self) -> None:
        self._handlers: dict[str, Any] = {}

    @abstractmethod
    def wrap(self, name: str, method: Method) -> Method:
        """`name` is the full one: "/astromesh.agents.v1.AgentService/RunAgent"."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        call: grpc.HandlerCallDetails,
    ) -> Any:
        handler = self._handlers.get(call.method)
        if handler is None:
            handler = await continuation(call)
            if handler is None:  # unknown method: grpc answers UNIMPLEMENTED
                return None
            handler = self._handlers[call.method] = self._wrapped(call.method, handler)
        return handler

    def _wrapped(self, name: str, handler: Any) -> Any:
        kind = ("stream" if handler.request_streaming else "unary") + (
            "_stream" if handler.response_streaming else "_unary"
        )
        method = getattr(handler, kind)
        if inspect.isasyncgenfunction(method):
            method = _written(method)
        return getattr(grpc, f"{kind}_rpc_method_handler")(
            self.wrap(name, method), handler.request_deserializer, handler.response_serializer
        )


def _written(method: Callable[..., AsyncGenerator[Any, None]]) -> Method:
    """A generator method in writer form.

    grpc leaves a generator to the garbage collector when its call is cancelled in the
    middle of a write; here it is closed before the call ends, and all behind it.
    """

    async def write_all(request: Any, context: Context) -> None:
        async with aclosing(method(request, context)) as messages:
            async for message in messages:
                await context.write(message)

    return write_all
