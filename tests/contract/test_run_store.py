"""What every store of runs promises."""

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from servers.domain.run_events import Completed, Restarted, ToolCalled
from servers.domain.runs import RunFilter, RunState
from servers.kernel.errors import AlreadyExists, Conflict, InvalidInput, NotFound
from tests.contract.run_fixture import (
    ENDED,
    REPLIED,
    STARTED,
    a_run,
    ended,
    event,
    said,
    waiting_run,
)
from tests.patience import PATIENCE


@pytest.fixture
def store(stores):
    return stores.runs


@pytest.fixture
def opened(opening):
    """Opens the same store again and again."""

    @asynccontextmanager
    async def opened():
        async with opening() as stores:
            yield stores.runs

    return opened


class TestCreate:
    async def test_puts_the_run_on_record(self, store):
        await store.create(a_run())
        assert await store.get("acme", "r1") == a_run()

    async def test_returns_the_run_as_new(self, store):
        assert await store.create(a_run()) == (a_run(), True)

    async def test_puts_a_whole_log_on_record_with_it(self, store):
        done = replace(a_run(), state=RunState.COMPLETED, answer="hi")
        log = [STARTED, *said(2, 9), event(10, Completed(done))]
        await store.create(done, events=log)
        assert await store.events("r1") == log

    async def test_survives_the_process(self, opened):
        async with opened() as store:
            await store.create(a_run(), events=[STARTED])
        async with opened() as store:
            assert await store.get("acme", "r1") == a_run()
            assert await store.events("r1") == [STARTED]

    async def test_refuses_a_run_id_that_is_taken(self, store):
        await store.create(a_run())
        with pytest.raises(Conflict, match="'r1'") as caught:
            await store.create(a_run())
        assert caught.value.reason == "FENCED"


class TestARequestId:
    async def test_gives_the_same_run_again(self, store):
        await store.create(a_run(request_id="q"), "hash")
        assert await store.create(a_run("r2", request_id="q"), "hash") == (
            a_run(request_id="q"),
            False,
        )

    async def test_seen_again_stores_nothing(self, store):
        await store.create(a_run(request_id="q"), "hash")
        await store.create(a_run("r2", request_id="q"), "hash", [event(1, REPLIED, "r2")])
        with pytest.raises(NotFound):
            await store.get("acme", "r2")

    async def test_gives_the_run_as_it_is_by_now(self, store):
        await store.create(a_run(request_id="q"), "hash")
        done = a_run(request_id="q", answer="hi")
        await store.append("r1", [STARTED], done)
        assert (await store.create(a_run("r2", request_id="q"), "hash"))[0] == done

    async def test_used_for_another_request_is_refused(self, store):
        await store.create(a_run(request_id="q"), "hash")
        with pytest.raises(AlreadyExists, match="'q'") as caught:
            await store.create(a_run("r2", request_id="q"), "other")
        assert caught.value.reason == "REQUEST_ID_REUSED"

    async def test_of_another_tenant_is_another_one(self, store):
        await store.create(a_run(request_id="q"), "hash")
        other = a_run("r2", request_id="q", tenant="else")
        assert await store.create(other, "other") == (other, True)

    async def test_that_is_empty_makes_a_new_run_each_time(self, store):
        await store.create(a_run("r1"), "hash")
        assert (await store.create(a_run("r2"), "hash"))[1]

    async def test_can_be_looked_up_beforehand(self, store):
        assert await store.requested("acme", "q", "hash") is None
        await store.create(a_run(request_id="q"), "hash")
        assert await store.requested("acme", "q", "hash") == a_run(request_id="q")

    async def test_looked_up_for_another_request_is_refused(self, store):
        await store.create(a_run(request_id="q"), "hash")
        with pytest.raises(AlreadyExists):
            await store.requested("acme", "q", "other")


class TestAppend:
    @pytest.fixture(autouse=True)
    async def begun(self, store):
        await store.create(a_run(), events=[STARTED])

    async def test_adds_to_the_log(self, store):
        await store.append("r1", [event(2, REPLIED)])
        assert await store.events("r1") == [STARTED, event(2, REPLIED)]

    async def test_replaces_the_run_where_one_is_given(self, store):
        done = replace(a_run(), state=RunState.COMPLETED, answer="hi")
        await store.append("r1", [event(2, Completed(done))], done)
        assert await store.get("acme", "r1") == done

    async def test_can_replace_the_run_alone(self, store):
        await store.append("r1", [], replace(a_run(), attempt=2))
        assert (await store.get("acme", "r1")).attempt == 2

    async def test_at_a_stored_sequence_is_fenced_off(self, store):
        await store.append("r1", [event(2, REPLIED)])
        with pytest.raises(Conflict, match="'r1'") as caught:
            await store.append("r1", [event(2, REPLIED)])
        assert caught.value.reason == "FENCED"

    async def test_within_a_stored_stretch_of_text_is_fenced_off(self, store):
        await store.append("r1", said(2, 20))
        with pytest.raises(Conflict):
            await store.append("r1", [event(10, REPLIED)])

    async def test_of_a_former_owner_is_fenced_off_after_a_jump(self, store):
        await store.append("r1", [event(1001, Restarted(2, 1))])
        with pytest.raises(Conflict):
            await store.append("r1", [event(2, ToolCalled("1", "pay", "{}"))])

    async def test_that_is_fenced_off_changes_nothing(self, store):
        with pytest.raises(Conflict):
            await store.append("r1", [STARTED, event(2, REPLIED)], replace(a_run(), attempt=9))
        assert await store.events("r1") == [STARTED]
        assert await store.get("acme", "r1") == a_run()

    async def test_to_an_unknown_run_is_refused(self, store):
        with pytest.raises(NotFound, match="'r9'"):
            await store.append("r9", [event(1, REPLIED, "r9")])

    async def test_does_not_disturb_other_runs(self, store):
        await store.create(a_run("r2"), events=[event(1, REPLIED, "r2")])
        await store.append("r1", [event(2, REPLIED)])
        assert await store.events("r2") == [event(1, REPLIED, "r2")]


class TestEvents:
    @pytest.fixture(autouse=True)
    async def log(self, store):
        log = [STARTED, *said(2, 20), event(21, REPLIED), *said(22, 30)]
        await store.create(a_run(), events=log[:10])
        await store.append("r1", log[10:])
        return log

    @pytest.mark.parametrize("after", range(32))
    async def test_are_read_from_any_position(self, store, log, after):
        assert await store.events("r1", after) == [e for e in log if e.sequence > after]

    @pytest.mark.parametrize("limit", [1, 5, 15, 30])
    async def test_are_read_up_to_a_limit(self, store, log, limit):
        assert await store.events("r1", 3, limit) == log[3 : 3 + limit]

    async def test_of_an_unknown_run_are_none(self, store):
        assert await store.events("r9") == []

    async def test_have_a_last_sequence(self, store):
        assert await store.last_sequence("r1") == 30

    async def test_of_an_empty_log_end_at_zero(self, store):
        await store.create(a_run("r2"))
        assert await store.last_sequence("r2") == 0


class TestGet:
    async def test_does_not_find_an_unknown_run(self, store):
        with pytest.raises(NotFound, match="'r9'"):
            await store.get("acme", "r9")

    async def test_does_not_find_the_run_of_another_tenant(self, store):
        await store.create(a_run())
        with pytest.raises(NotFound, match="'r1'"):
            await store.get("else", "r1")


def ids(page):
    return [run.id for run in page.runs]


class TestList:
    @pytest.fixture(autouse=True)
    async def runs(self, store):
        for run in (
            a_run("r1", created_at=1.0),
            a_run("r2", created_at=2.0, session="t"),
            a_run("r3", created_at=2.0, agent="other"),
            replace(a_run("r4", created_at=3.0), state=RunState.FAILED),
            a_run("r5", created_at=4.0, tenant="else"),
        ):
            await store.create(run)

    async def test_is_newest_first(self, store):
        assert ids(await store.list("acme", RunFilter())) == ["r4", "r3", "r2", "r1"]

    async def test_of_an_unknown_tenant_is_empty(self, store):
        assert ids(await store.list("nobody", RunFilter())) == []

    @pytest.mark.parametrize(
        ("where", "found"),
        [
            (RunFilter(agent="other"), ["r3"]),
            (RunFilter(session="t"), ["r2"]),
            (RunFilter(states=(RunState.FAILED,)), ["r4"]),
            (RunFilter(states=(RunState.FAILED, RunState.RUNNING)), ["r4", "r3", "r2", "r1"]),
            (RunFilter(states=(RunState.RUNNING,)), ["r3", "r2", "r1"]),
            (RunFilter(states=(RunState.RUNNING, RunState.QUEUED), session="t"), ["r2"]),
            (RunFilter(states=(RunState.WAITING_APPROVAL,)), []),
            (RunFilter("helper", "s", (RunState.RUNNING,)), ["r1"]),
            (RunFilter(agent="nobody"), []),
        ],
    )
    async def test_shows_what_the_filter_asks_for(self, store, where, found):
        assert ids(await store.list("acme", where)) == found

    async def test_goes_on_where_the_page_before_ended(self, store):
        first = await store.list("acme", RunFilter(), 3)
        second = await store.list("acme", RunFilter(), 3, first.next_page_token)
        assert (ids(first), ids(second)) == (["r4", "r3", "r2"], ["r1"])

    async def test_ends_without_a_token(self, store):
        assert (await store.list("acme", RunFilter(), 4)).next_page_token == ""

    async def test_is_not_shifted_by_new_runs(self, store):
        first = await store.list("acme", RunFilter(), 2)
        await store.create(a_run("r9", created_at=9.0))
        second = await store.list("acme", RunFilter(), 2, first.next_page_token)
        assert ids(second) == ["r2", "r1"]

    async def test_refuses_a_negative_page_size(self, store):
        with pytest.raises(InvalidInput, match="page_size"):
            await store.list("acme", RunFilter(), -1)

    @pytest.mark.parametrize("page_token", ["x", "ä", "AAAA", "W10", "bnVsbA"])
    async def test_refuses_a_token_that_was_made_up(self, store, page_token):
        with pytest.raises(InvalidInput, match="page_token"):
            await store.list("acme", RunFilter(), 1, page_token)

    async def test_refuses_the_token_of_another_filter(self, store):
        page = await store.list("acme", RunFilter(), 1)
        with pytest.raises(InvalidInput, match="page_token"):
            await store.list("acme", RunFilter(agent="helper"), 1, page.next_page_token)


class TestWaitingRuns:
    @pytest.fixture(autouse=True)
    async def runs(self, store):
        for number in range(4):
            await store.create(a_run(f"r{number}", created_at=float(number)))
            await store.append(
                f"r{number}", [], waiting_run(f"r{number}", created_at=float(number))
            )
        await store.append("r1", [], a_run("r1", created_at=1.0))
        await store.append("r2", [], ended(a_run("r2", created_at=2.0)))

    async def test_are_those_that_wait_by_now(self, store):
        page = await store.list("acme", RunFilter(states=(RunState.WAITING_APPROVAL,)))
        assert ids(page) == ["r3", "r0"]

    async def test_are_listed_in_pages(self, store):
        where = RunFilter(states=(RunState.WAITING_APPROVAL, RunState.WAITING_INPUT))
        first = await store.list("acme", where, 1)
        second = await store.list("acme", where, 1, first.next_page_token)
        assert (ids(first), ids(second), second.next_page_token) == (["r3"], ["r0"], "")


class TestTrees:
    @pytest.fixture(autouse=True)
    async def runs(self, store):
        for run in (
            a_run("r1", created_at=1.0),
            a_run("r2", created_at=2.0, parent="r1", root="r1", depth=1),
            a_run("r3", created_at=3.0, parent="r2", root="r1", depth=2),
            a_run("r4", created_at=4.0),
        ):
            await store.create(run)

    async def test_are_listed_whole(self, store):
        assert ids(await store.list("acme", RunFilter(root="r1"))) == ["r3", "r2", "r1"]

    async def test_are_listed_level_by_level(self, store):
        assert ids(await store.list("acme", RunFilter(parent="r1"))) == ["r2"]

    async def test_are_listed_in_pages(self, store):
        first = await store.list("acme", RunFilter(root="r1"), 2)
        second = await store.list("acme", RunFilter(root="r1"), 2, first.next_page_token)
        assert (ids(first), ids(second)) == (["r3", "r2"], ["r1"])


class TestLine:
    async def test_holds_the_runs_of_a_session_oldest_first(self, store):
        for run in (a_run("r2", created_at=2.0), a_run("r1"), a_run("r3", created_at=3.0)):
            await store.create(run)
        assert await store.line("acme", "helper", "s") == ["r1", "r2", "r3"]

    @pytest.mark.parametrize(
        "other", [{"session": "t"}, {"agent": "other"}, {"tenant": "else"}], ids=str
    )
    async def test_holds_no_others(self, store, other):
        await store.create(a_run(**other))
        assert await store.line("acme", "helper", "s") == []

    @pytest.mark.parametrize("state", RunState)
    async def test_holds_what_has_not_ended(self, store, state):
        await store.create(a_run(state=state))
        assert bool(await store.line("acme", "helper", "s")) is not state.terminal

    @pytest.mark.parametrize("state", ENDED)
    async def test_moves_on_when_a_run_ends(self, store, state):
        await store.create(a_run("r1"))
        await store.create(a_run("r2", created_at=2.0))
        await store.append("r1", [STARTED], ended(a_run("r1"), state))
        assert await store.line("acme", "helper", "s") == ["r2"]

    async def test_stands_while_its_first_run_waits(self, store):
        await store.create(a_run("r1"))
        await store.append("r1", [], waiting_run("r1"))
        assert await store.line("acme", "helper", "s") == ["r1"]


LONG = 600.0  # seconds that no test waits for


@pytest.fixture
def waited(store):
    """Seconds that `changed` took."""

    async def waited(*values) -> float:
        started = time.monotonic()
        async with asyncio.timeout(PATIENCE):
            await store.changed(*values)
        return time.monotonic() - started

    return waited


class TestChanged:
    @pytest.fixture(autouse=True)
    async def begun(self, store):
        await store.create(a_run(), events=[STARTED])

    async def test_returns_at_once_where_there_are_events(self, waited):
        await waited("r1", 0, LONG)

    async def test_returns_when_events_come(self, store, waited):
        waiting = asyncio.create_task(waited("r1", 1, LONG))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await store.append("r1", [event(2, REPLIED)])
        await waiting

    async def test_returns_to_all_who_wait(self, store, waited):
        waiting = [asyncio.create_task(waited("r1", 1, LONG)) for _ in range(3)]
        await asyncio.sleep(0.05)
        await store.append("r1", [event(2, REPLIED)])
        await asyncio.gather(*waiting)

    async def test_returns_when_the_log_begins(self, store, waited):
        waiting = asyncio.create_task(waited("r2", 0, LONG))
        await asyncio.sleep(0.05)
        await store.create(a_run("r2"), events=[event(1, REPLIED, "r2")])
        await waiting

    async def test_returns_after_so_many_seconds(self, waited):
        assert await waited("r1", 1, 0.2) >= 0.2

    async def test_waits_on_while_another_log_grows(self, store, waited):
        waiting = asyncio.create_task(waited("r1", 1, 0.5))
        await store.create(a_run("r2"), events=[event(1, REPLIED, "r2")])
        assert await waiting >= 0.5
