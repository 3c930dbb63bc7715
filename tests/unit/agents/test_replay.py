"""What a run finds on record when it goes on."""

import pytest

from servers.agents.runs.replay import Replay
from servers.domain.chat import Finish, Role, says
from servers.domain.runs import (
    ModelReplied,
    RunEvent,
    RunState,
    StateChanged,
    TextDelta,
    ToolCalled,
    ToolReturned,
)
from servers.kernel.errors import DataLost

REPLY = ModelReplied(1, says(Role.ASSISTANT, "hm"), Finish())
CALL = ToolCalled("1.0", "add", '{"a": 1}')
RESULT = ToolReturned("1.0", "add", "2")


def recorded(*payloads):
    return Replay([RunEvent("r", at, 0.0, payload) for at, payload in enumerate(payloads, 1)])


def test_a_model_reply_is_found_by_its_number():
    assert recorded(REPLY).reply(1) == REPLY


def test_a_model_call_that_did_not_end_is_made_again():
    assert recorded(TextDelta("h", 1)).reply(1) is None


def test_a_tool_result_is_found_by_its_call():
    assert recorded(CALL, RESULT).result(CALL) == RESULT


def test_a_call_that_began_is_known_to_have_begun():
    assert recorded(CALL).started("1.0")


def test_a_run_that_calls_another_tool_than_before_is_stopped():
    with pytest.raises(DataLost) as stopped:
        recorded(CALL).check(ToolCalled("1.0", "remove", "{}"))
    assert stopped.value.reason == "REPLAY_MISMATCH"


def test_text_of_an_unfinished_model_call_is_void():
    replay = recorded(StateChanged(RunState.RUNNING), REPLY, TextDelta("half", 2))
    assert (replay.last_step, replay.last_sequence) == (2, 3)
