"""What a run finds on record when it goes on."""

from dataclasses import replace

import pytest

from servers.agents.runs.record.replay import Replay
from servers.domain.chat import Finish, Role, says
from servers.domain.run_events import (
    BranchKind,
    BranchStarted,
    EpisodesRecalled,
    KnowledgeFound,
    MemoriesRecalled,
    ModelReplied,
    RunEvent,
    StateChanged,
    TextDelta,
    ToolCalled,
    ToolReturned,
)
from servers.domain.runs import RunState
from servers.domain.sources import Source
from servers.kernel.errors import DataLost

REPLY = ModelReplied(1, says(Role.ASSISTANT, "hm"), Finish())
CALL = ToolCalled("1.0", "add", '{"a": 1}')
RESULT = ToolReturned("1.0", "add", "2")


def recorded(*payloads):
    return Replay([RunEvent("r", at, 0.0, payload) for at, payload in enumerate(payloads, 1)])


def test_a_model_reply_is_found_by_its_position():
    assert recorded(REPLY).reply("", 0) == REPLY


def test_replies_of_another_part_of_the_run_do_not_count():
    other = replace(REPLY, model_call=2, node="draft")
    assert recorded(other, REPLY).reply("", 0) == REPLY


def test_a_new_model_call_gets_a_number_that_none_on_record_has():
    assert recorded(REPLY, replace(REPLY, model_call=7, node="draft")).model_calls == 7


def test_a_model_call_that_did_not_end_is_made_again():
    assert recorded(TextDelta("h", 1)).reply("", 0) is None


def test_a_tool_result_is_found_by_its_call():
    assert recorded(CALL, RESULT).result(CALL.call_id) == RESULT


def test_a_call_that_began_is_known_to_have_begun():
    assert recorded(CALL).started("1.0")


def test_a_run_that_calls_another_tool_than_before_is_stopped():
    with pytest.raises(DataLost) as stopped:
        recorded(CALL).check(ToolCalled("1.0", "remove", "{}"))
    assert stopped.value.reason == "REPLAY_MISMATCH"


def test_a_part_that_is_another_one_than_before_stops_the_run():
    start = BranchStarted("1", "", BranchKind.STEP, "look it up")
    with pytest.raises(DataLost) as stopped:
        recorded(start).check_branch(replace(start, name="guess"))
    assert stopped.value.reason == "REPLAY_MISMATCH"


def test_a_run_that_waits_does_not_work():
    waits = StateChanged(RunState.WAITING_APPROVAL)
    assert not recorded(StateChanged(RunState.RUNNING), waits).running


def test_text_of_an_unfinished_model_call_is_void():
    replay = recorded(StateChanged(RunState.RUNNING), REPLY, TextDelta("half", 2))
    assert (replay.last_step, replay.last_sequence) == (2, 3)


SOURCE = Source(1, "a.txt", "A", "", 0, 9, 0.5)


@pytest.mark.parametrize("shown", ["passages", ""])
def test_what_was_shown_is_shown_again_be_it_nothing(shown):
    found = KnowledgeFound("p", (SOURCE,) if shown else (), text=shown)
    again = recorded(found, MemoriesRecalled((), shown), EpisodesRecalled((), shown))
    assert (again.knowledge, again.memories, again.episodes) == (shown,) * 3


def test_what_is_not_on_record_is_looked_up():
    again = recorded(KnowledgeFound("p", (SOURCE,), call_id="1.0"))
    assert (again.knowledge, again.memories, again.episodes) == (None,) * 3
    assert again.sources == [SOURCE]
