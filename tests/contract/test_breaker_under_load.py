"""What half-open means where many ask at the same moment."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from servers.domain.chat import ChatRequest, ModelRef, Role, says
from servers.domain.models import BreakerState
from tests.contract.router_fixture import Clock, opened, provider
from tests.patience import PATIENCE, PROMPTLY
from tests.scripted.http_server import Reply, refuses
from tests.scripted.openai_server import openai_server

__all__ = ["opened"]
CROWD = 50
ASKED = ChatRequest((says(Role.USER, "hi"),), (ModelRef("ill", "m"), ModelRef("well", "m")))


async def whole(models) -> str:
    """Who answered."""
    return (await models.complete(ASKED)).finish.provider


async def streamed(models) -> str:
    return [step async for step in models.stream(ASKED)][-1].provider


@pytest.fixture(params=[whole, streamed], ids=lambda f: f.__name__)
def ask(request):
    return request.param


@asynccontextmanager
async def half_open(opened, probed: Reply):
    """A router whose first provider has failed and may be probed, and that provider's server."""
    clock = Clock()
    async with (
        openai_server(*[refuses(500)] * 3, probed) as ill,
        openai_server() as well,
        opened(
            provider("ill", ill.endpoint), provider("well", well.endpoint), clock=clock
        ) as models,
    ):
        for _ in range(3):
            await whole(models)
        ill.requests.clear()
        clock.now = 60
        yield models, ill


async def crowd(models, ask) -> tuple[list[str], asyncio.Task]:
    """Who answered those that are answered, and the one that is not."""
    waiting = {asyncio.create_task(ask(models)) for _ in range(CROWD)}
    answered = []
    async with asyncio.timeout(PATIENCE):
        while len(waiting) > 1:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            answered += [each.result() for each in done]
    return answered, waiting.pop()


async def state(models) -> BreakerState:
    (ill,) = (each for each in await models.providers() if each.name == "ill")
    (breaker,) = ill.breakers
    return breaker.state


async def test_one_of_fifty_is_the_probe_and_the_others_fall_back(opened, ask):
    answer = asyncio.Event()
    async with half_open(opened, Reply(hold=answer)) as (models, ill):
        answered, probe = await crowd(models, ask)
        assert answered == ["well"] * (CROWD - 1)
        assert await state(models) is BreakerState.HALF_OPEN
        assert len(ill.requests) == 1
        answer.set()
        assert await probe == "ill"
        assert await state(models) is BreakerState.CLOSED


async def test_a_probe_that_fails_falls_back_too_and_no_second_one_follows(opened, ask):
    answer = asyncio.Event()
    async with half_open(opened, Reply(status=500, hold=answer)) as (models, ill):
        _, probe = await crowd(models, ask)
        answer.set()
        assert await probe == "well"
        assert await state(models) is BreakerState.OPEN
        assert await ask(models) == "well"
        assert len(ill.requests) == 1


async def test_a_probe_whose_caller_leaves_makes_room_for_the_next(opened, ask):
    async with half_open(opened, Reply(hold=asyncio.Event())) as (models, ill):
        _, probe = await crowd(models, ask)
        probe.cancel()
        await asyncio.wait_for(ill.left.wait(), PROMPTLY)
        ill.replies[:] = [Reply()]
        assert await ask(models) == "ill"
        assert len(ill.requests) == 2
