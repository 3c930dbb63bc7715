"""Runs of which something is on its way to the disk, while others look for it."""

import asyncio
import json
import sqlite3
import time
from contextlib import closing

import pytest

from servers.agents.adapters.opening import open_stores
from servers.agents.runs.record.journal import Journal, first_sequence
from servers.agents.runs.record.log import RunLog
from servers.domain.memory import SessionKey
from servers.domain.run_events import Asked, TextDelta, ToolReturned
from servers.domain.runs import Decision, Run, RunState, Verdict
from servers.kernel.errors import Exhausted
from tests.scripted.http_server import Call, Reply
from tests.unit.agents.troubled import ASK, FULL, IN_SESSION, ME, Troubled, ended, idle

ADDS = Reply((), calls=[Call("calculator", '{"expression": "2+3"}')])
CAREFUL = [{"name": "calculator", "requires_approval": True}]
KEPT = {"conversational": {"backend": "sqlite"}}


async def beat(leases) -> None:
    """Let the keeper look once for runs that nobody works on."""
    leases.reached["news"].clear()
    await leases.release(())  # it hears of that
    await leases.reached["news"].wait()


def written(folder) -> list[list[str]]:
    """The kinds of events that each write has put on record."""
    with closing(sqlite3.connect(f"file:{folder}/runs.db?mode=ro", uri=True)) as database:
        rows = database.execute("SELECT body FROM run_event ORDER BY seq").fetchall()
    return [[kind for kind, *_ in json.loads(body)] for (body,) in rows]


async def test_a_call_that_can_be_made_again_is_written_with_its_result(world):
    tools = [{"name": "calculator"}]
    async with (
        world(ADDS, Reply(()), tools=tools) as here,
        here.runtime(step_seconds=60) as (runtime, _),
    ):
        await runtime.run(ME, ASK)
        (together,) = [each for each in written(here.folder) if "tool_called" in each]
    assert "tool_returned" in together


async def test_the_result_of_any_other_call_waits_for_nothing(world, monkeypatch, tmp_path):
    monkeypatch.setenv("EFFECTS_DIR", str(tmp_path))
    mail = Reply((), calls=[Call("send_mail", '{"to": "ada"}')])
    tools = [{"name": "send_mail", "function": "tests.faults.effects:send_mail"}]
    async with (
        world(mail, Reply(()), tools=tools) as here,
        here.runtime(step_seconds=60) as (runtime, _),
    ):
        await runtime.run(ME, ASK)
        (alone,) = [each for each in written(here.folder) if "tool_returned" in each]
    assert alone == ["tool_returned"]


async def test_an_answer_that_is_not_on_record_is_not_in_its_conversation(world):
    async with world(memory=KEPT) as here, here.runtime() as (runtime, store):
        store.errors["append"] = FULL
        await runtime.create_run(ME, IN_SESSION)
        await here.model.asked.wait()
        assert await idle(runtime)  # the run was left, and will be asked for another answer
        kept = await here.memory.turns(SessionKey(ME.tenant, "helper", "s"))
    assert kept.turns == ()


async def test_a_run_that_is_answered_is_not_taken_up_by_the_keeper_of_its_process(world):
    async with (
        world(ADDS, Reply(("It is 5",)), tools=CAREFUL) as here,
        here.runtime() as (runtime, store),
    ):
        run = await runtime.run(ME, ASK)
        go = store.delay("append")
        approved = Decision("", Verdict.APPROVE)
        answering = asyncio.create_task(runtime.resume(ME, run.id, approved))
        await store.done["append"].wait()  # the run works, as its record says, and nobody is at it
        await beat(here.leases)
        go.set()
        await answering
        run = await ended(runtime, run.id)
        assert (run.answer, run.attempt) == ("It is 5", 1)
        assert len(here.model.requests) == 2


async def test_nobody_is_asked_about_a_call_that_is_not_on_record(world):
    async with (
        world(ADDS, tools=CAREFUL) as here,
        here.runtime() as (runtime, store),
    ):
        store.errors["append"] = FULL
        run = await runtime.create_run(ME, ASK)
        log = runtime._active.get(ME.tenant, run.id).log
        assert await idle(runtime)  # the next process asks the model again, for another call maybe
    assert not [each for each in log.events if isinstance(each.payload, Asked)]


async def test_a_call_is_not_made_by_an_approval_that_is_not_on_record(
    world, tmp_path, monkeypatch
):
    monkeypatch.setenv("EFFECTS_DIR", str(tmp_path))
    (tmp_path / "hold").touch()
    mail = Call("send_mail", '{"to": "ada"}')
    slow = {"name": "send_mail", "function": "tests.faults.effects:send_mail"}
    calls = Reply((), calls=[ADDS.calls[0], mail])
    async with (
        world(calls, tools=[*CAREFUL, slow]) as here,
        here.runtime() as (runtime, store),
    ):
        run = await runtime.create_run(ME, ASK)
        log = runtime._active.get(ME.tenant, run.id).log
        while not (tmp_path / "sent").exists():  # noqa: ASYNC110  # written by a tool
            await asyncio.sleep(0.001)
        store.errors["append"] = FULL
        with pytest.raises(Exhausted):
            await runtime.resume(ME, run.id, Decision("1.0", Verdict.APPROVE))
        (tmp_path / "hold").unlink()
        assert await idle(runtime)
    returned = [e.payload.call_id for e in log.events if isinstance(e.payload, ToolReturned)]
    assert returned == ["1.1"]


async def test_sequences_after_a_crash_are_beyond_what_a_stuck_disk_did_not_take(tmp_path):
    run = Run("r", "acme", "helper", "1", "s", RunState.RUNNING, "hello?")
    async with open_stores(tmp_path, time.time, lambda: "here") as stores:
        await stores.runs.create(run)
        store = Troubled(stores.runs)
        go = store.hold("append")
        journal = Journal(RunLog(run.id, time.time), store, run.durability, on_record=True)
        for _ in range(20_000):  # what a fast model says in some minutes
            journal.emit(TextDelta("a"))
        after = first_sequence(run, await stores.runs.events(run.id))
        assert after > journal.log.events[-1].sequence
        go.set()
        await journal.commit()
