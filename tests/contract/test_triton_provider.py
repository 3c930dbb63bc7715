"""What the provider `triton` promises, against the real Triton Inference Server on CPU.

Its models are in tests/triton/models. `words` says its prompt back, so that what it answers
is what it was asked.
"""

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing

import grpc
import pytest

from servers.domain.chat import (
    FinishReason,
    Image,
    Message,
    Role,
    Sampling,
    Step,
    Text,
    TextPiece,
    Usage,
    says,
)
from servers.kernel.errors import InvalidInput, NotReady
from servers.router.adapters.triton.provider import Triton
from servers.router.ports import Ask, ProviderDown, Timeouts
from tests.contract.provider_fixture import WEATHER, streamed, text, whole
from tests.patience import PATIENCE, given_enough
from tests.scripted.http_server import nobody
from tests.triton import server as triton_server

pytestmark = [pytest.mark.triton, pytest.mark.slow, pytest.mark.timeout(600)]

# The prompt is the message alone, so that answers are easy to read.
ONLY = "{{ messages[-1].content }}"
SPEAK = says(Role.USER, "one two three four")


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[triton_server.Triton]:
    with triton_server.triton(tmp_path_factory.mktemp("triton"), "words", "plain") as started:
        yield started


@pytest.fixture
async def provider(server) -> AsyncIterator[Triton]:
    made = Triton(server.endpoint, chat_template=ONLY)
    yield made
    await made.aclose()


def ask(*messages: Message, model: str = "words", **wanted) -> Ask:
    return Ask(model, messages or (SPEAK,), **wanted)


def told(**extra) -> Sampling:
    """Parameters that only the model `words` understands."""
    return Sampling(extra=extra)


async def noted(server: triton_server.Triton, *lines: str) -> None:
    """Returns once the model has written one of these lines into its log."""
    async with asyncio.timeout(PATIENCE):
        while not {*lines} & {*server.words()}:  # noqa: ASYNC110  # it is another process
            await asyncio.sleep(0.01)


class TestAnAnswer:
    async def test_has_the_text(self, provider, heard):
        assert text(await heard(provider, ask())) == "one two three four"

    async def test_comes_in_the_model_s_own_pieces(self, provider):
        *pieces, _ = await streamed(provider, ask())
        assert [piece.text for piece in pieces] == ["one", " two", " three", " four"]

    async def test_arrives_piece_by_piece(self, provider):
        steps = provider.stream(ask(sampling=told(hang_after=1)))
        async with aclosing(steps):
            assert await anext(steps) == TextPiece("one")  # though the end never comes

    async def test_ends_with_one_finish(self, provider, heard):
        *_, finish = await heard(provider, ask())
        assert (finish.reason, finish.model) == (FinishReason.STOP, "words")

    async def test_has_the_model_s_count(self, provider, heard):
        *_, finish = await heard(provider, ask(sampling=Sampling(max_tokens=3)))
        assert finish.usage == Usage(4, 3)

    async def test_says_so_where_the_count_is_an_estimate(self, provider, heard):
        *_, finish = await heard(provider, ask(says(Role.USER, "12345678"), model="plain"))
        assert finish.usage == Usage(2, 2, estimated=True)

    async def test_that_reached_its_limit_says_so(self, provider, heard):
        *_, finish = await heard(provider, ask(sampling=Sampling(max_tokens=3)))
        assert finish.reason is FinishReason.LENGTH

    async def test_is_never_cut_in_a_character(self, provider):
        asked = ask(says(Role.USER, "Grüße 🦊"), sampling=told(cut=True))
        *pieces, _ = await streamed(provider, asked)
        assert [piece.text for piece in pieces] == ["G", "r", "ü", "ß", "e", " ", "🦊"]

    async def test_of_a_model_that_does_not_stream_comes_at_once(self, provider, heard):
        pieces = await heard(provider, ask(model="plain"))
        assert [step for step in pieces if isinstance(step, TextPiece)] == [
            TextPiece("one two three four")
        ]

    async def test_may_be_empty(self, provider, heard):
        *said, finish = await heard(provider, ask(sampling=Sampling(max_tokens=1, stop=("one",))))
        assert text(said) == ""
        assert finish.reason is FinishReason.STOP


class TestStopStrings:
    async def test_end_the_answer_before_them(self, provider, heard):
        steps = await heard(provider, ask(sampling=Sampling(stop=(" three",))))
        assert text(steps) == "one two"

    async def test_are_found_across_pieces(self, provider, heard):
        steps = await heard(provider, ask(sampling=Sampling(stop=("o th",))))
        assert text(steps) == "one tw"

    async def test_are_a_reason_to_stop(self, provider, heard):
        *_, finish = await heard(provider, ask(sampling=Sampling(stop=("two",))))
        assert finish.reason is FinishReason.STOP

    async def test_work_for_models_that_take_no_parameters(self, provider, heard):
        steps = await heard(provider, ask(model="plain", sampling=Sampling(stop=(" three",))))
        assert text(steps) == "one two"

    async def test_end_the_model_s_work(self, server, provider):
        wanted = Sampling(stop=("two",), extra={"id": "stopped", "hang_after": 2})
        assert text(await streamed(provider, ask(sampling=wanted))) == "one "
        await noted(server, "stopped cancelled after 2")


class TestAPrompt:
    TALK = (says(Role.SYSTEM, "Be kind."), says(Role.USER, "Hi!"))

    async def prompt(self, server, talk=TALK, **options) -> str:
        provider = Triton(server.endpoint, **options)
        steps = await whole(provider, ask(*talk))
        await provider.aclose()
        return text(steps)

    async def test_is_a_transcript_that_the_model_goes_on_with(self, server):
        assert await self.prompt(server) == "system: Be kind.\nuser: Hi!\nassistant:"

    async def test_follows_the_model_s_own_template(self, server):
        template = (
            "{% for message in messages %}"
            "<|{{ message['role'] }}|>{{ message['content'] }}{{ eos_token }}"
            "{% endfor %}"
            "{% if add_generation_prompt %}<|assistant|>{% endif %}"
        )
        prompt = await self.prompt(server, chat_template=template, eos_token="</s>")
        assert prompt == "<|system|>Be kind.</s><|user|>Hi!</s><|assistant|>"

    @pytest.mark.parametrize("template", ["{% for %}", "/nowhere/chat.jinja"])
    def test_with_a_faulty_template_is_refused_at_once(self, template):
        with pytest.raises(NotReady, match="chat_template"):
            Triton("grpc://127.0.0.1:9", chat_template=template)


class TestARequest:
    PICTURE = Message(Role.USER, (Text("what?"), Image(data=b"png")))
    SCHEMA = Sampling(extra={"response_format": {"type": "json_object"}})

    @pytest.mark.parametrize(
        ("asked", "says"),
        [
            (ask(tools=(WEATHER,)), "no tools"),
            (ask(PICTURE), "no pictures"),
            (ask(output_schema={"type": "object"}), "no schema"),
            (ask(sampling=SCHEMA), "no schema"),
        ],
    )
    async def test_for_what_a_prompt_can_not_hold_goes_nowhere(self, heard, asked, says):
        with pytest.raises(InvalidInput, match=says):
            await heard(Triton("grpc://127.0.0.1:9"), asked)

    async def test_with_settings_that_the_model_does_not_take_is_refused(self, provider, heard):
        asked = ask(model="plain", sampling=Sampling(temperature=0.5, max_tokens=3))
        with pytest.raises(InvalidInput, match="can't be told max_tokens, temperature"):
            await heard(provider, asked)

    async def test_names_the_tensors_that_options_name(self, server, heard):
        provider = Triton(server.endpoint, input="prompt", output="answer", chat_template=ONLY)
        assert text(await heard(provider, ask(model="plain"))) == "one two three four"
        await provider.aclose()

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"input": "txt"}, "input of texts is named 'txt'.*'prompt'"),
            ({"output": "txt"}, "output of texts is named 'txt'.*'answer'"),
        ],
    )
    async def test_hears_of_a_tensor_that_the_model_has_not(self, server, options, says):
        provider = Triton(server.endpoint, **options)
        with pytest.raises(NotReady, match=says):
            await provider.complete(ask(model="plain"))
        await provider.aclose()


class TestAProviderThatFails:
    async def test_is_down_where_nobody_listens(self, heard):
        async with nobody() as address:
            provider = Triton(address.replace("http", "grpc").removesuffix("/v1"))
            with pytest.raises(ProviderDown, match="Connection refused") as caught:
                await heard(provider, ask())
            await provider.aclose()
        assert caught.value.reason == "PROVIDER_UNREACHABLE"

    async def test_is_down_where_a_connection_leads_to_nothing(self, heard):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            provider = Triton(f"grpc://127.0.0.1:{silent.getsockname()[1]}")
            with pytest.raises(ProviderDown, match=r"no word within 0\.1 s") as caught:
                await heard(provider, ask(timeouts=Timeouts(connect=0.1)))
            await provider.aclose()
        assert caught.value.reason == "PROVIDER_UNREACHABLE"

    async def test_has_no_such_model(self, provider, heard):
        with pytest.raises(NotReady, match="'nobody' is not found") as caught:
            await heard(provider, ask(model="nobody"))
        assert caught.value.reason == "MODEL_NOT_FOUND"

    async def test_may_fail_in_the_middle(self, provider, heard):
        with pytest.raises(ProviderDown, match="out of memory") as caught:
            await heard(provider, ask(sampling=told(fail_after=2)))
        assert caught.value.reason == "PROVIDER_FAILED"

    async def test_has_not_answered_where_the_end_is_missing(self, provider, heard):
        with pytest.raises(ProviderDown, match="before the end") as caught:
            await heard(provider, ask(sampling=told(end_after=2)))
        assert caught.value.reason == "BAD_ANSWER"

    async def test_leaves_the_calls_beside_it_alone(self, provider):
        staying = asyncio.create_task(streamed(provider, ask(sampling=told(delay=0.3))))
        asked = ask(sampling=told(hang_after=0), timeouts=Timeouts(total=0.2))
        with pytest.raises(ProviderDown):
            await streamed(provider, asked)
        assert text(await staying) == "one two three four"

    async def test_is_none_where_another_service_answers(self, heard):
        other = grpc.aio.server()
        port = other.add_insecure_port("127.0.0.1:0")
        await other.start()
        provider = Triton(f"grpc://127.0.0.1:{port}")
        with pytest.raises(NotReady, match="is it a Triton") as caught:
            await heard(provider, ask())
        await provider.aclose()
        await other.stop(None)
        assert caught.value.reason == "ENDPOINT_WRONG"

    async def test_never_shows_the_key(self, provider):
        with pytest.raises(NotReady) as caught:
            await provider.complete(ask(model="zig-zag", api_key="zig-zag"))
        assert "***" in caught.value.message

    @pytest.mark.parametrize(
        ("hang_after", "limit", "says", "spoken"),
        [
            (0, "first_token", "first token", (0,)),
            (1, "between_tokens", "further token", (1,)),
            (1, "total", "whole answer", (0, 1)),  # on a busy machine not a word
        ],
    )
    async def test_is_down_where_it_hangs(self, server, provider, hang_after, limit, says, spoken):
        hangs = told(id=limit, hang_after=hang_after)

        async def runs_out(seconds):
            asked = ask(sampling=hangs, timeouts=Timeouts(**{limit: seconds}))
            with pytest.raises(ProviderDown, match=says) as caught:
                await streamed(provider, asked)
            assert caught.value.reason == "PROVIDER_TIMEOUT"

        await given_enough(runs_out, lambda: f"{limit} asked" in server.words())
        await noted(server, *(f"{limit} cancelled after {words}" for words in spoken))

    async def test_is_down_where_the_whole_answer_does_not_come(self, server, provider):
        async def runs_out(seconds):
            limits = Timeouts(total=seconds)
            with pytest.raises(ProviderDown, match=f"whole answer within {seconds:g} s"):
                await whole(provider, ask(sampling=told(id="late", hang_after=1), timeouts=limits))

        await given_enough(runs_out, lambda: "late asked" in server.words())
        await noted(server, "late cancelled after 0", "late cancelled after 1")


class TestLeaving:
    async def test_a_stream_ends_the_model_s_work(self, server, provider):
        steps: AsyncGenerator[Step, None] = provider.stream(
            ask(sampling=told(id="left", hang_after=2))
        )
        async with aclosing(steps):
            for _ in range(2):  # else the model may not have come to its second word
                await anext(steps)
        await noted(server, "left cancelled after 2")

    async def test_while_waiting_ends_the_model_s_work(self, server, provider, heard):
        name = f"waiting-{heard.__name__}"
        asked = ask(sampling=told(id=name, hang_after=0))
        waiting = asyncio.create_task(heard(provider, asked))
        await noted(server, f"{name} asked")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await noted(server, f"{name} cancelled after 0")

    async def test_leaves_the_others_alone(self, server, provider):
        slow = told(delay=0.05)
        staying = asyncio.create_task(streamed(provider, ask(sampling=slow)))
        leaving = asyncio.create_task(streamed(provider, ask(sampling=told(id="l", hang_after=0))))
        await noted(server, "l asked")
        leaving.cancel()
        assert text(await staying) == "one two three four"


class TestHealth:
    async def test_is_good_where_the_server_is_ready(self, provider):
        await provider.health("")

    async def test_is_bad_where_nobody_listens(self):
        async with nobody() as address:
            provider = Triton(address.replace("http", "grpc").removesuffix("/v1"))
            with pytest.raises(ProviderDown):
                await provider.health("")
            await provider.aclose()

    async def test_does_not_mind_a_model_that_the_server_has_not(self, provider):
        provider.capabilities("nobody")
        await provider.health("")

    async def test_tells_what_models_can_do(self, provider):
        assert provider.capabilities("plain").streaming
        await provider.health("")
        assert provider.capabilities("words").streaming
        assert not provider.capabilities("plain").streaming

    def test_is_not_needed_to_know_what_no_model_on_triton_can(self):
        able = Triton("grpc://127.0.0.1:9").capabilities("words")
        assert (able.tools, able.vision, able.json_schema) == (False, False, False)


class TestAnAddress:
    @pytest.mark.parametrize("given", ["grpc://{}", "grpc://{}/"])
    async def test_may_be_written_in_several_ways(self, server, given):
        provider = Triton(given.format(server.address))
        await provider.health("")
        await provider.aclose()

    @pytest.mark.parametrize(
        "given", ["http://x:1", "grpc://", "grpc://x:y", "grpc://x/y", "x:1", ""]
    )
    def test_that_is_none_is_refused(self, given):
        with pytest.raises(NotReady, match="no gRPC address") as caught:
            Triton(given)
        assert caught.value.reason == "ENDPOINT_WRONG"
