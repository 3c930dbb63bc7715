"""Answers of a form and answers from the cache, through the public port."""

import json

from tests.scripted.http_server import Reply
from tests.scripted.openai_server import openai_server

AGE = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
FITS, WRONG = Reply(pieces=('{"age": 3}',)), Reply(pieces=('{"age": "three"}',))


def chat(endpoint: str, **more) -> dict:
    candidate = {"provider": "openai_compat", "model": "m", "endpoint": endpoint}
    messages = [{"role": "ROLE_USER", "text": "How old is the cat?"}]
    return {"messages": messages, "candidates": [candidate], **more}


async def test_a_chat_with_a_schema_is_repaired_over_rest(http):
    async with openai_server(WRONG, FITS) as model:
        asked = chat(model.endpoint, output_schema=AGE)
        answer = (await http.post("/v1/router:complete", json=asked)).json()
    assert json.loads(answer["message"]["text"]) == {"age": 3}
    (besides,) = answer["finish"]["besides"]
    assert (besides["model"], besides["calls"]) == ("m", 1)


async def test_an_answer_that_never_fits_is_503(http):
    async with openai_server(WRONG) as model:
        asked = chat(model.endpoint, output_schema=AGE)
        answer = await http.post("/v1/router:complete", json=asked)
    (info, *_) = answer.json()["details"]
    assert (answer.status_code, info["reason"]) == (503, "OUTPUT_INVALID")
    assert info["metadata"] == {"provider": "openai_compat", "model": "m"}


async def test_a_schema_that_is_none_is_400_and_names_the_place(http):
    schema = {"type": "object", "properties": {"age": {"$ref": "http://127.0.0.1:1/age.json"}}}
    async with openai_server(FITS) as model:
        asked = chat(model.endpoint, output_schema=schema)
        answer = await http.post("/v1/router:complete", json=asked)
        assert model.requests == []
    fields = [
        violation["field"]
        for detail in answer.json()["details"]
        for violation in detail.get("field_violations", ())
    ]
    assert (answer.status_code, fields) == (400, ["output_schema.properties.age.$ref"])


async def test_a_second_chat_that_is_the_same_says_that_it_is_cached(http):
    async with openai_server(FITS) as model:
        asked = chat(model.endpoint, cache_ttl_seconds=60)
        first = (await http.post("/v1/router:complete", json=asked)).json()
        again = (await http.post("/v1/router:complete", json=asked)).json()
        assert len(model.requests) == 1
    assert again["message"] == first["message"]
    assert (first["finish"]["cached"], again["finish"]["cached"]) == (False, True)
    assert again["finish"]["usage"]["cost_usd"] == 0


async def test_an_agent_with_a_schema_that_is_none_is_refused_with_the_place(http, an_agent):
    declared = await an_agent(FITS)
    manifest = (await http.get(declared.path)).json()
    manifest["spec"]["output_schema"] = {"type": "object", "properties": {"a": {"type": "x"}}}
    answer = await http.post("/v1/agents?validate_only=true", json=manifest)
    assert answer.status_code == 400
    assert "spec.output_schema.properties.a.type" in answer.text


async def test_an_agent_answers_from_the_cache_where_it_says_so(http, an_agent):
    declared = await an_agent(FITS)
    primary = {"provider": "openai_compat", "model": "m", "endpoint": declared.model.endpoint}
    policy = {"primary": primary, "routing": {"cache_ttl": 60}}
    cached = await an_agent(model=policy)
    for used in (1, 0):
        run = (await http.post(f"{cached.path}:run", json={"query": "How old?"})).json()
        assert (run["answer"], run["model_usage"][0]["calls"]) == ('{"age": 3}', used)
    assert len(declared.model.requests) == 1
