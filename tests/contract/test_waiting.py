"""Runs that wait for something from outside, checked in process and over the wire alike."""

import asyncio

import pytest

from servers.domain.caller import Caller
from servers.domain.run_events import Asked, Decided, StateChanged, ToolCalled
from servers.domain.runs import AskKind, Decision, RunState, Verdict
from servers.kernel.errors import Denied, InvalidInput, NotFound, NotReady
from tests.contract.waiting_fixture import (
    ADD,
    APPROVE,
    ASK,
    CAREFUL,
    DONE,
    ME,
    WANTS,
    reached,
    seen,
    world,
)
from tests.patience import PATIENCE
from tests.scripted.http_server import Call, Reply, Then

__all__ = ["reached", "world"]
CAMERA = [{"name": "camera", "type": "client", "description": "Takes a picture"}]
TIMER = [{"name": "wait", "type": "timer"}]
REJECT = Decision("", Verdict.REJECT, "too dear")


def said_to_model(model, request=-1):
    return model.requests[request].body["messages"][-1]["content"]


class TestAToolThatNeedsApproval:
    async def test_makes_its_run_wait(self, world):
        async with world(WANTS, tools=CAREFUL) as (agents, model, _):
            run = await agents.run(ME, ASK)
            assert run.state is RunState.WAITING_APPROVAL
            assert len(model.requests) == 1

    async def test_shows_the_exact_arguments(self, world):
        async with world(WANTS, tools=CAREFUL) as (agents, _, _):
            (ask,) = (await agents.run(ME, ASK)).waiting
        assert (ask.kind, ask.tool, ask.arguments) == (
            AskKind.APPROVAL,
            "calculator",
            ADD.arguments,
        )

    async def test_is_called_once_it_is_approved(self, world):
        async with world(WANTS, DONE, tools=CAREFUL) as (agents, model, _):
            run = await agents.run(ME, ASK)
            run = await agents.resume(ME, run.id, APPROVE, wait=True)
            assert (run.state, run.answer, run.waiting) == (RunState.COMPLETED, "It is 5", ())
            assert said_to_model(model) == "5"

    async def test_is_not_called_before(self, world):
        async with world(WANTS, DONE, tools=CAREFUL) as (agents, _, _):
            run = await agents.run(ME, ASK)
            await agents.resume(ME, run.id, APPROVE, wait=True)
            payloads = [e.payload for e in await seen(agents.events(ME, run.id))]
        kinds = [type(p) for p in payloads]
        assert kinds.index(Asked) < kinds.index(Decided) < kinds.index(ToolCalled)
        assert kinds.count(ToolCalled) == 1

    async def test_that_is_rejected_is_an_observation_with_the_reason(self, world):
        async with world(WANTS, Reply(("Alas",)), tools=CAREFUL) as (agents, model, _):
            run = await agents.run(ME, ASK)
            run = await agents.resume(ME, run.id, REJECT, wait=True)
            assert run.answer == "Alas"
            assert "too dear" in said_to_model(model)
            payloads = [e.payload for e in await seen(agents.events(ME, run.id))]
        assert not [p for p in payloads if isinstance(p, ToolCalled)]

    async def test_is_asked_for_by_a_prompt_that_keeps_the_time_it_began_at(self, world):
        prompts = {"system": "It is {{ now }}."}
        async with world(WANTS, DONE, tools=CAREFUL, prompts=prompts) as (agents, model, _):
            run = await agents.run(ME, ASK)
            await agents.resume(ME, run.id, APPROVE, wait=True)
        first, again = (each.body["messages"][0]["content"] for each in model.requests)
        assert again == first

    async def test_does_not_keep_others_of_the_same_reply_from_being_called(self, world):
        both = Reply((), calls=[ADD, Call("current_time", "{}", "2")])
        tools = [*CAREFUL, {"name": "current_time"}]
        async with world(both, DONE, tools=tools) as (agents, model, _):
            events = await seen(agents.stream(ME, ASK))
            called = [e.payload.name for e in events if isinstance(e.payload, ToolCalled)]
            assert called == ["current_time"]
            await agents.resume(ME, events[0].run_id, APPROVE, wait=True)
            messages = model.requests[-1].body["messages"][-2:]
        assert messages[0]["content"] == "5"

    async def test_can_be_asked_for_several_times(self, world):
        async with world(WANTS, WANTS, DONE, tools=CAREFUL) as (agents, _, _):
            run = await agents.run(ME, ASK)
            run = await agents.resume(ME, run.id, APPROVE, wait=True)
            assert run.state is RunState.WAITING_APPROVAL
            run = await agents.resume(ME, run.id, APPROVE, wait=True)
            assert run.answer == "It is 5"

    async def test_twice_in_one_reply_waits_for_both(self, world):
        both = Reply((), calls=[ADD, Call("calculator", '{"expression": "1+1"}', "2")])
        async with world(both, DONE, tools=CAREFUL) as (agents, model, _):
            run = await agents.run(ME, ASK)
            first, second = (ask.call_id for ask in run.waiting)
            run = await agents.resume(ME, run.id, Decision(second, Verdict.APPROVE), wait=True)
            assert [ask.call_id for ask in run.waiting] == [first]
            run = await agents.resume(ME, run.id, Decision(first, Verdict.REJECT), wait=True)
            messages = model.requests[-1].body["messages"][-2:]
        assert run.state is RunState.COMPLETED
        assert messages[1]["content"] == "2"
        assert "not approved" in messages[0]["content"]


class TestAnAnswerThatComesWhileAnotherCallRuns:
    @pytest.fixture
    def slow(self, tmp_path, monkeypatch):
        """A tool that goes on until the file `hold` is gone."""
        monkeypatch.setenv("EFFECTS_DIR", str(tmp_path))
        (tmp_path / "hold").touch()
        tool = {"name": "send_mail", "function": "tests.faults.effects:send_mail"}
        return Reply((), calls=[ADD, Call("send_mail", '{"to": "eve"}', "2")]), [*CAREFUL, tool]

    async def asked(self, agents, run):
        async with asyncio.timeout(PATIENCE):
            while not (await agents.get_run(ME, run.id)).waiting:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def test_is_used_without_a_wait(self, world, slow, tmp_path):
        both, tools = slow
        async with world(both, DONE, tools=tools) as (agents, _, _):
            run = await agents.create_run(ME, ASK)
            await self.asked(agents, run)
            await agents.resume(ME, run.id, APPROVE)
            (tmp_path / "hold").unlink()
            payloads = [e.payload for e in await seen(agents.events(ME, run.id))]
        assert payloads[-1].run.answer == "It is 5"
        assert StateChanged(RunState.WAITING_APPROVAL) not in payloads

    async def test_is_refused_the_second_time(self, world, slow, tmp_path):
        both, tools = slow
        async with world(both, DONE, tools=tools) as (agents, _, _):
            run = await agents.create_run(ME, ASK)
            await self.asked(agents, run)
            (ask,) = (await agents.get_run(ME, run.id)).waiting
            approve = Decision(ask.call_id, Verdict.APPROVE)
            told = await asyncio.gather(
                *(agents.resume(ME, run.id, approve) for _ in range(3)), return_exceptions=True
            )
            (tmp_path / "hold").unlink()
            await seen(agents.events(ME, run.id))
        refused = [each for each in told if isinstance(each, NotReady)]
        assert [each.reason for each in refused] == ["ALREADY_DECIDED"] * 2


class TestWhoDecides:
    async def test_may_change_the_arguments_where_the_tool_lets_him(self, world):
        tools = [{**CAREFUL[0], "approval": {"editable": True}}]
        async with world(WANTS, DONE, tools=tools) as (agents, model, _):
            run = await agents.run(ME, ASK)
            edited = Decision("", Verdict.APPROVE, arguments='{"expression": "4*4"}')
            await agents.resume(ME, run.id, edited, wait=True)
            assert said_to_model(model) == "16"

    async def test_may_not_where_it_does_not(self, world):
        async with world(WANTS, DONE, tools=CAREFUL) as (agents, _, _):
            run = await agents.run(ME, ASK)
            edited = Decision("", Verdict.APPROVE, arguments='{"expression": "4*4"}')
            with pytest.raises(InvalidInput) as refused:
                await agents.resume(ME, run.id, edited)
            assert refused.value.reason == "NOT_EDITABLE"
            assert (await agents.get_run(ME, run.id)).state is RunState.WAITING_APPROVAL

    async def test_must_be_among_those_who_are_named(self, world):
        tools = [{**CAREFUL[0], "approval": {"principals": ["bob"]}}]
        async with world(WANTS, DONE, tools=tools) as (agents, _, mesh):
            run = await agents.run(ME, ASK)
            with pytest.raises(Denied) as refused:
                await agents.resume(ME, run.id, APPROVE)
            assert refused.value.reason == "APPROVAL_DENIED"
            run = await mesh.agents.resume(Caller("acme", "bob"), run.id, APPROVE, wait=True)
            assert run.state is RunState.COMPLETED

    async def test_is_on_record(self, world):
        async with world(WANTS, DONE, tools=CAREFUL) as (agents, _, mesh):
            run = await agents.run(ME, ASK)
            await mesh.agents.resume(ME, run.id, REJECT, wait=True)
            payloads = [e.payload for e in await seen(agents.events(ME, run.id))]
        (decided,) = [p for p in payloads if isinstance(p, Decided)]
        assert (decided.principal, decided.decision.reason) == ("ann", "too dear")

    async def test_of_another_tenant_does_not_find_the_run(self, world):
        async with world(WANTS, tools=CAREFUL) as (agents, _, mesh):
            run = await agents.run(ME, ASK)
            with pytest.raises(NotFound):
                await mesh.agents.resume(Caller("other"), run.id, APPROVE)


class TestAnAnswer:
    @pytest.mark.parametrize("finished", [True, False], ids=["ended", "running"])
    async def test_to_a_run_that_waits_for_nothing_is_refused(self, world, finished):
        reply = DONE if finished else Reply(("Once",), then=Then.HANG)
        async with world(reply, tools=CAREFUL) as (agents, _, _):
            run = await agents.create_run(ME, ASK)
            if finished:
                await seen(agents.events(ME, run.id))
            with pytest.raises(NotReady) as refused:
                await agents.resume(ME, run.id, APPROVE)
            assert refused.value.reason == "RUN_NOT_WAITING"
            if not finished:
                await agents.cancel(ME, run.id)

    async def test_given_twice_is_refused(self, world):
        async with world(WANTS, DONE, tools=CAREFUL) as (agents, _, _):
            run = await agents.run(ME, ASK)
            approve = Decision(run.waiting[0].call_id, Verdict.APPROVE)
            await agents.resume(ME, run.id, approve, wait=True)
            with pytest.raises(NotReady) as refused:
                await agents.resume(ME, run.id, approve)
            assert refused.value.reason == "ALREADY_DECIDED"

    async def test_given_by_many_at_once_counts_once(self, world):
        async with world(WANTS, DONE, tools=CAREFUL) as (agents, model, _):
            run = await agents.run(ME, ASK)
            approve = Decision(run.waiting[0].call_id, Verdict.APPROVE)
            told = await asyncio.gather(
                *(agents.resume(ME, run.id, approve) for _ in range(8)), return_exceptions=True
            )
            payloads = [e.payload for e in await seen(agents.events(ME, run.id))]
            assert len(model.requests) == 2
        assert len([p for p in payloads if isinstance(p, Decided)]) == 1
        assert len([each for each in told if isinstance(each, NotReady)]) == 7

    async def test_to_a_call_that_was_not_asked_for_is_refused(self, world):
        async with world(WANTS, tools=CAREFUL) as (agents, _, _):
            run = await agents.run(ME, ASK)
            with pytest.raises(NotFound) as refused:
                await agents.resume(ME, run.id, Decision("9.9", Verdict.APPROVE))
            assert refused.value.reason == "NOT_ASKED"

    async def test_of_the_wrong_kind_is_refused(self, world):
        async with world(WANTS, tools=CAREFUL) as (agents, _, _):
            run = await agents.run(ME, ASK)
            with pytest.raises(NotReady) as refused:
                await agents.resume(ME, run.id, Decision("", Verdict.RESULT, content="5"))
            assert refused.value.reason == "WRONG_VERDICT"


class TestAClientsTool:
    async def test_makes_its_run_wait_for_the_result(self, world):
        wants = Reply((), calls=[Call("camera", "{}")])
        async with world(wants, DONE, tools=CAMERA) as (agents, model, _):
            run = await agents.run(ME, ASK)
            assert run.state is RunState.WAITING_INPUT
            taken = Decision("", Verdict.RESULT, content="a cat")
            assert (await agents.resume(ME, run.id, taken, wait=True)).answer == "It is 5"
            assert said_to_model(model) == "a cat"


class TestATimer:
    async def test_makes_its_run_go_on_by_itself(self, world):
        wants = Reply((), calls=[Call("wait", '{"seconds": 2}')])
        async with world(wants, DONE, tools=TIMER) as (agents, model, _):
            run = await agents.run(ME, ASK)
            assert (run.state, run.waiting[0].kind) == (RunState.WAITING_TIMER, AskKind.TIMER)
            events = await seen(agents.events(ME, run.id))
            assert events[-1].payload.run.answer == "It is 5"
            assert "The time has come" in said_to_model(model)

    async def test_with_a_time_that_is_none_is_an_observation(self, world):
        wants = Reply((), calls=[Call("wait", '{"until": "soon"}')])
        async with world(wants, DONE, tools=TIMER) as (agents, model, _):
            assert (await agents.run(ME, ASK)).state is RunState.COMPLETED
            assert "`seconds`" in said_to_model(model)
