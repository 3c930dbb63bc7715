"""The small real model inside the mesh, asked through the public port."""

import json

import pytest

LOCAL = {"provider": "local", "model": "smollm2-135m-instruct"}
SETTINGS = {"parameters": {"max_tokens": 12, "temperature": 0}}

pytestmark = pytest.mark.local_model


async def test_a_real_model_speaks_token_by_token(http, an_agent):
    helper = await an_agent(model={"primary": LOCAL | SETTINGS})
    question = {"query": "Say hello to Ada."}
    headers = {"accept": "text/event-stream"}
    events = []
    async with http.stream("POST", f"{helper.path}:stream", json=question, headers=headers) as told:
        async for line in told.aiter_lines():
            if line:
                events.append(json.loads(line.removeprefix("data: ")))
    pieces = [event["text_delta"]["text"] for event in events if "text_delta" in event]
    times = [event["time"] for event in events if "text_delta" in event]
    run = events[-1]["completed"]
    assert len(pieces) > 3
    assert times == sorted(set(times))  # each at its own time, not all at the end
    assert "".join(pieces) == run["answer"]
    assert 0 < run["usage"]["completion_tokens"] <= 12
    assert [used["provider"] for used in run["model_usage"]] == ["local"]


async def test_a_real_model_counts_what_it_is_charged_with(http):
    chat = {"messages": [{"role": "ROLE_USER", "text": "Say hello to Ada."}]}
    asked = chat | {"candidates": [LOCAL], "sampling": {"max_tokens": 1}}
    answer = (await http.post("/v1/router:complete", json=asked, timeout=60)).json()
    counted = (await http.post("/v1/router:countTokens", json=chat | {"candidate": LOCAL})).json()
    assert (counted["exact"], counted["provider"]) == (True, "local")
    assert counted["tokens"] == answer["finish"]["usage"]["prompt_tokens"]
