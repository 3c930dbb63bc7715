"""A folder for batches: what is different from conversations that take turns.

test_onnx_provider.py has what is the same; it asks both.
"""

import asyncio
from contextlib import AsyncExitStack, aclosing

import pytest

from servers.domain.chat import FinishReason
from servers.kernel.errors import InvalidInput
from servers.router.ports import ProviderDown
from tests.contract.onnx_fixture import ask, opened
from tests.contract.tiny_paged import PAGE, build_paged


async def test_as_many_are_at_work_as_the_folder_s_batches_hold(tmp_path):
    async with opened(build_paged(tmp_path / "m", batch=5), max_waiting=0) as onnx:
        async with AsyncExitStack() as stack:
            for _ in range(5):
                steps = onnx.stream(ask("sing", max_tokens=1500))
                await stack.enter_async_context(aclosing(steps))
                await anext(steps)
            with pytest.raises(ProviderDown) as busy:
                await onnx.complete(ask("count"))
        assert busy.value.reason == "PROVIDER_BUSY"
        assert (await onnx.complete(ask("count"))).message.text == "one two three four five"


async def test_a_prompt_that_begins_like_an_earlier_one_is_not_read_again(tmp_path):
    async with opened(build_paged(tmp_path / "m")) as onnx:
        first, second = [
            (await onnx.complete(ask("count" + "." * 100))).finish.usage for _ in range(2)
        ]
    assert (first.prompt_tokens, first.cached_tokens) == (104, 0)
    assert (second.prompt_tokens, second.cached_tokens) == (104, 104 // PAGE * PAGE)


async def test_where_all_wait_for_room_the_last_one_makes_way(tmp_path):
    folder = build_paged(tmp_path / "m", pages=8)  # of 16 tokens: not for three such answers
    async with opened(folder) as onnx:
        answers = await asyncio.gather(
            *(onnx.complete(ask("sing", max_tokens=100)) for _ in range(3)),
            return_exceptions=True,
        )
        failed = [each for each in answers if isinstance(each, ProviderDown)]
        assert 0 < len(failed) < 3
        assert all("no room" in each.message for each in failed)
        whole = [each for each in answers if each not in failed]
        assert {each.finish.usage.completion_tokens for each in whole} == {100}
        assert (await onnx.complete(ask("count"))).message.text == "one two three four five"


async def test_an_answer_ends_where_the_whole_cache_is_full(tmp_path):
    async with opened(build_paged(tmp_path / "m", pages=8)) as onnx:
        answer = await onnx.complete(ask("sing", max_tokens=1000))
    assert answer.finish.reason is FinishReason.LENGTH
    assert 100 < answer.finish.usage.completion_tokens < 8 * PAGE


async def test_a_prompt_that_the_whole_cache_can_not_hold_is_refused(tmp_path):
    async with opened(build_paged(tmp_path / "m", pages=8)) as onnx:
        with pytest.raises(InvalidInput, match="max_session_tokens"):
            await onnx.complete(ask("." * 200))
