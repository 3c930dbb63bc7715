"""A schema for the answer, in each server's own words. That answers fit is checked above."""

import pytest

from servers.domain.chat import Sampling
from tests.contract.provider_fixture import (
    AZURE,
    DATED_AZURE,
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
)

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one set of connections

SCHEMA = {
    "title": "The age of a cat",
    "type": "object",
    "properties": {"age": {"type": "integer"}},
    "required": ["age"],
    "additionalProperties": False,
}
LOOSE = {"type": "object", "properties": {"age": {"type": "integer"}}}
LIST = {"type": "array", "items": {"type": "string"}}
CHOSEN = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
IN_OPENAI_S_FORM = (OPENAI_COMPAT, OPENAI, AZURE, DATED_AZURE, VLLM, LLAMACPP)
SHAPES = {"response_format", "structured_outputs", "grammar", "json_schema", "format"}


async def asked(kind, http, schema=SCHEMA, tools=(), **extra):
    wanted = ask(output_schema=schema, tools=tools, sampling=Sampling(extra=extra))
    return (await arrived(kind, http, wanted)).body


class TestASchema:
    @only(*IN_OPENAI_S_FORM)
    async def test_is_a_response_format(self, kind, http):
        assert (await asked(kind, http))["response_format"] == {
            "type": "json_schema",
            "json_schema": {"name": "The_age_of_a_cat", "schema": SCHEMA, "strict": True},
        }

    @only(*IN_OPENAI_S_FORM)
    async def test_is_not_strict_where_strict_mode_would_refuse_it(self, kind, http):
        wanted = (await asked(kind, http, LOOSE))["response_format"]["json_schema"]
        assert wanted == {"name": "answer", "schema": LOOSE, "strict": False}

    async def test_is_a_grammar_for_tgi(self, http):
        assert (await asked(TGI, http))["response_format"] == {"type": "json", "value": SCHEMA}

    async def test_is_a_format_for_ollama(self, http):
        assert (await asked(OLLAMA, http))["format"] == SCHEMA

    @only(OPENAI, AZURE, DATED_AZURE)
    async def test_of_no_object_does_not_go_to_openai_which_refuses_it(self, kind, http):
        assert not SHAPES & (await asked(kind, http, LIST)).keys()

    @only(VLLM, LLAMACPP)
    async def test_may_be_of_anything_for_others(self, kind, http):
        wanted = (await asked(kind, http, LIST))["response_format"]["json_schema"]
        assert wanted["schema"] == LIST

    @pytest.mark.parametrize(
        ("kind", "extra"),
        [
            (OPENAI, {"response_format": {"type": "json_object"}}),
            (VLLM, {"structured_outputs": {"regex": "x"}}),
            (VLLM, {"guided_json": {"type": "string"}}),
            (LLAMACPP, {"grammar": "root ::= x"}),
            (LLAMACPP, {"json_schema": {"type": "string"}}),
            (TGI, {"response_format": {"type": "regex", "value": "x"}}),
            (OLLAMA, {"format": "json"}),
            (OLLAMA, {"response_format": {"type": "json_object"}}),
        ],
        ids=lambda each: getattr(each, "name", None) or next(iter(each)),
    )
    async def test_goes_before_what_else_shapes_an_answer(self, kind, http, extra):
        assert await asked(kind, http, **extra) == await asked(kind, http)


class TestBesideTools:
    @only(OPENAI, AZURE, DATED_AZURE)
    async def test_a_schema_goes_to_openai(self, kind, http):
        body = await asked(kind, http, tools=(WEATHER,))
        assert {"tools", "response_format"} <= body.keys()

    @only(OPENAI_COMPAT, VLLM, LLAMACPP, TGI, OLLAMA)
    async def test_a_schema_is_left_out_because_no_tool_would_be_called(self, kind, http):
        body = await asked(kind, http, tools=(WEATHER,))
        assert "tools" in body
        assert not SHAPES & body.keys()


class TestAFormatThatTheAgentChose:
    @only(*(kind for kind in LIKE_OPENAI if kind is not TGI))
    async def test_goes_out_as_it_is(self, kind, http):
        body = await asked(kind, http, None, response_format=CHOSEN)
        assert body["response_format"] == CHOSEN

    async def test_is_said_in_tgi_s_words(self, http):
        body = await asked(TGI, http, None, response_format=CHOSEN)
        assert body["response_format"] == {"type": "json", "value": SCHEMA}

    async def test_may_be_in_tgi_s_words_already(self, http):
        own = {"type": "regex", "value": "[0-9]"}
        assert (await asked(TGI, http, None, response_format=own))["response_format"] == own

    async def test_is_said_in_ollama_s_words(self, http):
        body = await asked(OLLAMA, http, None, response_format=CHOSEN)
        assert body["format"] == SCHEMA
