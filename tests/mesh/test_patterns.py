"""Each pattern through REST: what it answers, and the parts of the run as they are told."""

import json

import pytest

from tests.scripted.http_server import Call, Reply

PLAN = [{"id": "a", "task": "look"}, {"id": "b", "task": "tell", "depends_on": ["a"]}]


def says(text):
    return Reply((text,))


CASES = {
    "pipeline": (
        {"stages": ["draft", "polish"], "stage_prompts": {"draft": "Draft it."}},
        (says("rough"), says("smooth")),
        "smooth",
        [("STAGE", "draft"), ("STAGE", "polish")],
    ),
    "plan_and_execute": (
        {"max_parallel": 2},
        (says(json.dumps(PLAN)), says("seen"), says("told"), says("done")),
        "done",
        [("STEP", "plan"), ("STEP", "1.a"), ("STEP", "1.b")],
    ),
    "parallel_fan_out": (
        {"max_parallel": 1},
        (says('["look", "listen"]'), says("red"), says("quiet"), says("done")),
        "done",
        [("STEP", "plan"), ("BRANCH", "1"), ("BRANCH", "2")],
    ),
}


@pytest.mark.parametrize(("pattern", "case"), CASES.items(), ids=CASES)
async def test_a_pattern_answers_and_tells_its_parts(http, an_agent, pattern, case):
    orchestration, replies, answer, parts = case
    declared = await an_agent(*replies, orchestration={"pattern": pattern, **orchestration})
    async with http.stream("POST", f"{declared.path}:stream", json={"query": "Go"}) as streamed:
        events = [json.loads(line) async for line in streamed.aiter_lines()]
    run = events[-1]["completed"]
    assert (run["answer"], run["stop_reason"]) == (answer, "STOP_REASON_ANSWER")
    begun = [event["branch_started"] for event in events if "branch_started" in event]
    assert [(part["kind"].removeprefix("BRANCH_KIND_"), part["node"]) for part in begun] == parts
    ended = [event["branch_ended"]["node"] for event in events if "branch_ended" in event]
    assert ended == [node for _, node in parts]
    nodes = [event["model_reply"].get("node", "") for event in events if "model_reply" in event]
    assert nodes == [node for _, node in parts] + [""] * (pattern != "pipeline")


async def test_a_pipeline_with_a_prompt_for_no_stage_is_refused(http, an_agent):
    declared = await an_agent()
    manifest = (await http.get(declared.path)).json()
    manifest["spec"]["orchestration"] = {
        "pattern": "pipeline",
        "stages": ["draft"],
        "stage_prompts": {"drafft": "x"},
    }
    answer = await http.post("/v1/agents?validate_only=true", json=manifest)
    assert (answer.status_code, "did you mean 'draft'" in answer.text) == (400, True)
    assert "spec.orchestration.stage_prompts.drafft" in answer.text


async def test_a_swarm_names_who_had_the_last_word(http, an_agent):
    knowing = await an_agent(says("It is 5"))
    move = Reply((), calls=[Call(f"transfer_to_{knowing.name}", '{"reason": "sums"}')])
    orchestration = {"pattern": "swarm", "max_handoffs": 1}
    team = [{"name": knowing.name, "type": "agent"}]
    greeting = await an_agent(move, orchestration=orchestration, tools=team)
    run = (await http.post(f"{greeting.path}:run", json={"query": "2+3?"})).json()
    assert (run["answer"], run["answered_by"]) == ("It is 5", knowing.name)


async def test_a_swarm_without_agents_is_refused(http, an_agent):
    declared = await an_agent()
    manifest = (await http.get(declared.path)).json()
    manifest["spec"]["orchestration"] = {"pattern": "swarm"}
    answer = await http.post("/v1/agents?validate_only=true", json=manifest)
    assert (answer.status_code, "tools of type agent" in answer.text) == (400, True)
