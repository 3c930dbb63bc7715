"""What goes through a model together, in which order, and who is sent away."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count

import pytest

from servers.kernel.errors import InvalidInput, NotReady, Unavailable
from servers.router.adapters.encoders.tasks import Piece
from servers.router.adapters.encoders.worker import Bounds, Worker
from servers.router.ports import ProviderDown

SOON = 30.0  # seconds; longer than any of this takes


@dataclass
class Switch:
    terminate: bool = False


class Engine:
    """Answers a text with its length; a held one as soon as the test lets it."""

    def __init__(self, held: bool = False, unreadable: str = "") -> None:
        self.runs: list[list[str]] = []
        self.switches: list[Switch] = []
        self._passes, self._started = threading.Semaphore(0), threading.Semaphore(0)
        self._unreadable = unreadable
        if not held:
            self.let(1000)

    def let(self, runs: int) -> None:
        """So many more may end."""
        self._passes.release(runs)

    def switch(self) -> Switch:
        self.switches.append(Switch())
        return self.switches[-1]

    def run(self, pieces, switch):
        self.runs.append([piece.content for piece in pieces])
        self._started.release()
        assert self._passes.acquire(timeout=SOON)
        if any(piece.content == self._unreadable for piece in pieces):
            raise ProviderDown("can't read it", reason="PROVIDER_FAILED")
        return [len(piece.content) for piece in pieces]

    async def at_work(self) -> None:
        """Returns once another run has begun."""
        assert await asyncio.to_thread(self._started.acquire, timeout=SOON)


class Lengths:
    """Wants the length of each text. A text with commas comes in pieces."""

    def __init__(self, *texts: str) -> None:
        self._texts = texts

    @property
    def sizes(self):
        return [len(text) for text in self._texts]

    def cut(self, engine, texts):
        chosen = [self._texts[each] for each in texts]
        if "unknown" in chosen:
            raise InvalidInput("what is that?")
        return [[Piece(len(part), part) for part in text.split(",")] for text in chosen]

    def keep(self, piece, found):
        return found

    def join(self, pieces, kept):
        return kept if len(kept) > 1 else kept[0]


@asynccontextmanager
async def worker(engine: Engine, batch: int = 32, waiting: int = 4096) -> AsyncIterator[Worker]:
    made = Worker("model", lambda: engine, Bounds(batch, waiting))
    try:
        yield made
    finally:
        engine.let(1000)
        await made.aclose()


@asynccontextmanager
async def busy(engine: Engine, **bounds) -> AsyncIterator[Worker]:
    """A worker whose first run, with one text, goes on until the engine is let."""
    async with worker(engine, **bounds) as made:
        first = asyncio.create_task(made.do(Lengths("first"), SOON))
        await engine.at_work()
        yield made
        engine.let(1000)
        await first


def ask(made: Worker, *texts: str) -> asyncio.Task:
    return asyncio.create_task(made.do(Lengths(*texts), SOON))


async def settled() -> None:
    """Let tasks get as far as they can by themselves."""
    for _ in range(3):
        await asyncio.sleep(0)


class TestResults:
    async def test_are_in_the_order_of_the_texts(self):
        async with worker(Engine(), batch=2) as made:
            done = await made.do(Lengths("aaa", "a", "aaaa", "aa"), SOON)
        assert done.results == [3, 1, 4, 2]

    async def test_come_with_the_tokens_of_all_pieces(self):
        async with worker(Engine()) as made:
            done = await made.do(Lengths("aaa,bb", "c"), SOON)
        assert done.tokens == 6

    async def test_of_a_text_in_pieces_are_joined_in_order(self):
        async with worker(Engine(), batch=2) as made:
            done = await made.do(Lengths("a,bbb,cc,dddd"), SOON)
        assert done.results == [[1, 3, 2, 4]]


class TestABatch:
    async def test_is_what_waits_when_the_run_before_ends(self):
        engine = Engine(held=True)
        async with busy(engine) as made:
            waiting = [ask(made, f"text{number}") for number in range(10)]
            await settled()
            engine.let(1000)
            await asyncio.gather(*waiting)
        assert engine.runs == [["first"], [f"text{number}" for number in range(10)]]

    async def test_is_not_waited_for_where_nothing_runs(self):
        engine = Engine()
        async with worker(engine) as made:
            await ask(made, "alone")
        assert engine.runs == [["alone"]]

    async def test_has_no_more_texts_than_it_may(self):
        engine = Engine()
        async with worker(engine, batch=4) as made:
            await ask(made, *["word"] * 10)
        assert [len(run) for run in engine.runs] == [4, 4, 2]

    async def test_has_fewer_where_they_are_long(self):
        engine = Engine()
        async with worker(engine, batch=4) as made:
            await ask(made, *["x" * 64] * 4)
        assert [len(run) for run in engine.runs] == [2, 2]

    async def test_takes_from_each_caller_in_turn(self):
        engine = Engine(held=True)
        async with busy(engine, batch=4) as made:
            bulk, late = ask(made, *["bulk"] * 20), ask(made, "late")
            await settled()
            engine.let(1000)
            await asyncio.gather(bulk, late)
        assert engine.runs[1] == ["bulk", "late", "bulk", "bulk"]

    async def test_is_run_by_length_the_cheapest_part_first(self):
        engine = Engine(held=True)
        async with busy(engine) as made:
            waiting = [ask(made, text) for text in ("x" * 100, "short", "x" * 90, "brief")]
            await settled()
            engine.let(1000)
            await asyncio.gather(*waiting)
        assert [[len(text) for text in run] for run in engine.runs[1:]] == [[5, 5], [100, 90]]


class TestAFullQueue:
    async def test_sends_the_next_caller_away_and_says_until_when(self):
        engine = Engine(held=True)
        async with busy(engine, waiting=3) as made:
            waiting = ask(made, "a", "b")
            await settled()
            with pytest.raises(Unavailable) as refused:
                await made.do(Lengths("c"), SOON)
            engine.let(1000)
            await waiting
        assert refused.value.reason == "PROVIDER_BUSY"
        assert refused.value.retry_after > 0

    async def test_has_room_again_once_texts_are_read(self):
        engine = Engine(held=True)
        async with busy(engine, waiting=1) as made:
            with pytest.raises(Unavailable):
                await made.do(Lengths("early"), SOON)
            engine.let(1000)
            await settled_until_idle(made)
            assert (await made.do(Lengths("later"), SOON)).results == [5]

    async def test_never_refuses_a_caller_who_finds_it_empty(self):
        async with worker(Engine(), waiting=2) as made:
            assert (await made.do(Lengths(*"abcde"), SOON)).results == [1] * 5


async def settled_until_idle(made: Worker) -> None:
    """Until nothing waits: then even the smallest queue takes a text."""
    while True:
        try:
            await made.do(Lengths("probe"), SOON)
            return
        except Unavailable:
            await asyncio.sleep(0)


class TestACallerWhoLeaves:
    async def test_takes_its_texts_out_of_the_queue(self):
        engine = Engine(held=True)
        async with busy(engine) as made:
            leaving, staying = ask(made, "leaving"), ask(made, "staying")
            await settled()
            leaving.cancel()
            await settled()
            engine.let(1000)
            await staying
        assert engine.runs == [["first"], ["staying"]]

    async def test_ends_a_run_that_is_only_its_own(self):
        engine = Engine(held=True)
        async with worker(engine) as made:
            alone = ask(made, "alone")
            await engine.at_work()
            alone.cancel()
            await settled()
            assert engine.switches[-1].terminate

    async def test_lets_a_run_go_on_that_others_share(self):
        engine = Engine(held=True)
        async with busy(engine) as made:
            leaving, staying = ask(made, "leaving"), ask(made, "staying")
            await settled()
            engine.let(1)
            await engine.at_work()
            leaving.cancel()
            await settled()
            assert not engine.switches[-1].terminate
            engine.let(1000)
            assert (await staying).results == [7]

    async def test_makes_room_for_the_next(self):
        engine = Engine(held=True)
        async with busy(engine, waiting=2) as made:
            leaving = ask(made, "leaving")
            await settled()
            leaving.cancel()
            await settled()
            coming = ask(made, "coming")
            await settled()
            engine.let(1000)
            assert (await coming).results == [6]


class TestAFailure:
    async def test_of_one_caller_s_text_is_no_other_caller_s(self):
        engine = Engine(held=True, unreadable="broken")
        async with busy(engine) as made:
            broken, sound = ask(made, "broken"), ask(made, "whole")
            await settled()
            engine.let(1000)
            assert (await sound).results == [5]
            with pytest.raises(ProviderDown, match="can't read it"):
                await broken

    async def test_to_cut_a_text_is_its_caller_s_alone(self):
        engine = Engine(held=True)
        async with busy(engine) as made:
            wrong, right = ask(made, "unknown"), ask(made, "known")
            await settled()
            engine.let(1000)
            assert (await right).results == [5]
            with pytest.raises(InvalidInput, match="what is that"):
                await wrong

    async def test_to_answer_in_time_is_the_provider_s(self):
        async with busy(Engine(held=True)) as made:
            with pytest.raises(ProviderDown) as late:
                await made.do(Lengths("text"), 0.01)
        assert late.value.reason == "PROVIDER_TIMEOUT"

    async def test_to_load_is_told_to_all_who_wait_and_tried_again_for_the_next(self):
        loads = count(1)

        def load() -> Engine:
            if next(loads) == 1:
                raise NotReady("no model there", reason="MODEL_MISSING")
            return Engine()

        made = Worker("model", load, Bounds())
        with pytest.raises(NotReady, match="no model there"):
            await made.do(Lengths("text"), SOON)
        assert (await made.do(Lengths("text"), SOON)).results == [4]
        await made.aclose()


class TestLoading:
    async def test_happens_once_however_many_want_it(self):
        loads = count()

        def load() -> Engine:
            next(loads)
            return Engine()

        made = Worker("model", load, Bounds())
        await asyncio.gather(*(made.do(Lengths("text"), SOON) for _ in range(20)))
        await made.aclose()
        assert next(loads) == 1

    async def test_happens_when_somebody_only_asks_whether_it_can(self):
        async with worker(Engine()) as made:
            assert made.engine is None
            await made.ready()
            assert made.engine is not None


class TestClosing:
    async def test_sends_away_who_waits(self):
        engine = Engine(held=True)
        made = Worker("model", lambda: engine, Bounds())
        first = ask(made, "first")
        await engine.at_work()
        waiting = ask(made, "waiting")
        await settled()
        closing = asyncio.create_task(made.aclose())
        for refused in (first, waiting):
            with pytest.raises(Unavailable) as stopping:
                await refused
            assert stopping.value.reason == "SHUTTING_DOWN"
        engine.let(1000)
        await closing
        assert engine.runs == [["first"]]

    async def test_ends_the_run_under_way(self):
        engine = Engine(held=True)
        made = Worker("model", lambda: engine, Bounds())
        waiting = ask(made, "waiting")
        await engine.at_work()
        closing = asyncio.create_task(made.aclose())
        await settled()
        assert engine.switches[-1].terminate
        engine.let(1000)
        await closing
        with pytest.raises(Unavailable):
            await waiting

    async def test_refuses_who_comes_later(self):
        made = Worker("model", Engine, Bounds())
        await made.aclose()
        with pytest.raises(Unavailable) as refused:
            await made.do(Lengths("text"), SOON)
        assert refused.value.reason == "SHUTTING_DOWN"
