"""Several conversations with one model folder, at work at once or waiting for their turn."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from servers.domain.chat import Completion, Finish, Step, TextPiece
from servers.router.adapters.genai.chat import OnnxChat
from servers.router.ports import ProviderDown
from tests.contract.onnx_fixture import ask, opened
from tests.contract.tiny_causal import build
from tests.contract.tiny_paged import build_paged

WINDOW = 8192


@pytest.fixture(scope="module", params=[build, build_paged], ids=["turns", "batches"])
def folder(request, tmp_path_factory) -> Path:
    return request.param(tmp_path_factory.mktemp("models") / "tiny", window=WINDOW)


@asynccontextmanager
async def at_work(provider: OnnxChat) -> AsyncIterator[AsyncGenerator[Step, None]]:
    """A stream that has begun, and would not end by itself for long."""
    async with aclosing(provider.stream(ask("sing", max_tokens=8000))) as steps:
        await anext(steps)
        yield steps


async def queued(provider: OnnxChat) -> "asyncio.Task[Completion]":
    """One that waits for a place."""
    waiting = asyncio.create_task(provider.complete(ask("count")))
    await asyncio.sleep(0)
    return waiting


async def test_all_hear_their_own_answer(folder):
    answers = {"count": "one two three four five", "greet": "Good morning, Ada."}
    words = [*answers] * 8
    async with opened(folder, parallel=8) as onnx:
        heard = await asyncio.gather(*(onnx.complete(ask(word)) for word in words))
    assert [each.message.text for each in heard] == [answers[word] for word in words]


async def test_two_take_turns_token_by_token(folder):
    order = []

    async def hear(onnx: OnnxChat, name: str) -> None:
        async for step in onnx.stream(ask("sing", max_tokens=2000)):
            order.append((name, type(step)))

    async with opened(folder) as onnx:
        await asyncio.gather(hear(onnx, "first"), hear(onnx, "second"))
    for name, other in (("first", "second"), ("second", "first")):
        assert order.index((name, TextPiece)) < order.index((other, Finish))


async def test_one_too_many_waits_for_its_turn(folder):
    async with opened(folder, parallel=1) as onnx, at_work(onnx) as first:
        waiting = await queued(onnx)
        await anext(first)
        assert not waiting.done()
        await first.aclose()
        assert (await waiting).message.text == "one two three four five"


async def test_too_many_are_told_when_to_come_back(folder):
    async with opened(folder, parallel=1, max_waiting=1) as onnx, at_work(onnx) as first:
        waiting = await queued(onnx)
        with pytest.raises(ProviderDown) as busy:
            await onnx.complete(ask("count"))
        assert (busy.value.reason, busy.value.pause) == ("PROVIDER_BUSY", 1.0)
        await first.aclose()
        await waiting


async def test_who_leaves_while_waiting_frees_the_place_in_the_queue(folder):
    async with opened(folder, parallel=1, max_waiting=1) as onnx, at_work(onnx) as first:
        for _ in range(3):
            waiting = await queued(onnx)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        await first.aclose()
        assert (await onnx.complete(ask("count"))).message.text


async def test_a_count_waits_for_nobody(folder):
    async with opened(folder, parallel=1, max_waiting=0) as onnx, at_work(onnx):
        assert await onnx.count_tokens(ask("count")) == 4
