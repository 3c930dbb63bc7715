"""What providers know of themselves, learn from their servers, and count."""

import pytest

from servers.domain.chat import Image, Message, Role, says
from servers.domain.models import Capabilities
from servers.kernel.errors import InvalidInput, NotReady
from servers.router.adapters.openai.llamacpp import LlamaCpp
from servers.router.adapters.openai.vllm import Vllm
from servers.router.ports import ProviderDown
from tests.contract.provider_fixture import (
    AZURE,
    DATED_AZURE,
    LLAMACPP,
    OLD_LLAMACPP,
    OLLAMA,
    OPENAI,
    TGI,
    VLLM,
    WEATHER,
    ask,
    only,
)
from tests.scripted import llamacpp_server, tgi_server, vllm_server
from tests.scripted.http_server import Reply, Then, nobody, refuses

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one set of connections

WINDOWS = {
    "vllm": vllm_server.WINDOW,
    "llamacpp": llamacpp_server.WINDOW,
    "llamacpp-old": llamacpp_server.WINDOW,
    "hf_tgi": tgi_server.WINDOW,
}
COUNTING = (VLLM, LLAMACPP, OLD_LLAMACPP, TGI)


class TestCapabilities:
    @only(OPENAI, AZURE, DATED_AZURE, OLLAMA, *COUNTING)
    async def test_say_that_a_schema_can_be_kept_to(self, kind):
        assert kind.provider("http://127.0.0.1:9", None).capabilities("m").json_schema is True

    @only(*COUNTING)
    async def test_have_the_context_window_once_the_server_has_told(self, kind, http):
        async with kind.server() as server:
            provider = kind.provider(server.endpoint, http)
            before = provider.capabilities("m").context_window
            await provider.health("")
        assert (before, provider.capabilities("m").context_window) == (None, WINDOWS[kind.name])

    async def test_have_a_window_for_no_model_that_vllm_does_not_serve(self, http):
        async with vllm_server.vllm_server() as server:
            provider = Vllm(server.endpoint, http)
            await provider.health("")
        assert provider.capabilities("other").context_window is None

    @pytest.mark.parametrize("able", [True, False])
    async def test_of_llama_cpp_are_those_of_the_model_it_has_loaded(self, http, able):
        async with llamacpp_server.llamacpp_server(tools=able, vision=able) as server:
            provider = LlamaCpp(server.endpoint, http)
            await provider.health("")
        assert provider.capabilities("m") == Capabilities(
            tools=able,
            vision=able,
            json_schema=True,
            context_window=llamacpp_server.WINDOW,
            emulated_tools=not able,
        )

    @only(*COUNTING)
    async def test_stay_what_they_were_where_a_server_goes_away(self, kind, http):
        async with kind.server() as server:
            provider = kind.provider(server.endpoint, http)
            await provider.health("")
        with pytest.raises(ProviderDown):
            await provider.health("")
        assert provider.capabilities("m").context_window == WINDOWS[kind.name]


class TestACount:
    @only(VLLM, LLAMACPP, TGI)
    async def test_is_that_of_the_server_s_own_tokenizer(self, kind, http):
        async with kind.server(Reply(prompt_tokens=17)) as server:
            provider = kind.provider(server.endpoint, http)
            assert await provider.count_tokens(ask(tools=(WEATHER,))) == 17
        asked = server.requests[0].body
        assert asked["messages"] == [{"role": "user", "content": "hello"}]
        assert asked["tools"][0]["function"]["name"] == "weather"

    async def test_of_an_older_llama_cpp_is_that_of_the_rendered_prompt(self, http):
        async with llamacpp_server.llamacpp_server(old=True) as server:
            talk = (says(Role.USER, "one two three"),)
            counted = await LlamaCpp(server.endpoint, http).count_tokens(ask(messages=talk))
        prompt = "<|user|>one two three<|assistant|>"
        assert server.requests[-1].body == {
            "content": prompt,
            "add_special": True,
            "parse_special": True,
        }
        assert counted == 4

    async def test_of_an_older_llama_cpp_is_refused_for_pictures(self, http):
        async with llamacpp_server.llamacpp_server(old=True) as server:
            talk = (Message(Role.USER, (Image(data=b"png"),)),)
            with pytest.raises(InvalidInput, match="pictures"):
                await LlamaCpp(server.endpoint, http).count_tokens(ask(messages=talk))

    @only(*COUNTING)
    async def test_brings_the_key(self, kind, http):
        async with kind.server() as server:
            await kind.provider(server.endpoint, http).count_tokens(ask(api_key="abc"))
        assert {each.headers["authorization"] for each in server.requests} == {"Bearer abc"}

    @pytest.mark.parametrize(
        ("reply", "error"),
        [
            (refuses(401), NotReady),
            (refuses(422), InvalidInput),
            (refuses(500), ProviderDown),
            (Reply(then=Then.GARBAGE), ProviderDown),
            (Reply(then=Then.STOP), ProviderDown),
            (Reply(then=Then.CLOSE), ProviderDown),
        ],
        ids=["401", "422", "500", "garbage", "without a count", "cut off"],
    )
    @only(VLLM, LLAMACPP, TGI)
    async def test_fails_as_a_chat_does(self, kind, http, reply, error):
        async with kind.server(reply) as server:
            with pytest.raises(error):
                await kind.provider(server.endpoint, http).count_tokens(ask())

    @only(*COUNTING)
    async def test_is_not_had_where_nobody_listens(self, kind, http):
        async with nobody() as address:
            with pytest.raises(ProviderDown):
                await kind.provider(address, http).count_tokens(ask())
