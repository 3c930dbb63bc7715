"""What can be asked of a server of KServe's protocol: about its models, and of them."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tritonclient.grpc import aio as kserve

from servers.kernel.errors import NotReady
from servers.kernel.telemetry import outgoing_headers
from servers.router.adapters.patience import Patience
from servers.router.adapters.triton.link import BROKEN, Link, Tls, address, fault
from servers.router.adapters.triton.models import Model, described
from servers.router.ports import ProviderDown, Timeouts


@dataclass(frozen=True, slots=True)
class Infer:
    """One request to a model."""

    model: str
    inputs: Sequence[Any]  # kserve.InferInput
    outputs: Sequence[str]
    api_key: str = field(default="", repr=False)


class Calls:
    """Over one connection, which the first call opens. Whoever makes it closes it.

    Raises as a Provider does.
    """

    def __init__(self, endpoint: str, tls: Tls) -> None:
        self._endpoint, self._address, self._tls = endpoint, address(endpoint), tls
        self._link: Link | None = None
        self._models: dict[str, Model] = {}

    @property
    def models(self) -> Mapping[str, Model]:
        """Those that could be asked when they were last asked."""
        return self._models

    async def model(self, name: str, timeouts: Timeouts, api_key: str) -> Model:
        """What is known of a model. Asked for once, and again after the server was gone: that
        is how a server that can't be reached is noticed before the patience with a model ends."""
        if name not in self._models:
            limit = timeouts.connect
            async with self._connected(name, api_key, partial(self._silent, limit)) as client:
                async with asyncio.timeout(limit):
                    found = await client.get_model_config(name, headers=_headers(api_key))
            self._models[name] = described(found.config)
        return self._models[name]

    async def infer(self, asked: Infer, patience: Patience) -> Any:
        late = partial(patience.gone, self._endpoint, True)
        async with self._connected(asked.model, asked.api_key, late) as client, patience.whole():
            return await client.infer(**_request(asked), headers=_headers(asked.api_key))

    async def stream(
        self, asked: Infer, patience: Patience, whole: bool = False
    ) -> AsyncGenerator[Any, None]:
        """The answers to one request. Leaving ends the model's work on it.

        `whole`: only the end counts, not when the pieces come.
        """
        late = partial(patience.gone, self._endpoint, whole)
        # Without the second header Triton says in words only what went wrong with a stream.
        headers = _headers(asked.api_key) | {"triton_grpc_error": "true"}
        async with self._connected(asked.model, asked.api_key, late) as client:
            answers = client.stream_infer(_once(_request(asked)), headers=headers)
            try:
                while True:
                    async with patience.whole() if whole else patience.piece():
                        answer, error = await anext(answers)
                    if error is not None:
                        raise error
                    yield answer
            except StopAsyncIteration:
                return
            finally:
                answers.cancel()  # no effect on one that has ended

    async def ready(self, names: Sequence[str], limit: float, api_key: str) -> None:
        """Whether the server works, and those of the named models that it has."""
        async with self._connected("", api_key, partial(self._silent, limit)) as client:
            async with asyncio.timeout(limit):
                if not await client.is_server_ready(headers=_headers(api_key)):
                    raise self._down("the server is not ready", "PROVIDER_FAILED")
                for name in names:
                    await self._check_ready(client, name, limit, api_key)

    async def aclose(self) -> None:
        if self._link is not None:
            await self._link.retire()

    async def _check_ready(self, client: Any, name: str, limit: float, api_key: str) -> None:
        try:
            await self.model(name, Timeouts(connect=limit), api_key)
        except NotReady:  # calls tell who named it; the provider is well without it
            return
        if not await client.is_model_ready(name, headers=_headers(api_key)):
            raise self._down(f"model {name!r} is not ready", "PROVIDER_FAILED")

    @asynccontextmanager
    async def _connected(
        self, model: str, api_key: str, late: Callable[[], ProviderDown]
    ) -> AsyncIterator[Any]:
        """The client, for one call. Errors of the call become the router's; `late` tells what
        it means that time is over."""
        link = self._link = self._link or Link(self._address, self._tls)
        async with link.used() as client:
            try:
                yield client
            except TimeoutError:
                await self._lose(link)
                raise late() from None
            except BROKEN as error:
                found = fault(error)
                if found.code == "UNAVAILABLE":
                    await self._lose(link)
                elif found.code == "NOT_FOUND":
                    self._models.pop(model, None)
                raise found.meaning(self._endpoint, api_key) from error

    async def _lose(self, link: Link) -> None:
        """Who answers next may be another server, with other models."""
        if self._link is link:
            self._link = None
            self._models.clear()
        await link.retire()

    def _silent(self, limit: float) -> ProviderDown:
        return self._down(f"no word within {limit:g} s", "PROVIDER_UNREACHABLE")

    def _down(self, what: str, reason: str) -> ProviderDown:
        return ProviderDown(f"{self._endpoint}: {what}", reason=reason)


def _request(asked: Infer) -> dict[str, Any]:
    return {
        "model_name": asked.model,
        "inputs": asked.inputs,
        "outputs": [kserve.InferRequestedOutput(name) for name in asked.outputs],
    }


async def _once(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    yield request


def _headers(api_key: str) -> dict[str, str]:
    return outgoing_headers() | ({"authorization": f"Bearer {api_key}"} if api_key else {})
