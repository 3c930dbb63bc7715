"""A language model in a folder: it answers, streams and counts, in a process of its own."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, aclosing
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from servers.domain.chat import (
    Completion,
    Step,
)
from servers.domain.models import Capabilities
from servers.kernel.errors import AstromeshError, InvalidInput, NotReady
from servers.kernel.registry import DISTRIBUTION
from servers.router.adapters.genai import request
from servers.router.adapters.genai.answer import Answer, Pieces
from servers.router.adapters.genai.description import Description, Missing, Unusable, describe
from servers.router.adapters.genai.markers import Pair
from servers.router.adapters.genai.places import Places
from servers.router.adapters.genai.process import Event, Inbox, Worker, WorkerSettings
from servers.router.adapters.patience import Patience
from servers.router.chats.gathering import Gathering
from servers.router.ports import Ask, ProviderDown

_PACKAGE = "onnxruntime_genai"
_PARALLEL = 2  # conversations that take turns: more would make each of them slow


class OnnxChat:
    needs: ClassVar = ()

    def __init__(
        self,
        endpoint: str,
        *,
        device: str = "auto",
        parallel: int = 0,  # 0: as many as the folder's batches hold, else two
        max_waiting: int = 16,
        threads: int = 0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.endpoint = endpoint
        self._folder = Path(endpoint).expanduser().absolute()
        self._parallel, self._max_waiting = parallel, max_waiting
        self._places: Places | None = None
        settings = WorkerSettings(str(self._folder), device, threads)
        self._worker = Worker(settings, self._look, now)
        self._about: Description | None = None

    @property
    def pid(self) -> int | None:
        """The process that computes, where one is alive."""
        return self._worker.pid

    async def complete(self, ask: Ask) -> Completion:
        heard = Gathering()
        async with aclosing(self.stream(ask)) as steps:
            async for step in steps:
                heard.take(step)
        return heard.whole()

    async def stream(self, ask: Ask) -> AsyncGenerator[Step, None]:
        job, patience = request.chat(ask), Patience(ask.timeouts)
        try:
            async with AsyncExitStack() as stack:
                async with patience.piece():
                    await stack.enter_async_context((await self._room()).one())
                    inbox = await stack.enter_async_context(self._worker.job(job))
                answer = Answer(ask, self._calling(ask))
                while not answer.ended:
                    async with patience.piece():
                        event = await _next(inbox)
                    for piece in _taken(event, answer, patience):
                        yield piece
        except TimeoutError:
            raise self._late(patience) from None
        yield answer.finish()

    async def count_tokens(self, ask: Ask) -> int:
        patience = Patience(ask.timeouts)
        try:
            async with patience.whole(), self._worker.job(request.count(ask)) as inbox:
                return int((await _next(inbox))["prompt"])
        except TimeoutError:
            raise patience.gone(self.endpoint, whole=True) from None

    async def health(self, api_key: str) -> None:
        """Whether it could be asked. Loads nothing: that is for who asks."""
        await asyncio.to_thread(self._look)
        if trouble := self._worker.trouble:
            raise trouble

    def capabilities(self, model: str) -> Capabilities:
        try:
            about = self._about or self._look()
        except AstromeshError:  # told to who asks the model
            return Capabilities(vision=False)
        return Capabilities(
            tools=about.calls is not None,
            vision=False,
            json_schema=self._worker.guided,
            context_window=about.window,
            emulated_tools=about.calls is None,
        )

    async def aclose(self) -> None:
        await self._worker.aclose()

    async def _room(self) -> Places:
        if self._places is None:
            parallel = self._parallel
            if not parallel:
                about: Description = await asyncio.to_thread(self._look)
                parallel = about.batch or _PARALLEL
            self._places = self._places or Places(self.endpoint, parallel, self._max_waiting)
        return self._places

    def _look(self) -> Description:
        """Reads the folder's small files. Raises NotReady that says what to do."""
        if find_spec(_PACKAGE) is None:
            raise NotReady(
                f"models in a folder need the package {_PACKAGE!r}: "
                f"pip install '{DISTRIBUTION}[genai]'",
                reason="EXTRA_MISSING",
                extra="genai",
            )
        try:
            self._about = describe(self._folder)
        except Unusable as fault:
            reason = "MODEL_MISSING" if isinstance(fault, Missing) else "MODEL_BROKEN"
            raise NotReady(str(fault), reason=reason) from None
        return self._about

    def _calling(self, ask: Ask) -> Pair | None:
        """How the model will write its calls. The worker lives, so the folder was looked at."""
        if not ask.tools or self._about is None:
            return None
        if self._about.calls is None:
            raise NotReady(
                f"the chat template of the model in {self.endpoint!r} has no place for tools",
                reason="MODEL_CANNOT",
            )
        return self._about.calls

    def _late(self, patience: Patience) -> ProviderDown:
        if not self._worker.loaded:
            return ProviderDown(
                f"the model in {self.endpoint!r} is still being loaded", reason="MODEL_LOADING"
            )
        return patience.gone(self.endpoint)


async def _next(inbox: Inbox) -> Event:
    event = await inbox.get()
    if isinstance(event, AstromeshError):
        raise event
    if "refused" in event:
        raise InvalidInput(str(event["refused"]), reason="PROVIDER_REFUSED")
    if "cannot" in event:
        raise NotReady(str(event["cannot"]), reason="MODEL_CANNOT")
    if "failed" in event:
        raise ProviderDown(f"the model failed: {event['failed']}", reason="PROVIDER_FAILED")
    return event


def _taken(event: Event, answer: Answer, patience: Patience) -> Pieces:
    if "prompt" in event:
        answer.begin(event["prompt"], event["thinking"])
        return []
    patience.progressed()
    if "end" in event:
        return answer.end(event["end"], event["tokens"], event["cached"])
    return answer.take(event["text"], event["tokens"])
