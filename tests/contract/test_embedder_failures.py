"""What embedders over HTTP promise where a server refuses, fails or hangs, or a caller leaves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from servers.kernel.errors import InvalidInput, NotReady
from servers.router.adapters.http import Http, open_http
from servers.router.adapters.texts.batches import AT_ONCE
from servers.router.ports import EmbedAsk, ProviderDown, Timeouts
from tests.contract.text_fixture import HTTP_EMBEDDERS, IN_BASE64, OverHttp
from tests.patience import PATIENCE, PROMPTLY, given_enough
from tests.scripted.http_server import Reply, Then, nobody, refuses
from tests.scripted.texts import Texts

FEW = ("A cat sat on the mat.", "Interest rates rose again.", "Grüße aus 漢字 🦊")
MANY = tuple(f"text number {number}" for number in range(2048))


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    async with open_http(clock=lambda: 0.0) as http:
        yield http


@pytest.fixture(params=HTTP_EMBEDDERS.values(), ids=HTTP_EMBEDDERS)
def kind(request) -> OverHttp:
    return request.param


def ask(*texts: str, **wanted) -> EmbedAsk:
    return EmbedAsk("m", texts or FEW, **wanted)


class TestAServerThatRefuses:
    @pytest.mark.parametrize(
        ("status", "error"),
        [
            (400, InvalidInput),
            (413, InvalidInput),
            (422, InvalidInput),
            (401, NotReady),
            (403, NotReady),
            (404, NotReady),
            (501, NotReady),
        ],
    )
    async def test_the_request_is_not_down(self, kind, http, status, error):
        async with kind.server(refuses(status, "because")) as server:
            with pytest.raises(error, match="because"):
                await kind.adapter(server.endpoint, http).embed(ask())

    @pytest.mark.parametrize("status", [408, 424, 429, 500, 503])
    async def test_for_the_time_being_is_down(self, kind, http, status):
        async with kind.server(refuses(status, "overloaded")) as server:
            with pytest.raises(ProviderDown, match="overloaded"):
                await kind.adapter(server.endpoint, http).embed(ask())

    async def test_may_say_when_to_come_back(self, kind, http):
        async with kind.server(refuses(429, "slow down", Retry_After="30")) as server:
            with pytest.raises(ProviderDown) as caught:
                await kind.adapter(server.endpoint, http).embed(ask())
        assert (caught.value.pause, caught.value.reason) == (30, "RATE_LIMITED")

    async def test_never_shows_the_key_it_quotes(self, kind, http):
        async with kind.server(refuses(401, "bad key zig-zag-zug")) as server:
            with pytest.raises(NotReady) as caught:
                await kind.adapter(server.endpoint, http).embed(ask(api_key="zig-zag-zug"))
        assert "zig" not in caught.value.message

    async def test_one_batch_has_refused_them_all(self, kind, http):
        async with kind.server(Texts(), refuses(400, "the second"), Texts()) as server:
            with pytest.raises(InvalidInput, match=r"texts .* the second"):
                await kind.adapter(server.endpoint, http).embed(ask(*MANY))

    async def test_leaves_the_next_request_alone(self, kind, http):
        async with kind.server(refuses(500), Texts()) as server:
            embedder = kind.adapter(server.endpoint, http)
            with pytest.raises(ProviderDown):
                await embedder.embed(ask())
            assert len((await embedder.embed(ask())).vectors) == len(FEW)


class TestAServerThatFails:
    async def fails(self, kind, http, *replies: Reply, **wanted) -> ProviderDown:
        async with kind.server(*replies) as server:
            with pytest.raises(ProviderDown) as caught:
                await kind.adapter(server.endpoint, http).embed(ask(**wanted))
        return caught.value

    async def test_is_down_where_the_connection_is_refused(self, kind, http):
        async with nobody() as address:
            with pytest.raises(ProviderDown, match="can't connect"):
                await kind.adapter(address, http).embed(ask())

    @pytest.mark.parametrize("given", [0, 1, 2, 4])
    async def test_has_not_answered_with_another_number_of_vectors(self, kind, http, given):
        failed = await self.fails(kind, http, Texts(given=given))
        assert failed.reason == "BAD_ANSWER"
        assert f"answered {given} embeddings for 3 texts" in failed.message

    @pytest.mark.parametrize("name", ["openai", "openai_compat"])
    async def test_has_not_answered_with_two_vectors_for_one_text(self, http, name):
        failed = await self.fails(HTTP_EMBEDDERS[name], http, Texts(twice=True))
        assert failed.reason == "BAD_ANSWER"

    @pytest.mark.parametrize("then", [Then.GARBAGE, Then.STOP])
    async def test_has_not_answered_with_garbage(self, kind, http, then):
        assert (await self.fails(kind, http, Texts(then=then))).reason == "BAD_ANSWER"

    async def test_has_not_answered_with_empty_vectors(self, kind, http):
        async with kind.server(Texts(length=0)) as server:
            with pytest.raises(ProviderDown) as caught:
                await kind.adapter(server.endpoint, http).embed(ask())
        assert caught.value.reason == "BAD_ANSWER"

    @pytest.mark.parametrize("name", sorted(HTTP_EMBEDDERS.keys() - IN_BASE64))
    async def test_has_not_answered_with_what_is_no_number(self, http, name):
        failed = await self.fails(HTTP_EMBEDDERS[name], http, Texts(hole=True))
        assert failed.reason == "BAD_ANSWER"

    async def test_is_down_where_it_closes_in_the_middle(self, kind, http):
        await self.fails(kind, http, Texts(then=Then.CLOSE))

    async def test_is_down_where_it_hangs(self, kind, http):
        async with kind.server(Texts(then=Then.HANG)) as server:
            embedder = kind.adapter(server.endpoint, http)

            async def runs_out(seconds):
                says = f"whole answer within {seconds:g} s"
                with pytest.raises(ProviderDown, match=says) as caught:
                    await embedder.embed(ask(timeouts=Timeouts(total=seconds)))
                assert caught.value.reason == "PROVIDER_TIMEOUT"

            await given_enough(runs_out, server.asked.is_set)
            await asyncio.wait_for(server.left.wait(), PROMPTLY)

    async def test_has_one_deadline_for_all_batches(self, kind, http):
        async with kind.server(Texts(pause=0.2)) as server:
            embedder = kind.adapter(server.endpoint, http)
            await embedder.embed(ask())
            texts = MANY[:1] * (kind.per_request * AT_ONCE * 3)
            with pytest.raises(ProviderDown, match="no whole answer") as caught:
                await embedder.embed(ask(*texts, timeouts=Timeouts(total=0.5)))
        assert caught.value.reason == "PROVIDER_TIMEOUT"

    async def test_may_say_so_in_an_answer_that_began_well(self, http):
        for name in ("openai", "openai_compat", "ollama"):
            failed = await self.fails(
                HTTP_EMBEDDERS[name], http, Texts(then=Then.ERROR, error="out of memory")
            )
            assert "out of memory" in failed.message


class TestLeaving:
    @asynccontextmanager
    async def waiting(self, kind, http, *texts: str):
        async with kind.server(Texts(then=Then.HANG)) as server:
            embedder = kind.adapter(server.endpoint, http)
            task = asyncio.create_task(embedder.embed(ask(*texts)))
            await asyncio.wait_for(server.asked.wait(), PATIENCE)
            yield server, task

    @pytest.mark.parametrize("texts", [FEW, MANY], ids=["one batch", "many batches"])
    async def test_ends_the_server_s_work(self, kind, http, texts):
        async with self.waiting(kind, http, *texts) as (server, task):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.wait_for(server.left.wait(), PROMPTLY)

    async def test_is_what_a_failing_batch_makes_the_others_do(self, kind, http):
        hanging = [Texts(then=Then.HANG)] * (AT_ONCE - 1)
        async with kind.server(*hanging, refuses(400), Texts()) as server:
            with pytest.raises(InvalidInput):
                await kind.adapter(server.endpoint, http).embed(ask(*MANY))
            await asyncio.wait_for(server.left.wait(), PROMPTLY)


class TestHealth:
    async def test_is_good_where_the_server_answers(self, kind, http):
        async with kind.server() as server:
            await kind.adapter(server.endpoint, http).health("")

    async def test_is_bad_where_nobody_listens(self, kind, http):
        async with nobody() as address:
            with pytest.raises(ProviderDown):
                await kind.adapter(address, http).health("")


@pytest.mark.parametrize("address", ["localhost:8000", "ftp://x", "http://", ""])
def test_what_is_no_http_address_is_refused(kind, address):
    with pytest.raises(NotReady, match="http"):
        kind.adapter(address, None)
