"""Scripts for Redis that go out together with whatever else is waiting, over one connection.

A round trip costs far more than what is in it, and with many connections some callers wait
for a second while others go first. What is asked while a batch is under way makes the next.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, TypeAlias

from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import NoScriptError, RedisError

_TOGETHER: Final = 128  # Redis does nothing else meanwhile

Value: TypeAlias = str | int


@dataclass(frozen=True, slots=True)
class _Question:
    script: AsyncScript
    keys: Sequence[str]
    args: Sequence[Value]
    answer: asyncio.Future[Any]


class Batches:
    """Questions are answered in their order, unless Redis has to be told a script first.
    Leaving one's own does not stop its script."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._waiting: deque[_Question] = deque()
        self._asking: asyncio.Task[None] | None = None

    async def ask(self, script: AsyncScript, keys: Sequence[str], args: Sequence[Value]) -> Any:
        """Raises RedisError or OSError where there is no answer: it may have run all the same."""
        question = _Question(script, keys, args, asyncio.get_running_loop().create_future())
        self._waiting.append(question)
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_all())
        return await question.answer

    async def aclose(self) -> None:
        """Those who still wait hear that nobody will answer."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])
        self._refuse_all(RedisError("the mesh stops"))

    async def _ask_all(self) -> None:
        try:
            while self._waiting:
                await self._ask_some(list(islice(self._waiting, _TOGETHER)))
        except Exception as error:  # whatever it is, nobody must wait for ever
            self._refuse_all(error)
        finally:
            self._asking = None

    async def _ask_some(self, batch: Sequence[_Question]) -> None:
        async with self._redis.pipeline(transaction=False) as pipe:
            for each in batch:
                pipe.evalsha(each.script.sha, len(each.keys), *each.keys, *map(str, each.args))
            answers = await pipe.execute(raise_on_error=False)
        if any(isinstance(answer, NoScriptError) for answer in answers):
            await self._load({each.script for each in batch})
        for each, answer in zip(batch, answers, strict=True):
            self._waiting.popleft()
            if isinstance(answer, NoScriptError):  # it has not run: once more, behind the others
                self._waiting.append(each)
            elif not each.answer.done():
                _give(each.answer, answer)

    async def _load(self, scripts: set[AsyncScript]) -> None:
        for script in scripts:
            await self._redis.script_load(script.script)

    def _refuse_all(self, error: Exception) -> None:
        while self._waiting:
            question = self._waiting.popleft()
            if not question.answer.done():
                question.answer.set_exception(error)


def _give(future: asyncio.Future[Any], answer: Any) -> None:
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
