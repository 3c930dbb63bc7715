"""Every REST path of the mesh, asked through the public port of a started mesh."""

import asyncio
import json

import httpx
import pytest

from tests.patience import PATIENCE, PROMPTLY
from tests.running import agent
from tests.scripted.http_server import Call, Reply, Then

SSE = {"accept": "text/event-stream"}
HELLO = {"query": "hello?"}
ADD = Reply((), calls=[Call("calculator", '{"expression": "2+3"}')])
TOOLS = [{"name": "calculator"}]
MEMORY = {"conversational": {"backend": "sqlite", "strategy": "sliding_window", "max_turns": 4}}
ENVELOPE = {"run_id", "sequence", "time"}


async def posted(http, path, body=None):
    answer = await http.post(path, json=HELLO if body is None else body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def got(http, path, **parameters):
    answer = await http.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def lines(answer: httpx.Response):
    """The events of a stream: JSON lines, or server-sent events."""
    async for line in answer.aiter_lines():
        if line:
            yield json.loads(line.removeprefix("data: "))


async def streamed(http, path, headers=None, method="POST"):
    body = HELLO if method == "POST" else None
    async with http.stream(method, path, json=body, headers=headers) as answer:
        assert answer.status_code == 200, await answer.aread()
        return [event async for event in lines(answer)]


def refused(answer: httpx.Response):
    """HTTP status, reason and message of an error."""
    body = answer.json()
    return answer.status_code, body["details"][0]["reason"], body["message"]


def payload(event):
    (name,) = set(event) - ENVELOPE
    return name


def told(event):
    """An event without its time: deltas that are stored together share one."""
    return {key: value for key, value in event.items() if key != "time"}


class TestHealth:
    async def test_is_200_when_agents_can_run(self, http):
        health = await got(http, "/v1/health")
        assert health["status"] == "ok"
        assert all(service["ready"] for service in health["services"])


class TestARun:
    @pytest.mark.parametrize("verb", [":run", "/run"])
    async def test_answers_under_both_its_names(self, http, an_agent, verb):
        helper = await an_agent(Reply(("Good ", "day"), prompt_tokens=11))
        run = await posted(http, helper.path + verb)
        assert run["run_id"]
        assert (run["state"], run["stop_reason"], run["answer"], run["usage"]["prompt_tokens"]) == (
            "RUN_STATE_COMPLETED",
            "STOP_REASON_ANSWER",
            "Good day",
            11,
        )

    async def test_takes_a_session(self, http, an_agent):
        helper = await an_agent()
        run = await posted(http, f"{helper.path}:run", HELLO | {"session_id": "s-1"})
        assert run["session_id"] == "s-1"

    async def test_takes_variables_for_its_prompt(self, http, an_agent):
        helper = await an_agent(prompts={"system": "You talk with {{ user.name }}."})
        body = HELLO | {"context": {"user": {"name": "Ada"}}}
        await posted(http, f"{helper.path}:run", body)
        assert helper.model.requests[0].body["messages"][0] == {
            "role": "system",
            "content": "You talk with Ada.",
        }

    async def test_with_a_request_id_seen_before_is_the_same_run(self, http, an_agent):
        helper = await an_agent()
        body = HELLO | {"request_id": "order-17"}
        first = await posted(http, f"{helper.path}:run", body)
        assert await posted(http, f"{helper.path}/run", body) == first
        assert len(helper.model.requests) == 1

    @pytest.mark.parametrize("name", ["none", "exit", "step", "DURABILITY_NONE"])
    async def test_takes_a_durability(self, http, an_agent, name):
        helper = await an_agent()
        run = await posted(http, f"{helper.path}:run", HELLO | {"durability": name})
        assert run["durability"].lower().endswith(name.lower())

    async def test_may_name_its_agent_as_a_resource(self, http, an_agent):
        helper = await an_agent()
        run = await posted(http, f"/v1/agents/agents%2F{helper.name}:run")
        assert run["agent"] == helper.name


class TestAStream:
    @pytest.mark.parametrize("verb", [":stream", "/stream"])
    @pytest.mark.parametrize("headers", [None, SSE], ids=["json-lines", "sse"])
    async def test_tells_everything_that_happens(self, http, an_agent, verb, headers):
        helper = await an_agent(ADD, Reply(("It is ", "5")), tools=TOOLS)
        events = await streamed(http, helper.path + verb, headers)
        payloads = [payload(event) for event in events]
        assert {"state_change", "tool_call", "tool_result", "usage", "text_delta"} < set(payloads)
        assert payloads[-1] == "completed"
        assert events[-1]["completed"]["answer"] == "It is 5"

    async def test_numbers_its_events(self, http, an_agent):
        events = await streamed(http, f"{(await an_agent()).path}:stream")
        assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
        assert len({event["run_id"] for event in events}) == 1

    @pytest.mark.parametrize(
        ("headers", "kind"), [(None, "application/json"), (SSE, "text/event-stream")]
    )
    async def test_has_the_type_that_was_asked_for(self, http, an_agent, headers, kind):
        path = f"{(await an_agent()).path}:stream"
        async with http.stream("POST", path, json=HELLO, headers=headers) as answer:
            assert answer.headers["content-type"] == kind

    @pytest.mark.parametrize("headers", [None, SSE], ids=["json-lines", "sse"])
    async def test_tells_what_the_model_says_while_it_speaks(self, http, an_agent, headers):
        helper = await an_agent(Reply(("Once",), then=Then.HANG))
        path = f"{helper.path}:stream"
        async with http.stream("POST", path, json=HELLO, headers=headers) as answer:
            async for event in lines(answer):
                if "text_delta" in event:
                    break
        assert event["text_delta"]["text"] == "Once"

    async def test_of_a_run_that_fails_ends_with_its_error(self, http, an_agent):
        helper = await an_agent(Reply(status=500, error="broken"))
        events = await streamed(http, f"{helper.path}:stream")
        completed = events[-1]["completed"]
        assert (completed["state"], completed["error"]["code"]) == ("RUN_STATE_FAILED", 14)


class TestRuns:
    async def test_start_in_the_background(self, http, an_agent):
        helper = await an_agent(Reply((), then=Then.HANG))
        run = await posted(http, f"{helper.path}/runs")
        assert run["state"] == "RUN_STATE_RUNNING"
        await posted(http, f"/v1/runs/{run['run_id']}:cancel", {})

    async def test_are_found_by_their_id(self, http, an_agent):
        run = await posted(http, f"{(await an_agent()).path}:run")
        assert await got(http, f"/v1/runs/{run['run_id']}") == run

    async def test_are_listed_newest_first(self, http, an_agent):
        helper = await an_agent()
        runs = [await posted(http, f"{helper.path}:run") for _ in range(2)]
        listed = await got(http, f"{helper.path}/runs")
        assert [run["run_id"] for run in listed["runs"]] == [run["run_id"] for run in runs[::-1]]

    async def test_are_listed_page_by_page(self, http, an_agent):
        helper = await an_agent()
        runs = [await posted(http, f"{helper.path}:run") for _ in range(2)]
        first = await got(http, "/v1/runs", agent=helper.name, page_size=1)
        token = first["next_page_token"]
        rest = await got(http, "/v1/runs", agent=helper.name, page_size=1, page_token=token)
        assert [page["runs"][0]["run_id"] for page in (first, rest)] == [
            run["run_id"] for run in runs[::-1]
        ]

    async def test_are_listed_by_state(self, http, an_agent):
        helper = await an_agent()
        await posted(http, f"{helper.path}:run")
        listed = await got(http, f"{helper.path}/runs", states="RUN_STATE_FAILED")
        assert listed == {"runs": [], "next_page_token": ""}

    @pytest.mark.parametrize("headers", [None, SSE], ids=["json-lines", "sse"])
    async def test_tell_their_events_again_after_a_position(self, http, an_agent, headers):
        live = await streamed(http, f"{(await an_agent()).path}:stream")
        path = f"/v1/runs/{live[0]['run_id']}/events?after_sequence=2"
        again = await streamed(http, path, headers, "GET")
        assert [told(event) for event in again] == [told(event) for event in live[2:]]

    async def test_at_work_can_be_followed_to_their_end(self, http, an_agent):
        go = asyncio.Event()
        helper = await an_agent(Reply(("done",), hold=go))
        run = await posted(http, f"{helper.path}/runs")
        path = f"/v1/runs/{run['run_id']}/events"
        async with http.stream("GET", path) as answer:
            events = lines(answer)
            await anext(events)
            go.set()
            rest = [event async for event in events]
        assert rest[-1]["completed"]["answer"] == "done"

    async def test_can_be_cancelled(self, http, an_agent):
        helper = await an_agent(Reply(("Once",), then=Then.HANG))
        run = await posted(http, f"{helper.path}/runs")
        await asyncio.wait_for(helper.model.asked.wait(), PATIENCE)
        path = f"/v1/runs/{run['run_id']}:cancel"
        ended = await posted(http, path, {"reason": "changed my mind"})
        await asyncio.wait_for(helper.model.left.wait(), PROMPTLY)
        assert ended["state"] == "RUN_STATE_CANCELLED"

    async def test_that_have_ended_can_not(self, http, an_agent):
        run = await posted(http, f"{(await an_agent()).path}:run")
        answer = await http.post(f"/v1/runs/{run['run_id']}:cancel", json={})
        assert refused(answer)[:2] == (400, "RUN_ENDED")


class TestMemory:
    @pytest.fixture
    async def history(self, http, an_agent):
        """The path of a session with one exchange."""
        helper = await an_agent(Reply(("Hi Ada",)), memory=MEMORY)
        await posted(http, f"{helper.path}:run", {"query": "I am Ada", "session_id": "s"})
        return f"/v1/memory/{helper.name}/history/s"

    async def test_has_both_turns_of_an_exchange(self, http, history):
        turns = (await got(http, history))["turns"]
        assert [(turn["message"]["role"], turn["message"]["text"]) for turn in turns] == [
            ("ROLE_USER", "I am Ada"),
            ("ROLE_ASSISTANT", "Hi Ada"),
        ]

    async def test_is_forgotten_on_request(self, http, history):
        assert (await http.delete(history)).json() == {"deleted_turns": 2}
        assert (await got(http, history))["turns"] == []

    @pytest.mark.parametrize("verb", ["", ":append"])
    async def test_takes_turns_from_elsewhere(self, http, history, verb):
        said = {"messages": [{"role": "ROLE_USER", "text": "And you?"}]}
        assert await posted(http, history + verb, said) == {"total_turns": 3}

    async def test_shows_what_a_model_would_see(self, http, history):
        shown = await posted(http, f"{history}:buildContext", {"max_turns": 1})
        assert [message["text"] for message in shown["messages"]] == ["Hi Ada"]


class TestTools:
    async def test_are_listed(self, http):
        names = [tool["name"] for tool in (await got(http, "/v1/tools"))["tools"]]
        assert {"calculator", "current_time", "http_get", "json_query"} <= set(names)

    async def test_have_a_schema(self, http):
        tool = await got(http, "/v1/tools/calculator")
        assert tool["parameters"]["properties"]["expression"]["type"] == "string"

    @pytest.mark.parametrize("verb", [":call", "/call"])
    async def test_are_called_under_both_names(self, http, verb):
        body = {"arguments": {"expression": "6*7"}}
        result = await posted(http, f"/v1/tools/calculator{verb}", body)
        assert (result["content"], result["outcome"]) == ("42", "TOOL_OUTCOME_OK")

    async def test_do_not_ask_addresses_inside_the_network(self, http, started):
        body = {"arguments": {"url": f"{started.url}/v1/health"}}
        result = await posted(http, "/v1/tools/http_get:call", body)
        assert result["outcome"] == "TOOL_OUTCOME_ERROR"
        assert "127.0.0.1" in result["content"]


class TestTheRouter:
    @pytest.fixture
    async def candidates(self, an_agent):
        model = (await an_agent(Reply(("Good ", "day")))).model
        return [{"provider": "openai_compat", "endpoint": model.endpoint, "model": "m"}]

    @pytest.fixture
    def chat(self, candidates):
        return {"candidates": candidates, "messages": [{"role": "ROLE_USER", "text": "hi"}]}

    async def test_completes(self, http, chat):
        answer = await posted(http, "/v1/router:complete", chat)
        assert answer["message"]["text"] == "Good day"

    async def test_streams(self, http, chat):
        path = "/v1/router:streamComplete"
        async with http.stream("POST", path, json=chat) as answer:
            steps = [step async for step in lines(answer)]
        assert "".join(step.get("text", "") for step in steps) == "Good day"

    async def test_lists_providers(self, http):
        providers = (await got(http, "/v1/providers"))["providers"]
        assert {"company": ["big"]}.items() <= {p["name"]: p["models"] for p in providers}.items()

    async def test_lists_models(self, http):
        (model,) = (await got(http, "/v1/router/models"))["models"]
        assert (model["provider"], model["model"]) == ("company", "big")

    async def test_opens_a_breaker_by_hand(self, http, chat):
        chat["candidates"] = [chat["candidates"][0] | {"provider": "company"}]
        await posted(http, "/v1/router:complete", chat)
        path = "/v1/providers/company:updateBreaker"
        opened = await posted(http, path, {"state": "BREAKER_STATE_OPEN"})
        answer = await http.post("/v1/router:complete", json=chat)
        await posted(http, path, {"state": "BREAKER_STATE_CLOSED"})
        assert {breaker["state"] for breaker in opened["breakers"]} == {"BREAKER_STATE_OPEN"}
        assert refused(answer)[:2] == (503, "NO_PROVIDER_LEFT")


class TestAgents:
    @pytest.fixture
    async def helper(self, http, an_agent):
        """An agent as the mesh shows it."""
        return await got(http, (await an_agent(Reply(("Hi",)))).path)

    async def test_are_listed(self, http, helper):
        listed = await got(http, "/v1/agents", page_size=1000)
        assert helper in listed["agents"]

    async def test_can_be_created_for_a_try(self, http):
        trial = agent("trial", "http://127.0.0.1:1")
        answer = await http.post("/v1/agents?validate_only=true", json=trial)
        assert answer.json()["status"]["ready"]
        assert (await http.get("/v1/agents/trial")).status_code == 404

    async def test_have_one_name_each(self, http, helper):
        answer = await http.post("/v1/agents", json=helper | {"status": None, "etag": ""})
        assert refused(answer)[:2] == (409, "ALREADY_EXISTS")

    async def test_change_where_the_mask_says(self, http, helper):
        name = helper["metadata"]["name"]
        change = {
            "metadata": {"version": "2.0.0"},
            "spec": {"prompts": {"system": "Be brief."}},
        }
        path = f"/v1/agents/{name}?update_mask=spec.prompts"
        changed = (await http.patch(path, json=change)).json()
        assert changed["spec"]["prompts"]["system"] == "Be brief."
        assert changed["metadata"]["version"] == "1.0.0"
        assert changed["etag"] != helper["etag"]

    async def test_change_only_if_they_are_as_they_were_read(self, http, helper):
        path = f"/v1/agents/{helper['metadata']['name']}?update_mask=spec.prompts"
        change = {"spec": {"prompts": {"system": "Be brief."}}, "etag": helper["etag"]}
        assert (await http.patch(path, json=change)).status_code == 200
        assert refused(await http.patch(path, json=change))[:2] == (409, "ETAG_MISMATCH")

    async def test_are_forgotten(self, http, helper):
        path = f"/v1/agents/{helper['metadata']['name']}"
        assert (await http.delete(path)).status_code == 200
        assert (await http.get(path)).status_code == 404

    async def test_are_forgotten_only_if_they_are_as_they_were_read(self, http, helper):
        path = f"/v1/agents/{helper['metadata']['name']}"
        answer = await http.delete(path, params={"etag": "old"})
        assert refused(answer)[:2] == (409, "ETAG_MISMATCH")
        assert (await http.get(path)).status_code == 200


class TestASecret:
    KEY = "sk-very-secret"

    @pytest.fixture
    async def keyed(self, http, an_agent):
        model = (await an_agent()).model
        primary = {"provider": "openai_compat", "endpoint": model.endpoint, "model": "m"}
        primary["api_key"] = self.KEY
        return await an_agent(model={"primary": primary}), model

    async def test_is_never_shown(self, http, keyed):
        answer = await http.get(keyed[0].path)
        assert answer.json()["spec"]["model"]["primary"]["api_key"] == "***"
        assert self.KEY not in answer.text + (await http.get("/v1/agents?page_size=1000")).text

    async def test_sent_back_as_stars_stays_what_it_was(self, http, keyed):
        helper, model = keyed
        shown = await got(http, helper.path)
        shown["spec"]["identity"] = {"role": "a helper"}
        assert (await http.patch(helper.path, json=shown)).status_code == 200
        await posted(http, f"{helper.path}:run")
        assert model.requests[0].headers["authorization"] == f"Bearer {self.KEY}"
