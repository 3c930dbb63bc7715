"""What runs leave in memory, remembered behind the back of who waits for the answer.

A run puts down what there is to learn before it ends, on disk. What a crash leaves there is
learned after the next start, and what can't be learned now is tried again, for two days. What
was said more than seven days ago is not learned any more: whether it has been erased since is
known for eight (`servers.memory.marks`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, Self, TypeAlias

import structlog

from servers.agents.ports import Lesson, Lessons
from servers.domain.semantic import Erasure
from servers.kernel.errors import AstromeshError

_log = structlog.stdlib.get_logger("astromesh.memory")

Teach: TypeAlias = Callable[[Lesson], Awaitable[None]]

_AT_ONCE: Final = 8  # they are not what the models are for
_LONGEST: Final = 300.0  # seconds for one
_BEAT: Final = 5.0  # seconds until it is looked again
_OLDEST: Final = 7 * 86_400.0  # seconds since it was said
_PAUSES: Final = (5.0, 30.0, 120.0, 600.0, 3_600.0, 21_600.0, 43_200.0, 86_400.0)


class Learning:
    """`now` is seconds since the epoch. Entered by who owns it; what is under way when it is
    left is on disk, and done after the next start."""

    def __init__(self, lessons: Lessons, now: Callable[[], float], beat: float = _BEAT) -> None:
        self._lessons, self._now, self._beat = lessons, now, beat
        self._news = asyncio.Event()
        self._under_way: set[str] = set()  # runs
        self._over: set[str] = set()  # since it was last asked for those that are due
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def start(self, teach: Teach) -> None:
        self._task = asyncio.create_task(self._work(teach), name="learning")

    async def put(self, lesson: Lesson) -> None:
        """Returns when it is on disk. Of the same run again: does nothing."""
        await self._lessons.put(lesson)
        self._news.set()

    async def drop(self, erasure: Erasure) -> None:
        """What is erased is not learned. Returns when it is gone."""
        await self._lessons.drop(erasure)

    async def found(self, lesson: Lesson, facts: Sequence[str]) -> None:
        """What a model has found in one, should it have to be stored later. Where that can't be
        written it is stored now or asked for again."""
        try:
            await self._lessons.found(lesson.run_id, facts)
        except AstromeshError as error:
            _log.warning("what was found is not written", run_id=lesson.run_id, error=error.message)

    async def drop_of(self, run_ids: Collection[str]) -> None:
        """As `drop`, of runs that are deleted."""
        await self._lessons.drop_of(run_ids)

    async def _work(self, teach: Teach) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                self._news.clear()
                await self._begin(group, teach)
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._beat):
                        await self._news.wait()

    async def _begin(self, group: asyncio.TaskGroup, teach: Teach) -> None:
        """As many as may be under way at once: a slow one keeps nobody waiting but itself."""
        free = _AT_ONCE - len(self._under_way)
        if not free:
            return
        self._over.clear()
        try:
            due = await self._lessons.due(self._now(), _AT_ONCE)  # with those under way
        except AstromeshError as error:
            _log.warning("nothing learned", error=error.message)
            return
        except Exception as error:  # nobody waits for it who could hear of it
            _log.exception("learning broke", error=repr(error))
            return
        known = self._under_way | self._over  # one that is over may have been read before
        for lesson in [each for each in due if each.run_id not in known][:free]:
            self._under_way.add(lesson.run_id)
            group.create_task(self._learned(lesson, teach), name="lesson")

    async def _learned(self, lesson: Lesson, teach: Teach) -> None:
        try:
            await self._learn(lesson, teach)
        finally:
            self._under_way.discard(lesson.run_id)
            self._over.add(lesson.run_id)
            self._news.set()  # there is room for another one

    async def _learn(self, lesson: Lesson, teach: Teach) -> None:
        if self._now() - lesson.said_at > _OLDEST:
            _log.error("too old to be remembered", run_id=lesson.run_id)
            return await self._done(lesson)
        try:
            async with asyncio.timeout(_LONGEST):
                await teach(lesson)
        except (AstromeshError, TimeoutError) as error:
            await self._later(lesson, str(error) or repr(error))
        except asyncio.CancelledError as error:
            if (task := asyncio.current_task()) and task.cancelling():
                raise  # the process stops
            await self._later(lesson, repr(error))  # what it waited for was somebody else's, too
        except Exception as error:  # a fault of one may not stop the others
            _log.exception("lesson broke", run_id=lesson.run_id, error=repr(error))
            await self._later(lesson, repr(error))
        else:
            await self._done(lesson)

    async def _later(self, lesson: Lesson, why: str) -> None:
        if lesson.tries >= len(_PAUSES):
            _log.error("given up what a run left to remember", run_id=lesson.run_id, error=why)
            await self._done(lesson)
            return
        pause = _PAUSES[lesson.tries]
        _log.warning("not remembered yet", run_id=lesson.run_id, error=why, again_in=pause)
        due = self._now() + pause
        await self._written(lesson, lambda: self._lessons.again(lesson.run_id, due))

    async def _done(self, lesson: Lesson) -> None:
        await self._written(lesson, lambda: self._lessons.done(lesson.run_id))

    async def _written(self, lesson: Lesson, write: Callable[[], Awaitable[None]]) -> None:
        """Tried until it works: the disk may be full. A process that ends before learns the
        lesson once more, which makes the same memories."""
        while True:
            try:
                return await write()
            except AstromeshError as error:
                _log.warning("not written down", run_id=lesson.run_id, error=error.message)
            except Exception as error:  # nobody waits for it who could hear of it
                _log.exception("lessons broke", run_id=lesson.run_id, error=repr(error))
            await asyncio.sleep(self._beat)
