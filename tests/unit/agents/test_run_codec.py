"""Runs and events lie in rows without loss; the form of the rows is what older files have."""

from typing import get_args

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servers.agents.adapters.run_codec import Row, events_of, row_of, run_body, run_from
from servers.domain.chat import (
    Finish,
    FinishReason,
    Image,
    Message,
    ModelUsage,
    Notice,
    Role,
    Text,
    ToolCall,
    Usage,
    says,
)
from servers.domain.run_events import (
    Asked,
    BranchEnded,
    BranchKind,
    BranchStarted,
    Completed,
    Decided,
    EpisodesRecalled,
    Guarded,
    KnowledgeFound,
    MemoriesRecalled,
    ModelReplied,
    Noticed,
    Payload,
    ReasoningDelta,
    RecalledEpisode,
    RecalledMemory,
    Restarted,
    RunEvent,
    StateChanged,
    SubRunStarted,
    TextDelta,
    ToolCalled,
    ToolReturned,
    UsageReported,
)
from servers.domain.runs import (
    Ask,
    AskKind,
    Block,
    Decision,
    Direction,
    Durability,
    Failure,
    Run,
    RunState,
    StopReason,
    Verdict,
)
from servers.domain.sources import Source
from servers.domain.tools import Outcome
from servers.kernel.errors import DataLost

text = st.text(st.characters(), max_size=8)  # with half surrogate pairs: a tool may return them
whole = st.integers()  # of any size
number = st.floats(0, 1e12)
json = st.dictionaries(
    text,
    st.recursive(
        st.none() | st.booleans() | whole | number | text,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
        max_leaves=4,
    ),
    max_size=3,
)


def some(each):
    return st.lists(each, max_size=2).map(tuple)


def any_of(kind):
    return st.sampled_from(list(kind))


calls = st.builds(ToolCall, text, text, text)
part = st.builds(Text, text) | st.builds(Image, text, st.binary(max_size=8), text)
usage = st.builds(Usage, whole, whole, whole, st.none() | number, st.booleans())
models = some(st.builds(ModelUsage, text, text, whole, usage))
message = st.builds(Message, any_of(Role), some(part), some(calls), text, text)
notices = some(st.builds(Notice, text, text))
finish = st.builds(
    Finish,
    any_of(FinishReason),
    some(calls),
    usage,
    text,
    text,
    models,
    st.booleans(),
    st.booleans(),
    notices,
)
failure = st.builds(
    Failure, text, text, text, st.none() | number, json, some(st.tuples(text, text))
)
asks = st.builds(
    Ask, text, any_of(AskKind), text, text, st.booleans(), some(text), st.none() | number, text
)
blocks = st.builds(Block, text, any_of(Direction), text)
decisions = st.builds(Decision, text, any_of(Verdict), text, text, text, st.booleans())
run = st.builds(
    Run,
    *[text] * 5,
    any_of(RunState),
    text,
    any_of(Durability),
    text,
    number,
    st.none() | number,
    st.none() | number,
    st.none() | any_of(StopReason),
    text,
    models,
    whole,
    st.none() | failure,
    json,
    whole,
    text,
    text,
    text,
    whole,
    some(asks),
    st.none() | blocks,
    text,
    text,
    text,
)
nodes = st.sampled_from(["", "a"])
PAYLOADS = {
    StateChanged: st.builds(StateChanged, any_of(RunState), text),
    TextDelta: st.builds(TextDelta, text, st.integers(1, 2), nodes),
    ReasoningDelta: st.builds(ReasoningDelta, text, st.integers(1, 2), nodes),
    ModelReplied: st.builds(ModelReplied, whole, message, finish, number, text),
    ToolCalled: st.builds(ToolCalled, text, text, text, text, text),
    ToolReturned: st.builds(ToolReturned, text, text, text, any_of(Outcome), whole, number),
    BranchStarted: st.builds(BranchStarted, text, text, any_of(BranchKind), text, text),
    BranchEnded: st.builds(BranchEnded, text, st.none() | failure),
    SubRunStarted: st.builds(SubRunStarted, text, text, text),
    Asked: st.builds(Asked, asks),
    Decided: st.builds(Decided, decisions, text),
    Guarded: st.builds(Guarded, text, any_of(Direction), text, whole, text),
    UsageReported: st.builds(UsageReported, models),
    Noticed: st.builds(Noticed, text, text),
    MemoriesRecalled: st.builds(
        MemoriesRecalled,
        st.lists(st.builds(RecalledMemory, text, text, text, number), max_size=3).map(tuple),
    ),
    EpisodesRecalled: st.builds(
        EpisodesRecalled,
        st.lists(st.builds(RecalledEpisode, text, text), max_size=3).map(tuple),
    ),
    KnowledgeFound: st.builds(
        KnowledgeFound,
        text,
        st.lists(st.builds(Source, whole, text, text, text, whole, whole, number)).map(tuple),
        text,
    ),
    Restarted: st.builds(Restarted, whole, whole),
    Completed: st.builds(Completed, run),
}


@st.composite
def logs(draw) -> list[RunEvent]:
    """Events with growing sequences, here and there with a gap; deltas come often."""
    deltas = PAYLOADS[TextDelta] | PAYLOADS[ReasoningDelta]
    payloads = draw(st.lists(deltas | st.one_of(*PAYLOADS.values()), min_size=1, max_size=12))
    sequence, events = 0, []
    for payload in payloads:
        sequence += draw(st.sampled_from([1, 1, 1, 7]))
        events.append(RunEvent("r", sequence, 5.0, payload))
    return events


def there_and_back(events: list[RunEvent]) -> list[RunEvent]:
    return events_of("r", row_of(events))


def test_no_payload_is_forgotten_here():
    assert set(PAYLOADS) == set(get_args(Payload))


@pytest.mark.parametrize("kind", PAYLOADS, ids=lambda kind: kind.__name__)
def test_every_payload_comes_back_as_it_was(kind):
    @given(PAYLOADS[kind])
    def check(payload):
        event = RunEvent("r", 3, 5.0, payload)
        assert there_and_back([event]) == [event]

    check()


@given(run)
def test_every_run_comes_back_as_it_was(run):
    assert run_from(run_body(run)) == run


@given(logs())
def test_a_log_comes_back_event_by_event(events):
    assert there_and_back(events) == events


@given(logs())
def test_a_row_says_which_sequences_it_spans(events):
    row = row_of(events)
    assert (row.first, row.last) == (events[0].sequence, events[-1].sequence)


def deltas(*payloads: Payload) -> list[RunEvent]:
    return [RunEvent("r", n, float(n), payload) for n, payload in enumerate(payloads, 1)]


def entries(events: list[RunEvent]) -> list[list]:
    return orjson.loads(row_of(events).body)


@pytest.mark.parametrize(
    "looked_up",
    [KnowledgeFound("p", (), text="a"), MemoriesRecalled((), "b"), EpisodesRecalled((), "c")],
)
def test_what_a_prompt_was_shown_comes_back(looked_up):
    (event,) = there_and_back([RunEvent("r", 1, 1.0, looked_up)])
    assert event.payload.text == looked_up.text


class TestDeltas:
    def test_of_one_model_call_share_an_entry(self):
        assert len(entries(deltas(*[TextDelta("a")] * 100))) == 1

    def test_of_another_model_call_begin_a_new_entry(self):
        assert len(entries(deltas(TextDelta("a", 1), TextDelta("b", 2)))) == 2

    def test_of_another_part_begin_a_new_entry(self):
        assert len(entries(deltas(TextDelta("a", 1, "x"), TextDelta("b", 1, "y")))) == 2

    def test_of_another_kind_begin_a_new_entry(self):
        assert len(entries(deltas(ReasoningDelta("a"), TextDelta("b")))) == 2

    def test_do_not_share_an_entry_across_another_event(self):
        assert len(entries(deltas(TextDelta("a"), Noticed("X", "y"), TextDelta("b")))) == 3

    def test_share_the_time_of_the_first(self):
        events = there_and_back(deltas(TextDelta("a"), TextDelta("b")))
        assert [event.time for event in events] == [1.0, 1.0]


STORED = {
    "state": (b'{"state":"running","reason":""}', StateChanged(RunState.RUNNING)),
    "text": (b'{"model_call":1,"node":"","pieces":["hi"]}', TextDelta("hi")),
    "reasoning": (b'{"model_call":2,"node":"","pieces":["hm"]}', ReasoningDelta("hm", 2)),
    "model_replied": (
        b'{"model_call":1,"message":{"role":"assistant","parts":[{"text":"hi"}],"tool_calls":[],'
        b'"tool_call_id":"","reasoning":""},"finish":{"reason":"stop","tool_calls":[],"usage":'
        b'{"prompt_tokens":3,"completion_tokens":1,"cached_tokens":0,"cost_usd":null,'
        b'"estimated":false},"provider":"p","model":"m","besides":[],"emulated":false,'
        b'"cached":false,"notices":[]},"duration":0.5,"node":""}',
        ModelReplied(
            1,
            says(Role.ASSISTANT, "hi"),
            Finish(usage=Usage(3, 1), provider="p", model="m"),
            0.5,
        ),
    ),
    "tool_called": (
        b'{"call_id":"1","name":"t","arguments":"{}","model_call_id":"m1","node":""}',
        ToolCalled("1", "t", "{}", "m1"),
    ),
    "tool_returned": (
        b'{"call_id":"1","name":"t","content":"4","outcome":"ok","truncated_tokens":0,'
        b'"duration":0.0}',
        ToolReturned("1", "t", "4"),
    ),
    "usage": (
        b'{"models":[{"provider":"p","model":"m","calls":1,"usage":{"prompt_tokens":3,'
        b'"completion_tokens":1,"cached_tokens":0,"cost_usd":0.5,"estimated":false}}]}',
        UsageReported((ModelUsage("p", "m", 1, Usage(3, 1, 0, 0.5)),)),
    ),
    "branch_started": (
        b'{"node":"1","parent":"","kind":"step","name":"look","input":"up"}',
        BranchStarted("1", "", BranchKind.STEP, "look", "up"),
    ),
    "branch_ended": (b'{"node":"1","failure":null}', BranchEnded("1")),
    "sub_run_started": (
        b'{"call_id":"1","run_id":"r2","agent":"helper"}',
        SubRunStarted("1", "r2", "helper"),
    ),
    "asked": (
        b'{"ask":{"call_id":"1","kind":"approval","tool":"pay","arguments":"{}","editable":true,'
        b'"principals":["ada"],"until":null,"run_id":""}}',
        Asked(Ask("1", AskKind.APPROVAL, "pay", "{}", True, ("ada",))),
    ),
    "decided": (
        b'{"decision":{"call_id":"1","verdict":"reject","reason":"no","arguments":"","content":"",'
        b'"is_error":false},"principal":"ada"}',
        Decided(Decision("1", Verdict.REJECT, "no"), "ada"),
    ),
    "guarded": (
        b'{"rule":"pii","direction":"output","action":"redact","count":2,"call_id":""}',
        Guarded("pii", Direction.OUTPUT, "redact", 2),
    ),
    "noticed": (b'{"reason":"X","message":"y"}', Noticed("X", "y")),
    "restarted": (b'{"attempt":2,"discard_after":7}', Restarted(2, 7)),
}


def stored(kind: str, body: bytes) -> Row:
    return Row(1, 1, 5.0, b'[["%s",1,5.0,%s]]' % (kind.encode(), body))


@pytest.mark.parametrize("kind", STORED)
def test_rows_keep_their_form(kind):
    body, payload = STORED[kind]
    assert row_of([RunEvent("r", 1, 5.0, payload)]) == stored(kind, body)


@pytest.mark.parametrize("kind", STORED)
def test_rows_of_older_files_are_read(kind):
    body, payload = STORED[kind]
    assert events_of("r", stored(kind, body)) == [RunEvent("r", 1, 5.0, payload)]


@pytest.mark.parametrize("kind", ["text", "reasoning", "model_replied", "tool_called"])
def test_rows_from_before_runs_had_parts_are_read(kind):
    body, payload = STORED[kind]
    older = body.replace(b',"node":""', b"")
    assert older != body
    assert events_of("r", stored(kind, older)) == [RunEvent("r", 1, 5.0, payload)]


def test_a_reply_from_before_there_was_more_to_say_of_its_end_is_read():
    body, payload = STORED["model_replied"]
    older = body.replace(b',"besides":[],"emulated":false,"cached":false,"notices":[]', b"")
    assert events_of("r", stored("model_replied", older)) == [RunEvent("r", 1, 5.0, payload)]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"[1]", b"[[]]", b'[["state",3,5.0,{"state":"asleep","reason":""}]]']
)
def test_a_damaged_row_names_its_run_and_place(body):
    with pytest.raises(DataLost, match="event 3 of run 'r'"):
        events_of("r", Row(3, 3, 5.0, body))


def test_an_event_of_an_unknown_kind_is_not_guessed_at():
    with pytest.raises(DataLost, match="telepathy"):
        events_of("r", Row(3, 3, 5.0, b'[["telepathy",3,5.0,{}]]'))
