"""A Triton that dies and comes back, as the callers of the router see it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

import pytest

from servers.domain.chat import (
    ChatRequest,
    Image,
    Message,
    ModelRef,
    Role,
    Sampling,
    TextPiece,
    says,
)
from servers.domain.models import BreakerState
from servers.domain.services import Router
from servers.kernel.errors import Interrupted, NotReady, Unavailable
from servers.router.ports import ModelSettings, ProviderSettings
from tests.contract.router_fixture import Clock, in_process, over_the_wire, provider, router
from tests.scripted.http_server import Reply
from tests.scripted.openai_server import openai_server
from tests.triton import server as triton_server

pytestmark = [pytest.mark.triton, pytest.mark.slow, pytest.mark.timeout(600)]

ONLY = "{{ messages[-1].content }}"


@pytest.fixture
def server(tmp_path) -> Iterator[triton_server.Triton]:
    with triton_server.triton(tmp_path, "words") as started:
        yield started


@pytest.fixture(params=[in_process, over_the_wire], ids=lambda f: f.__name__)
def reach(request):
    return request.param


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def models(server, reach, clock, tmp_path) -> AsyncIterator[Router]:
    declared = ProviderSettings(
        "gpu",
        "triton",
        server.endpoint,
        models=(ModelSettings("words"),),
        options=(("chat_template", ONLY),),
    )
    async with (
        openai_server(Reply(pieces=("instead",))) as other,
        router(reach, tmp_path, declared, provider("other", other.endpoint), clock=clock) as made,
    ):
        yield made


def ask(*providers: str, **extra) -> ChatRequest:
    refs = tuple(ModelRef(name) for name in providers or ("gpu",))
    said = says(Role.USER, "one two three")
    return ChatRequest((said,), refs, sampling=Sampling(extra=extra))


async def breaker(models: Router) -> BreakerState:
    found = {each.name: each for each in await models.providers()}
    return found["gpu"].breakers[0].state


async def killed(server: triton_server.Triton) -> None:
    await asyncio.to_thread(server.kill)


async def test_a_server_that_dies_in_the_middle_interrupts_the_answer(server, models):
    async with aclosing(models.stream(ask(hang_after=1))) as steps:
        assert await anext(steps) == TextPiece("one")
        await killed(server)
        with pytest.raises(Interrupted) as caught:
            await anext(steps)
    assert caught.value.facts["cause"] == "PROVIDER_UNREACHABLE"


async def test_while_it_is_dead_somebody_else_answers(server, models):
    await models.complete(ask())
    await killed(server)
    answer = await models.complete(ask("gpu", "other"))
    assert (answer.message.text, answer.finish.provider) == ("instead", "other")


async def test_it_is_left_alone_while_dead_and_found_when_it_is_back(server, models, clock):
    await models.complete(ask())
    await killed(server)
    for _ in range(3):
        with pytest.raises(Unavailable):
            await models.complete(ask())
    assert await breaker(models) is BreakerState.OPEN
    await asyncio.to_thread(server.start)
    clock.now = 60.0
    answer = await models.complete(ask())
    assert answer.message.text == "one two three"
    assert await breaker(models) is BreakerState.CLOSED


async def test_an_answer_fits_a_schema_that_the_model_is_told_in_words(models):
    said = says(Role.USER, '{"wine": "red"}')
    schema = {"type": "object", "required": ["wine"]}
    request = ChatRequest((said,), (ModelRef("gpu"),), output_schema=schema)
    assert (await models.complete(request)).message.text == '{"wine": "red"}'


async def test_a_picture_is_refused_before_the_server_is_asked(server, models):
    picture = Message(Role.USER, (Image(data=b"png", media_type="image/png"),))
    with pytest.raises(NotReady) as caught:
        await models.complete(ChatRequest((picture,), (ModelRef("gpu"),)))
    assert caught.value.reason == "MODEL_CANNOT"
    assert server.words() == []
