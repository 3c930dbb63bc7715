"""What `Memory` promises, checked in process and over the wire alike."""

import asyncio
import contextlib

import grpc
import pytest
from astromesh.memory.v1 import memory_service_pb2_grpc

from servers.domain.chat import Image, Message, Role, Text, ToolCall, says
from servers.domain.memory import MemoryContext, SessionKey, Strategy, Turn, TurnPage
from servers.kernel.errors import InvalidInput
from servers.kernel.sqlite import open_database
from servers.kernel.status import StatusInterceptor
from servers.memory.adapters import sqlite
from servers.memory.adapters.sqlite import SqliteConversations
from servers.memory.remote import RemoteMemory
from servers.memory.service import ConversationMemory
from servers.memory.servicer import MemoryServicer

KEY = SessionKey("acme", "helper", "s1")
EXCHANGE = (says(Role.USER, "hello?"), says(Role.ASSISTANT, "hi!"))
CALL = Message(Role.ASSISTANT, tool_calls=(ToolCall("c1", "add", "{}"),))
RESULT = Message(Role.TOOL, (Text("4"),), tool_call_id="c1")


@contextlib.asynccontextmanager
async def over_the_wire(memory):
    server = grpc.aio.server(interceptors=[StatusInterceptor()])
    memory_service_pb2_grpc.add_MemoryServiceServicer_to_server(MemoryServicer(memory), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield RemoteMemory(channel)
    await server.stop(None)


@contextlib.asynccontextmanager
async def in_process(memory):
    yield memory


@contextlib.asynccontextmanager
async def opened(reached, folder):
    async with open_database(folder / "memory.db", sqlite.MIGRATIONS) as database:
        kept = ConversationMemory(SqliteConversations(database), now=lambda: 1_700_000_000.25)
        async with reached(kept) as memory:
            yield memory


@pytest.fixture(params=[in_process, over_the_wire], ids=lambda f: f.__name__)
def reached(request):
    return request.param


@pytest.fixture
async def memory(reached, tmp_path):
    async with opened(reached, tmp_path) as kept:
        yield kept


def numbered(count: int) -> list[Message]:
    return [says(Role.USER, str(n)) for n in range(count)]


def texts(context: MemoryContext) -> list[str]:
    return [message.text for message in context.messages]


def indexes(page: TurnPage) -> list[int]:
    return [turn.index for turn in page.turns]


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
            Turn(0, EXCHANGE[0], 1_700_000_000.25, "run-1"),
            Turn(1, EXCHANGE[1], 1_700_000_000.25, "run-1"),
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

    async def test_survives_the_process(self, reached, tmp_path):
        async with opened(reached, tmp_path) as memory:
            await memory.append(KEY, EXCHANGE, "run-1")
        async with opened(reached, tmp_path) as memory:
            assert await memory.append(KEY, EXCHANGE, "run-1") == 2


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


@pytest.mark.parametrize("name", ["summary", "token_budget", "guesswork"])
async def test_a_strategy_that_is_not_there_is_refused_by_name(memory, name):
    with pytest.raises(InvalidInput, match=name) as caught:
        await memory.context(KEY, Strategy(name))
    assert [violation.field for violation in caught.value.violations] == ["strategy"]
