"""What providers do where servers refuse, fail, talk nonsense or are not there."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from servers.domain.chat import Step
from servers.kernel.errors import InvalidInput, NotReady
from servers.router.adapters.http import MAX_BODY, MAX_LINE
from servers.router.adapters.openai.hf_tgi import HfTgi
from servers.router.ports import ProviderDown, Timeouts
from tests.contract.provider_fixture import (
    AZURE,
    DATED_AZURE,
    OPENAI,
    ask,
    only,
    streamed,
    text,
    whole,
)
from tests.patience import PATIENCE, PROMPTLY, given_enough
from tests.scripted.http_server import Reply, Then, nobody, refuses
from tests.scripted.tgi_server import tgi_server

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one set of connections


class TestAProviderThatRefuses:
    @pytest.mark.parametrize(
        ("status", "error"),
        [
            (400, InvalidInput),
            (422, InvalidInput),
            (401, NotReady),
            (403, NotReady),
            (404, NotReady),
        ],
    )
    async def test_the_request_is_not_down(self, kind, http, heard, status, error):
        async with kind.server(refuses(status, "because")) as server:
            with pytest.raises(error, match="because"):
                await heard(kind.provider(server.endpoint, http), ask())

    @pytest.mark.parametrize("status", [408, 424, 429, 500, 502, 503])
    async def test_for_the_time_being_is_down(self, kind, http, heard, status):
        async with kind.server(refuses(status, "overloaded")) as server:
            with pytest.raises(ProviderDown, match="overloaded"):
                await heard(kind.provider(server.endpoint, http), ask())

    @pytest.mark.parametrize(
        ("says", "pause"),
        [("30", 30), ("1.5", 1.5), ("Tue, 14 Nov 2023 22:13:30 GMT", 10), ("soon", 0), ("-1", 0)],
    )
    async def test_may_say_when_to_come_back(self, kind, http, heard, says, pause):
        async with kind.server(refuses(429, "slow down", Retry_After=says)) as server:
            with pytest.raises(ProviderDown) as caught:
                await heard(kind.provider(server.endpoint, http), ask())
        assert caught.value.pause == pause

    async def test_never_shows_the_key_it_quotes(self, kind, http, heard):
        async with kind.server(refuses(401, "bad key zig-zag-zug, or sk-abcdef123")) as server:
            with pytest.raises(NotReady) as caught:
                await heard(kind.provider(server.endpoint, http), ask(api_key="zig-zag-zug"))
        assert "zig" not in caught.value.message
        assert "abcdef" not in caught.value.message

    @only(AZURE, DATED_AZURE)
    async def test_a_prompt_by_its_policy_says_what_it_objects_to(self, kind, http, heard):
        """Azure's content filter. Nobody else is asked instead."""
        refused = Reply(status=400, error="The response was filtered", code="content_filter")
        async with kind.server(refused) as server:
            with pytest.raises(InvalidInput, match=r"content filter \(violence\)") as caught:
                await heard(kind.provider(server.endpoint, http), ask())
        assert caught.value.reason == "CONTENT_FILTERED"

    async def test_leaves_the_next_request_alone(self, kind, http, heard):
        async with kind.server(refuses(500), Reply(pieces=("fine",))) as server:
            provider = kind.provider(server.endpoint, http)
            with pytest.raises(ProviderDown):
                await heard(provider, ask())
            assert text(await heard(provider, ask())) == "fine"


class TestAProviderThatFails:
    async def test_is_down_where_the_connection_is_refused(self, kind, http, heard):
        async with nobody() as address:
            with pytest.raises(ProviderDown, match=f"{address}.*: can't connect: Connection ref"):
                await heard(kind.provider(address, http), ask())

    async def test_is_down_where_its_name_is_unknown(self, kind, http, heard):
        with pytest.raises(ProviderDown, match=r"nowhere\.invalid"):
            await heard(kind.provider("http://nowhere.invalid", http), ask())

    async def test_is_down_where_it_closes_in_the_middle(self, kind, http, heard):
        async with kind.server(Reply(then=Then.CLOSE)) as server:
            with pytest.raises(ProviderDown):
                await heard(kind.provider(server.endpoint, http), ask())

    async def test_is_down_where_it_talks_garbage(self, kind, http, heard):
        async with kind.server(Reply(then=Then.GARBAGE)) as server:
            with pytest.raises(ProviderDown, match="it works"):
                await heard(kind.provider(server.endpoint, http), ask())

    async def test_has_not_answered_where_the_end_is_missing(self, kind, http, heard):
        async with kind.server(Reply(then=Then.STOP)) as server:
            with pytest.raises(ProviderDown) as caught:
                await heard(kind.provider(server.endpoint, http), ask())
        assert caught.value.reason == "BAD_ANSWER"

    @pytest.mark.parametrize(
        ("pieces", "limit", "says"),
        [
            ((), "first_token", "first token"),
            (("a",), "between_tokens", "further token"),
            (("a",), "total", "whole answer"),
        ],
    )
    async def test_is_down_where_it_hangs(self, kind, http, pieces, limit, says):
        async with kind.server(Reply(pieces=pieces, then=Then.HANG)) as server:
            provider = kind.provider(server.endpoint, http)

            async def runs_out(seconds):
                with pytest.raises(ProviderDown, match=says) as caught:
                    await streamed(provider, ask(timeouts=Timeouts(**{limit: seconds})))
                assert caught.value.reason == "PROVIDER_TIMEOUT"

            await given_enough(runs_out, server.asked.is_set)
            await asyncio.wait_for(server.left.wait(), PROMPTLY)

    async def test_is_down_where_the_whole_answer_does_not_come(self, kind, http):
        async with kind.server(Reply(then=Then.HANG)) as server:
            provider = kind.provider(server.endpoint, http)

            async def runs_out(seconds):
                with pytest.raises(ProviderDown, match=f"whole answer within {seconds:g} s"):
                    await whole(provider, ask(timeouts=Timeouts(total=seconds)))

            await given_enough(runs_out, server.asked.is_set)
            await asyncio.wait_for(server.left.wait(), PROMPTLY)

    async def test_may_say_so_in_the_middle_of_a_stream(self, kind, http):
        async with kind.server(Reply(then=Then.ERROR, error="out of memory")) as server:
            with pytest.raises(ProviderDown, match="out of memory"):
                await streamed(kind.provider(server.endpoint, http), ask())

    @pytest.mark.parametrize(
        ("code", "error", "reason"),
        [
            ("content_filter", InvalidInput, "CONTENT_FILTERED"),
            ("rate_limit_exceeded", ProviderDown, "RATE_LIMITED"),
            ("server_error", ProviderDown, "PROVIDER_FAILED"),
        ],
    )
    @only(OPENAI, AZURE, DATED_AZURE)
    async def test_in_the_middle_of_a_stream_says_whose_fault_it_is(
        self, kind, http, code, error, reason
    ):
        async with kind.server(Reply(then=Then.ERROR, error="no more", code=code)) as server:
            with pytest.raises(error, match="no more") as caught:
                await streamed(kind.provider(server.endpoint, http), ask())
        assert caught.value.reason == reason

    @pytest.mark.parametrize(
        ("code", "error", "reason"),
        [
            ("validation", InvalidInput, "PROVIDER_REFUSED"),
            ("overloaded", ProviderDown, "RATE_LIMITED"),
            ("generation", ProviderDown, "PROVIDER_FAILED"),
        ],
    )
    async def test_of_tgi_says_only_in_its_stream_whose_fault_it_is(
        self, http, code, error, reason
    ):
        """It answers a stream with 200 before it has looked at the request."""
        broken = Reply(pieces=(), then=Then.ERROR, error="no such luck", code=code)
        async with tgi_server(broken) as server:
            with pytest.raises(error, match="no such luck") as caught:
                await streamed(HfTgi(server.endpoint, http), ask())
        assert caught.value.reason == reason


class TestAnAnswerWithoutMeasure:
    async def test_in_one_line_is_cut_off(self, kind, http):
        async with kind.server(Reply(pieces=("x" * (MAX_LINE + 1),))) as server:
            with pytest.raises(ProviderDown, match="a line of more than"):
                await streamed(kind.provider(server.endpoint, http), ask())

    async def test_in_one_body_is_cut_off(self, kind, http):
        async with kind.server(Reply(pieces=("x" * (MAX_BODY + 1),))) as server:
            with pytest.raises(ProviderDown, match="more than"):
                await whole(kind.provider(server.endpoint, http), ask())


class TestLeaving:
    async def test_a_stream_ends_the_provider_s_work(self, kind, http):
        async with kind.server(Reply(pieces=("a", "b"), then=Then.HANG)) as server:
            steps: AsyncGenerator[Step, None] = kind.provider(server.endpoint, http).stream(ask())
            async with aclosing(steps):
                await anext(steps)
            await asyncio.wait_for(server.left.wait(), PROMPTLY)

    async def test_while_waiting_ends_the_provider_s_work(self, kind, http, heard):
        async with kind.server(Reply(pieces=(), then=Then.HANG)) as server:
            waiting = asyncio.create_task(heard(kind.provider(server.endpoint, http), ask()))
            await asyncio.wait_for(server.asked.wait(), PATIENCE)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await asyncio.wait_for(server.left.wait(), PROMPTLY)


class TestHealth:
    async def test_is_good_where_the_provider_answers(self, kind, http):
        async with kind.server() as server:
            await kind.provider(server.endpoint, http).health("")

    async def test_is_bad_where_nobody_listens(self, kind, http):
        async with nobody() as address:
            with pytest.raises(ProviderDown):
                await kind.provider(address, http).health("")


@pytest.mark.parametrize("address", ["localhost:8000", "ftp://x", "http://", ""])
async def test_what_is_no_http_address_is_refused(kind, address):
    with pytest.raises(NotReady, match="http"):
        kind.provider(address, None)
