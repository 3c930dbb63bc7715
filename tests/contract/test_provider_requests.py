"""How each provider asks: every server's words for what the router wants."""

import json
from contextlib import suppress

import pytest

from servers.domain.chat import Image, Message, Role, Sampling, Text, ToolCall
from servers.kernel.errors import InvalidInput, NotReady
from servers.router.adapters.openai.azure import AzureOpenAI
from servers.router.adapters.openai.compat import OpenAICompat
from servers.router.kinds import PROVIDERS
from servers.router.kinds import kind as known_kind
from tests.contract.provider_fixture import (
    AZURE,
    DATED_AZURE,
    HELLO,
    KINDS,
    LIKE_OPENAI,
    LLAMACPP,
    OLLAMA,
    OPENAI,
    OPENAI_COMPAT,
    TGI,
    VLLM,
    WEATHER,
    arrived,
    ask,
    only,
    streamed,
)
from tests.scripted.azure_server import azure_server
from tests.scripted.openai_server import openai_server

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one set of connections

SAMPLED = Sampling(0.5, 0.9, 100, ("END",), 7)


async def options(kind, http, **extra):
    """The request for a call with these parameters besides OpenAI's."""
    return (await arrived(kind, http, ask(sampling=Sampling(extra=extra)))).body


class TestARequest:
    async def test_has_no_tools_where_there_are_none(self, kind, http):
        assert "tools" not in (await arrived(kind, http, ask())).body

    async def test_has_the_tools_as_json_schema(self, kind, http):
        asked = await arrived(kind, http, ask(tools=(WEATHER,)))
        assert asked.body["tools"][0]["function"]["parameters"] == WEATHER.parameters

    async def test_has_no_key_where_there_is_none(self, kind, http):
        assert kind.key not in (await arrived(kind, http, ask())).headers

    async def test_has_the_key_where_its_server_looks_for_it(self, kind, http):
        asked = await arrived(kind, http, ask(api_key="abc"))
        assert asked.headers[kind.key] in ("abc", "Bearer abc")
        assert ("authorization" in asked.headers) is (kind.key == "authorization")

    @only(*LIKE_OPENAI)
    async def test_for_a_stream_wants_its_count(self, kind, http):
        async with kind.server() as server:
            await streamed(kind.provider(server.endpoint, http), ask())
        assert server.requests[0].body == {
            "model": "m",
            "messages": [{"role": "user", "content": "hello"}],
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    async def test_can_not_be_overruled_by_extra_settings(self, kind, http):
        asked = ask(sampling=Sampling(extra={"model": "other", "stream": True, "messages": []}))
        body = (await arrived(kind, http, asked)).body
        assert (body["model"], body["stream"], len(body["messages"])) == ("m", False, 1)

    async def test_shows_broken_arguments_as_json_because_servers_parse_them(self, kind, http):
        call = ToolCall("call_1", "weather", '{"city":')
        talk = (
            *HELLO,
            Message(Role.ASSISTANT, tool_calls=(call,)),
            Message(Role.TOOL, (Text("repair that"),), tool_call_id="call_1"),
        )
        body = (await arrived(kind, http, ask(messages=talk))).body
        arguments = body["messages"][1]["tool_calls"][0]["function"]["arguments"]
        found = json.loads(arguments) if isinstance(arguments, str) else arguments
        assert found == {"broken_json": '{"city":'}


class TestSampling:
    @only(*LIKE_OPENAI)
    async def test_is_said_in_openai_s_words(self, kind, http):
        body = (await arrived(kind, http, ask(sampling=SAMPLED))).body
        assert {key: body[key] for key in ("temperature", "top_p", "stop", "seed")} == {
            "temperature": 0.5,
            "top_p": 0.9,
            "stop": ["END"],
            "seed": 7,
        }

    @pytest.mark.parametrize(
        ("kind", "word"),
        [
            (OPENAI_COMPAT, "max_tokens"),
            (OPENAI, "max_completion_tokens"),
            (AZURE, "max_completion_tokens"),
            (DATED_AZURE, "max_tokens"),
            (VLLM, "max_tokens"),
            (LLAMACPP, "max_tokens"),
            (TGI, "max_tokens"),
        ],
        ids=lambda each: getattr(each, "name", each),
    )
    async def test_bounds_an_answer_by_the_word_its_server_knows(self, kind, http, word):
        body = (await arrived(kind, http, ask(sampling=SAMPLED))).body
        assert body[word] == 100
        assert len({"max_tokens", "max_completion_tokens"} & body.keys()) == 1

    @only(*(kind for kind in LIKE_OPENAI if kind is not DATED_AZURE))
    async def test_bounds_an_answer_by_the_word_that_the_agent_chose(self, kind, http):
        wanted = Sampling(max_tokens=100, extra={"max_completion_tokens": 50})
        body = (await arrived(kind, http, ask(sampling=wanted))).body
        assert (body["max_completion_tokens"], "max_tokens" in body) == (50, False)

    async def test_is_said_among_ollama_s_options(self, http):
        wanted = Sampling(0.5, 0.9, 100, ("END",), 7, {"top_k": 3, "repetition_penalty": 1.1})
        assert (await arrived(OLLAMA, http, ask(sampling=wanted))).body["options"] == {
            "temperature": 0.5,
            "top_p": 0.9,
            "num_predict": 100,
            "stop": ["END"],
            "seed": 7,
            "top_k": 3,
            "repeat_penalty": 1.1,
        }

    @pytest.mark.parametrize(
        ("kind", "named"),
        [
            (VLLM, {"top_k": 3, "min_p": 0.1, "repetition_penalty": 1.1}),
            (LLAMACPP, {"top_k": 3, "min_p": 0.1, "repeat_penalty": 1.1}),
        ],
        ids=lambda each: getattr(each, "name", ""),
    )
    async def test_has_portable_names(self, kind, http, named):
        body = await options(kind, http, top_k=3, min_p=0.1, repetition_penalty=1.1)
        known = ("top_k", "min_p", "repetition_penalty", "repeat_penalty")
        assert {key: body[key] for key in known if key in body} == named

    async def test_goes_by_a_server_s_own_word_where_both_are_said(self, http):
        body = await options(LLAMACPP, http, repetition_penalty=1.1, repeat_penalty=1.2)
        assert (body["repeat_penalty"], "repetition_penalty" in body) == (1.2, False)

    async def test_has_another_penalty_for_repetition_in_tgi_s_chats(self, http):
        body = await options(TGI, http, repetition_penalty=1.1)
        assert (body["presence_penalty"], "repetition_penalty" in body) == (-0.9, False)

    async def test_leaves_out_a_top_p_of_one_which_tgi_refuses(self, http):
        assert "top_p" not in (await arrived(TGI, http, ask(sampling=Sampling(top_p=1.0)))).body

    @pytest.mark.parametrize("name", ["top_k", "min_p"])
    async def test_is_refused_where_tgi_would_ignore_it(self, http, name):
        with pytest.raises(InvalidInput, match=f"have no {name}"):
            await options(TGI, http, **{name: 1})

    @only(*LIKE_OPENAI)
    async def test_goes_out_as_it_is_where_nobody_knows_it(self, kind, http):
        body = await options(kind, http, logit_bias={"5": -1}, chat_template_kwargs={"a": False})
        assert (body["logit_bias"], body["chat_template_kwargs"]) == ({"5": -1}, {"a": False})

    async def test_of_llama_cpp_goes_out_in_its_own_words(self, http):
        body = await options(LLAMACPP, http, grammar='root ::= "yes"', cache_prompt=False)
        assert (body["grammar"], body["cache_prompt"]) == ('root ::= "yes"', False)

    @pytest.mark.parametrize(
        ("old", "new", "value"),
        [
            ("guided_json", "json", {"type": "object"}),
            ("guided_regex", "regex", "[0-9]+"),
            ("guided_choice", "choice", ["yes", "no"]),
            ("guided_grammar", "grammar", "root ::= x"),
        ],
    )
    async def test_of_vllm_has_structured_outputs_for_what_it_called_guided(
        self, http, old, new, value
    ):
        body = await options(VLLM, http, **{old: value})
        assert (body["structured_outputs"], old in body) == ({new: value}, False)


class TestAConversation:
    CALL = ToolCall("call_1", "weather", '{"city":"Rome"}')
    TALK = (
        *HELLO,
        Message(Role.ASSISTANT, tool_calls=(CALL,), reasoning="I must look"),
        Message(Role.TOOL, (Text("sunny"),), tool_call_id="call_1"),
    )

    @only(*LIKE_OPENAI)
    async def test_gives_tool_results_back(self, kind, http):
        messages = (await arrived(kind, http, ask(messages=self.TALK))).body["messages"]
        assert messages[1]["tool_calls"] == [
            {
                "id": "call_1",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"city":"Rome"}'},
            }
        ]
        assert messages[2] == {"role": "tool", "content": "sunny", "tool_call_id": "call_1"}

    async def test_gives_tool_results_back_to_ollama_by_name(self, http):
        messages = (await arrived(OLLAMA, http, ask(messages=self.TALK))).body["messages"]
        assert messages[1]["tool_calls"][0]["function"]["arguments"] == {"city": "Rome"}
        assert messages[2] == {"role": "tool", "content": "sunny", "tool_name": "weather"}

    @pytest.mark.parametrize(
        ("kind", "name"),
        [
            (OPENAI_COMPAT, "reasoning_content"),
            (VLLM, "reasoning"),
            (LLAMACPP, "reasoning_content"),
            (TGI, ""),
            (OLLAMA, "thinking"),
        ],
        ids=lambda each: getattr(each, "name", ""),
    )
    async def test_gives_thoughts_back_where_there_is_a_name_for_them(self, kind, http, name):
        said = (await arrived(kind, http, ask(messages=self.TALK))).body["messages"][1]
        known = {"reasoning_content", "reasoning", "thinking"}
        assert {key: said[key] for key in known & said.keys()} == (
            {name: "I must look"} if name else {}
        )


class TestAPicture:
    @only(*LIKE_OPENAI)
    async def test_is_a_data_url_where_it_comes_by_value(self, kind, http):
        picture = Image(data=b"png", media_type="image/png")
        talk = (Message(Role.USER, (Text("what?"), picture)),)
        content = (await arrived(kind, http, ask(messages=talk))).body["messages"][0]["content"]
        url = "data:image/png;base64,cG5n"
        assert content == [
            {"type": "text", "text": "what?"},
            {"type": "image_url", "image_url": {"url": url}},
        ]

    @only(*LIKE_OPENAI)
    async def test_is_its_address_where_it_has_one(self, kind, http):
        talk = (Message(Role.USER, (Image(url="https://example.org/cat.png"),)),)
        content = (await arrived(kind, http, ask(messages=talk))).body["messages"][0]["content"]
        assert content[0]["image_url"] == {"url": "https://example.org/cat.png"}

    @pytest.mark.parametrize("address", ["file:///etc/passwd", "/etc/passwd", "data:text/plain,x"])
    async def test_can_not_be_a_file_of_the_server(self, kind, http, address):
        async with kind.server() as server:
            provider = kind.provider(server.endpoint, http)
            talk = (Message(Role.USER, (Image(url=address),)),)
            with pytest.raises(InvalidInput, match="picture"):
                await provider.complete(ask(messages=talk))
        assert server.requests == []

    async def test_goes_to_ollama_by_value(self, http):
        talk = (Message(Role.USER, (Text("what?"), Image(data=b"png"))),)
        said = (await arrived(OLLAMA, http, ask(messages=talk))).body["messages"][0]
        assert (said["content"], said["images"]) == ("what?", ["cG5n"])

    async def test_does_not_go_to_ollama_by_address(self, http):
        talk = (Message(Role.USER, (Image(url="https://example.org/cat.png"),)),)
        with pytest.raises(InvalidInput, match="by value only"):
            await arrived(OLLAMA, http, ask(messages=talk))


class TestAnAddress:
    @pytest.mark.parametrize("given", ["", "/v1", "/v1/", "/v1/chat/completions"])
    async def test_finds_the_chat_however_it_is_given(self, http, given):
        async with openai_server() as server:
            base = f"http://127.0.0.1:{server.port}"
            await OpenAICompat(base + given, http).complete(ask())
        assert server.requests[0].path == "/v1/chat/completions"

    @pytest.mark.parametrize("given", ["", "/v1", "/v1/"])
    @only(VLLM, LLAMACPP, TGI)
    async def test_finds_the_health_of_a_server_beside_its_chats(self, kind, http, given):
        async with kind.server() as server:
            provider = kind.provider(f"http://127.0.0.1:{server.port}{given}", http)
            await provider.health("")
            assert provider.capabilities("m").context_window  # told at another path beside them

    @pytest.mark.parametrize(
        "given", ["", "/", "/openai", "/openai/v1", "/openai/v1/chat/completions"]
    )
    async def test_of_azure_without_a_version_means_its_v1_api(self, http, given):
        async with azure_server() as server:
            await AzureOpenAI(server.endpoint + given, http).complete(ask())
        assert server.requests[0].path == "/openai/v1/chat/completions"

    @pytest.mark.parametrize("given", ["", "/openai", "/openai/deployments/other"])
    async def test_of_azure_with_a_date_has_the_deployment_in_it(self, http, given):
        async with azure_server() as server:
            provider = AzureOpenAI(server.endpoint + given, http, "2024-10-21")
            await provider.complete(ask(model="my gpt"))
        assert server.requests[0].path == (
            "/openai/deployments/my%20gpt/chat/completions?api-version=2024-10-21"
        )

    async def test_of_azure_may_have_the_date_itself(self, http):
        async with azure_server() as server:
            shown = "/openai/deployments/m/chat/completions?api-version=2024-10-21"
            await AzureOpenAI(server.endpoint + shown, http).complete(ask())
        assert server.requests[0].path == shown

    async def test_of_azure_s_v1_api_may_ask_for_previews(self, http):
        async with azure_server() as server:
            await AzureOpenAI(server.endpoint, http, "preview").complete(ask())
        assert server.requests[0].path == "/openai/v1/chat/completions?api-version=preview"

    @pytest.mark.parametrize("model", ["..", "."])
    async def test_is_never_led_astray_by_the_name_of_a_deployment(self, http, model):
        with pytest.raises(NotReady, match="no deployment"):
            await AzureOpenAI("http://127.0.0.1:9", http, "2024-10-21").complete(ask(model=model))


async def test_every_type_that_speaks_http_alone_is_here():
    """Guards this suite: a new type of provider must be put into it."""
    found = set()
    for name in PROVIDERS:
        with suppress(NotReady):  # its packages are not here, so it needs more than HTTP
            if getattr(PROVIDERS[name], "needs", ("http",)) == ("http",):
                found.add(name)
    chats = {name for name in found if "chat" in known_kind(name).does}
    assert chats == {each.name.partition("-")[0] for each in KINDS}
