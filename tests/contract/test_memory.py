"""What `Memory` promises, checked in every database, in process and over the wire alike."""

import asyncio

import pytest

from servers.domain.chat import Image, Message, Role, Text, ToolCall
from servers.domain.memory import Details, MemoryContext, SessionKey, Strategy, Turn, TurnPage
from servers.kernel.errors import InvalidInput
from tests.contract.memory_fixture import (
    CALL,
    EXCHANGE,
    KEY,
    RESULT,
    START,
    indexes,
    numbered,
    texts,
)


async def fields_wrong(call) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        await call
    return [violation.field for violation in caught.value.violations]


class TestAppend:
    async def test_says_how_many_turns_there_are_then(self, memory):
        assert [await memory.append(KEY, EXCHANGE) for _ in range(2)] == [2, 4]

    async def test_keeps_order_time_and_run(self, memory):
        await memory.append(KEY, EXCHANGE, "run-1")
        assert (await memory.turns(KEY)).turns == (
            Turn(0, EXCHANGE[0], START, "run-1"),
            Turn(1, EXCHANGE[1], START, "run-1"),
        )

    async def test_keeps_everything_a_message_has(self, memory):
        message = Message(
            Role.ASSISTANT,
            (Text("see"), Image("https://a/b.png"), Image(data=b"\x00\xff", media_type="x/y")),
            (ToolCall("c1", "add", '{"a": 1'), ToolCall("c2", "add", "")),
            reasoning="so that",
        )
        await memory.append(KEY, [message, RESULT])
        assert [turn.message for turn in (await memory.turns(KEY)).turns] == [message, RESULT]

    async def test_of_the_same_run_again_adds_nothing(self, memory):
        assert [await memory.append(KEY, EXCHANGE, "run-1") for _ in range(2)] == [2, 2]

    async def test_of_the_same_run_in_another_session_adds(self, memory):
        await memory.append(KEY, EXCHANGE, "run-1")
        assert await memory.append(SessionKey("acme", "helper", "s2"), EXCHANGE, "run-1") == 2

    async def test_without_a_run_adds_each_time(self, memory):
        assert [await memory.append(KEY, EXCHANGE) for _ in range(2)] == [2, 4]

    async def test_at_once_gives_every_turn_its_own_index(self, memory):
        await asyncio.gather(*(memory.append(KEY, EXCHANGE, f"run-{n}") for n in range(20)))
        assert indexes(await memory.turns(KEY)) == list(range(40))

    async def test_at_once_keeps_exchanges_together(self, memory):
        await asyncio.gather(*(memory.append(KEY, EXCHANGE, f"run-{n}") for n in range(20)))
        turns = (await memory.turns(KEY)).turns
        assert all(a.run_id == b.run_id for a, b in zip(turns[::2], turns[1::2], strict=True))

    async def test_of_nothing_is_refused(self, memory):
        assert await fields_wrong(memory.append(KEY, [])) == ["messages"]

    async def test_survives_the_process(self, database, asked):
        async with database.memory(asked) as memory:
            await memory.append(KEY, EXCHANGE, "run-1")
        async with database.memory(asked) as memory:
            assert await memory.append(KEY, EXCHANGE, "run-1") == 2

    @pytest.mark.parametrize("database", ["redis", "postgres"], indirect=True)
    async def test_by_several_processes_gives_every_turn_its_own_index(self, database, asked):
        async with database.memory(asked) as one, database.memory(asked) as two:
            writes = [m.append(KEY, EXCHANGE, f"r{n}") for n in range(20) for m in (one, two)]
            await asyncio.gather(*writes)  # each run twice, once by each
            turns = (await one.turns(KEY)).turns
        assert [turn.index for turn in turns] == list(range(40))
        assert all(a.run_id == b.run_id for a, b in zip(turns[::2], turns[1::2], strict=True))

    async def test_keeps_who_asked_and_what_it_counted(self, memory):
        await memory.append(KEY, EXCHANGE, "", Details("ada", (3, 5), "p/m"))
        turns = (await memory.turns(KEY)).turns
        assert [(t.principal, t.tokens, t.counted_by) for t in turns] == [
            ("ada", 3, "p/m"),
            ("ada", 5, "p/m"),
        ]

    @pytest.mark.parametrize(
        ("details", "field"),
        [
            (Details(tokens=(1,), counted_by="p/m"), "tokens"),
            (Details(tokens=(1, -1), counted_by="p/m"), "tokens"),
            (Details(tokens=(1, 1)), "counted_by"),
            (Details(principal="a\nb"), "principal"),
            (Details(ttl=-1.0), "ttl_seconds"),
            (Details(counted_by="a\0b"), "counted_by"),
            (Details(backend="nowhere"), "backend"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    async def test_with_what_makes_no_sense_is_refused(self, memory, details, field):
        assert await fields_wrong(memory.append(KEY, EXCHANGE, "", details)) == [field]
        assert await memory.turns(KEY) == TurnPage(())


class TestASession:
    @pytest.mark.parametrize(
        "other",
        [
            SessionKey("acme", "helper", "s2"),
            SessionKey("acme", "other", "s1"),
            SessionKey("else", "helper", "s1"),
        ],
        ids=["of another id", "of another agent", "of another tenant"],
    )
    async def test_is_another_one(self, memory, other):
        await memory.append(KEY, EXCHANGE)
        assert await memory.turns(other) == TurnPage(())

    async def test_that_is_unknown_is_empty(self, memory):
        assert await memory.context(KEY, Strategy()) == MemoryContext()

    async def test_may_have_any_printable_name(self, memory):
        key = SessionKey("acme", "helper", "Grüße / 'x' \U0001f600 %00;--")
        await memory.append(key, EXCHANGE)
        assert len((await memory.turns(key)).turns) == 2

    async def test_is_not_another_one_whose_names_are_put_together_alike(self, memory):
        names = [
            ("a", "b:meta"),
            ("a:b", "meta"),
            ("sessions", "a"),
            ("a", "meta"),
            ("b:meta", "a"),
        ]
        for agent, session in names:
            await memory.append(SessionKey("acme", agent, session), EXCHANGE)
        for agent, session in names:
            assert len((await memory.turns(SessionKey("acme", agent, session))).turns) == 2

    @pytest.mark.parametrize("session", ["", "x" * 257, "a\x00b", "a\nb"], ids=repr)
    async def test_with_an_unusable_name_is_refused(self, memory, session):
        key = SessionKey("acme", "helper", session)
        assert await fields_wrong(memory.append(key, EXCHANGE)) == ["session"]
        assert await fields_wrong(memory.turns(key)) == ["session"]
        assert await fields_wrong(memory.clear(key)) == ["session"]
        assert await fields_wrong(memory.context(key, Strategy())) == ["session"]

    async def test_needs_an_agent(self, memory):
        assert await fields_wrong(memory.turns(SessionKey("acme", "", "s1"))) == ["agent"]

    async def test_needs_a_tenant(self, memory):
        assert await fields_wrong(memory.turns(SessionKey("", "helper", "s1"))) == ["tenant"]


class TestTurns:
    @pytest.fixture(autouse=True)
    async def five(self, memory):
        await memory.append(KEY, numbered(5))

    async def test_come_in_pages_oldest_first(self, memory):
        first = await memory.turns(KEY, 2)
        second = await memory.turns(KEY, 2, first.next_page_token)
        third = await memory.turns(KEY, 2, second.next_page_token)
        assert [indexes(page) for page in (first, second, third)] == [[0, 1], [2, 3], [4]]

    async def test_end_without_a_token(self, memory):
        assert (await memory.turns(KEY, 5)).next_page_token == ""

    async def test_that_are_added_meanwhile_come_on_the_next_page(self, memory):
        first = await memory.turns(KEY, 4)
        await memory.append(KEY, EXCHANGE)
        assert indexes(await memory.turns(KEY, 4, first.next_page_token)) == [4, 5, 6]

    async def test_refuse_a_negative_page_size(self, memory):
        assert await fields_wrong(memory.turns(KEY, -1)) == ["page_size"]

    async def test_refuse_a_token_that_was_made_up(self, memory):
        assert await fields_wrong(memory.turns(KEY, 2, "2")) == ["page_token"]

    async def test_refuse_the_token_of_another_session(self, memory):
        token = (await memory.turns(KEY, 2)).next_page_token
        other = SessionKey("acme", "helper", "s2")
        assert await fields_wrong(memory.turns(other, 2, token)) == ["page_token"]

    async def test_are_at_most_a_thousand_a_page(self, memory):
        await memory.append(KEY, numbered(1000))
        assert len((await memory.turns(KEY, 5000)).turns) == 1000

    async def test_are_a_hundred_a_page_where_nothing_is_said(self, memory):
        await memory.append(KEY, numbered(100))
        assert len((await memory.turns(KEY)).turns) == 100


class TestClear:
    async def test_forgets_the_session(self, memory):
        await memory.append(KEY, EXCHANGE)
        await memory.clear(KEY)
        assert await memory.turns(KEY) == TurnPage(())
        assert await memory.context(KEY, Strategy()) == MemoryContext()

    async def test_says_how_many_turns_were_deleted(self, memory):
        await memory.append(KEY, EXCHANGE)
        assert [await memory.clear(KEY), await memory.clear(KEY)] == [2, 0]

    async def test_leaves_other_sessions_alone(self, memory):
        other = SessionKey("else", "helper", "s1")
        await memory.append(other, EXCHANGE)
        await memory.clear(KEY)
        assert len((await memory.turns(other)).turns) == 2


class TestASlidingWindow:
    @pytest.mark.parametrize(
        ("most", "shown"),
        [(1, ["4"]), (3, ["2", "3", "4"]), (5, list("01234")), (9, list("01234"))],
    )
    async def test_shows_exactly_the_newest_turns_oldest_first(self, memory, most, shown):
        await memory.append(KEY, numbered(5))
        assert texts(await memory.context(KEY, Strategy(max_turns=most))) == shown

    async def test_counts_all_turns(self, memory):
        await memory.append(KEY, numbered(5))
        assert (await memory.context(KEY, Strategy(max_turns=2))).total_turns == 5

    async def test_never_begins_with_a_tool_result_whose_call_was_cut_off(self, memory):
        await memory.append(KEY, [EXCHANGE[0], CALL, RESULT, RESULT, EXCHANGE[1]])
        context = await memory.context(KEY, Strategy(max_turns=3))
        assert context.messages == (EXCHANGE[1],)

    async def test_keeps_a_tool_result_behind_its_call(self, memory):
        await memory.append(KEY, [EXCHANGE[0], CALL, RESULT, EXCHANGE[1]])
        context = await memory.context(KEY, Strategy(max_turns=3))
        assert context.messages == (CALL, RESULT, EXCHANGE[1])

    async def test_of_unsaid_size_shows_twenty(self, memory):
        await memory.append(KEY, numbered(30))
        assert len((await memory.context(KEY, Strategy("", 0))).messages) == 20

    async def test_of_negative_size_is_refused(self, memory):
        assert await fields_wrong(memory.context(KEY, Strategy(max_turns=-1))) == ["max_turns"]


async def test_a_strategy_that_is_not_there_is_refused_by_name(memory):
    with pytest.raises(InvalidInput, match="guesswork") as caught:
        await memory.context(KEY, Strategy("guesswork"))
    assert [violation.field for violation in caught.value.violations] == ["strategy"]
