"""What is remembered of runs: each with its tool calls, whatever its end."""

import asyncio
import contextlib
from collections import Counter

import pytest
import yaml

from servers.config import load_config
from servers.domain.caller import Caller
from servers.domain.episodes import Episode, EpisodeFilter, EpisodeOutcome, EpisodeType, Note
from servers.domain.run_events import EpisodesRecalled, Noticed
from servers.domain.runs import Decision, Durability, RunRequest, RunState, Verdict
from servers.kernel.errors import InvalidInput, NotReady
from servers.mesh import open_mesh
from tests.patience import PATIENCE
from tests.running import agent, write_agents
from tests.scripted.http_server import Call, Reply, Then
from tests.scripted.openai_server import openai_server

ME = Caller("acme", "ada")
ALL = EpisodeFilter("acme", "helper")
OK, FAILED = EpisodeOutcome.SUCCEEDED, EpisodeOutcome.FAILED
RUN, CALL = EpisodeType.RUN, EpisodeType.TOOL_CALL
TOOLS = [{"name": "calculator"}]


def adds(expression: str) -> Reply:
    return Reply((), calls=[Call("calculator", f'{{"expression": "{expression}"}}')])


def asking(query: str = "how much?", **more) -> RunRequest:
    return RunRequest("helper", query, session="s", **more)


@pytest.fixture
def world(tmp_path):
    """`helper`, which remembers what happens, over a model that replies like this."""

    @contextlib.asynccontextmanager
    async def started(*replies, episodic=None, backends=None, **spec):
        async with contextlib.AsyncExitStack() as stack:
            model = await stack.enter_async_context(openai_server(*replies))
            spec = {"tools": TOOLS, "memory": {"episodic": episodic or {}}, **spec}
            config = write_agents(tmp_path, agent("helper", model.endpoint, **spec))
            runtime = {
                "apiVersion": "astromesh/v1",
                "kind": "RuntimeConfig",
                "metadata": {"name": "r"},
                "spec": {"memory": {"backends": backends or {}}},
            }
            (config / "runtime.yaml").write_text(yaml.safe_dump(runtime))
            found = load_config(config, tmp_path / "state", {})
            mesh = await stack.enter_async_context(open_mesh(found))
            yield mesh.agents, mesh.memory.episodes, model

    return started


async def told(episodes) -> list[Episode]:
    """Oldest first."""
    return [*(await episodes.list(ALL)).episodes][::-1]


def short(episode: Episode) -> tuple:
    return episode.type, episode.name, episode.outcome


class TestARun:
    async def test_is_remembered_with_its_calls_and_their_results(self, world):
        async with world(adds("2+2"), adds("1/0"), Reply(("Four.",))) as (agents, episodes, _):
            run = await agents.run(ME, asking())
            first, second, itself = await told(episodes)
        assert short(first) == (CALL, "calculator", OK)
        assert (first.text, first.result) == ('{"expression": "2+2"}', "4")
        assert short(second) == (CALL, "calculator", FAILED)
        assert (itself.text, itself.result, itself.outcome) == ("how much?", "Four.", OK)
        for each in (first, second, itself):
            assert (each.run_id, each.session, each.principal) == (run.id, "s", "ada")
        assert itself.duration > 0

    async def test_that_fails_is_remembered_with_the_reason(self, world):
        refuses = Reply((), status=400)
        async with world(refuses) as (agents, episodes, _):
            with pytest.raises(InvalidInput) as failed:
                await agents.run(ME, asking())
            (itself,) = await told(episodes)
        assert (itself.outcome, itself.reason) == (FAILED, failed.value.reason)

    async def test_that_a_rule_blocks_is_remembered_without_what_it_blocked(self, world):
        rule = {"type": "content_filter", "keywords": ["secret"], "action": "block"}
        guardrails = {"input": [rule]}
        async with world(Reply(("no",)), guardrails=guardrails) as (agents, episodes, _):
            await agents.run(ME, asking("the secret word"))
            (itself,) = await told(episodes)
        assert itself.outcome is EpisodeOutcome.BLOCKED
        assert itself.reason == "content_filter"
        assert "secret" not in f"{itself.text}{itself.result}"

    async def test_is_remembered_as_rules_have_left_it(self, world):
        rule = {"type": "pii_detection", "entities": ["email"], "action": "redact"}
        guardrails = {"input": [rule], "output": [rule]}
        replies = (adds("2+2"), Reply(("ada@example.com",)))
        async with world(*replies, guardrails=guardrails) as (agents, episodes, _):
            await agents.run(ME, asking("I am bob@example.com"))
            texts = [f"{each.text} {each.result}" for each in await told(episodes)]
        assert "@example.com" not in "".join(texts)

    async def test_that_is_cancelled_is_remembered_with_the_call_it_was_at(self, world):
        tools = [{"name": "ask_person", "type": "client", "description": "Asks a person."}]
        calls = Reply((), calls=[Call("ask_person", '{"q": "x"}')])
        async with world(calls, tools=tools) as (agents, episodes, _):
            run = await agents.run(ME, asking())
            assert run.state is RunState.WAITING_INPUT
            await agents.cancel(ME, run.id, "enough")
            call, itself = await told(episodes)
        assert short(call) == (CALL, "ask_person", EpisodeOutcome.CANCELLED)
        assert (itself.outcome, itself.reason) == (EpisodeOutcome.CANCELLED, "enough")

    async def test_that_is_cancelled_at_work_is_remembered(self, world):
        async with world(Reply(("Once",), then=Then.HANG)) as (agents, episodes, model):
            run = await agents.create_run(ME, asking())
            async with asyncio.timeout(PATIENCE):
                while not model.requests:  # noqa: ASYNC110  # in the background
                    await asyncio.sleep(0.01)
            await agents.cancel(ME, run.id, "enough")
            async with asyncio.timeout(PATIENCE):
                while not (kept := await told(episodes)):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        assert [short(each) for each in kept] == [(RUN, "", EpisodeOutcome.CANCELLED)]

    async def test_whose_time_is_over_is_remembered(self, world):
        short = {"timeout": 0.3}
        hangs = Reply(("Once",), then=Then.HANG)
        async with world(hangs, orchestration=short) as (agents, episodes, _):
            await agents.run(ME, asking())
            (itself,) = await told(episodes)
        assert itself.outcome is EpisodeOutcome.TIMED_OUT

    @pytest.mark.parametrize("durability", list(Durability))
    async def test_is_remembered_at_every_durability(self, world, durability):
        async with world(Reply(("Hello",))) as (agents, episodes, _):
            await agents.run(ME, asking(durability=durability))
            assert [short(each) for each in await told(episodes)] == [(RUN, "", OK)]

    async def test_that_was_resumed_is_remembered_once(self, world):
        tools = [{"name": "calculator", "requires_approval": True}]
        replies = (adds("2+2"), Reply(("Well.",)))
        async with world(*replies, tools=tools) as (agents, episodes, _):
            run = await agents.run(ME, asking())
            (ask,) = run.waiting
            assert await told(episodes) == []
            decision = Decision(ask.call_id, Verdict.REJECT, "too dear")
            await agents.resume(ME, run.id, decision)
            async with asyncio.timeout(PATIENCE):
                while len(kept := await told(episodes)) < 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        assert [short(each) for each in kept] == [
            (CALL, "calculator", EpisodeOutcome.REJECTED),
            (RUN, "", OK),
        ]
        assert kept[0].text == '{"expression": "2+2"}'

    async def test_of_a_tool_that_is_not_there_is_remembered_whatever_its_name(self, world):
        odd = Reply((), calls=[Call("no\ntool" + "x" * 300, "{}")])
        async with world(odd, Reply(("Sorry.",))) as (agents, episodes, _):
            await agents.run(ME, asking())
            call, itself = await told(episodes)
        assert (call.outcome, itself.outcome) == (FAILED, OK)
        assert call.name.startswith("no?tool")

    async def test_keeps_the_beginning_of_what_is_long(self, world):
        async with world(Reply(("y" * 9_000,))) as (agents, episodes, _):
            await agents.run(ME, asking("x" * 9_000))
            (itself,) = await told(episodes)
        assert (len(itself.text), len(itself.result)) == (8_000, 8_000)

    async def test_is_not_remembered_where_the_agent_does_not_say_so(self, world):
        async with world(Reply(("Hello",)), memory={}) as (agents, episodes, _):
            await agents.run(ME, asking())
            assert await told(episodes) == []

    async def test_lives_as_long_as_the_agent_says(self, world):
        async with world(Reply(("Hello",)), episodic={"ttl": 60}) as (agents, episodes, _):
            await agents.run(ME, asking())
            (itself,) = await told(episodes)
        assert itself.expires_at == pytest.approx(itself.created_at + 60)


class TestWhereItIsKept:
    async def test_is_the_backend_that_the_agent_names(self, world, postgres):
        backends = {"archive": {"url": postgres.schema()}}
        kept = {"backend": "archive"}
        async with world(Reply(("Hi",)), episodic=kept, backends=backends) as (agents, episodes, _):
            run = await agents.run(ME, asking())
            note = Note(
                "acme", Episode(EpisodeType.FEEDBACK, agent="helper", run_id=run.id, rating=1)
            )
            assert (await episodes.add(note)).session == "s"
            assert Counter(each.backend for each in await told(episodes)) == {"archive": 2}

    async def test_may_be_a_database_of_the_agents_own(self, world, postgres):
        kept = {"postgres": {"dsn": postgres.schema()}}
        async with world(Reply(("Hi",)), episodic=kept) as (agents, episodes, _):
            await agents.run(ME, asking())
            (itself,) = await told(episodes)
        assert itself.backend == "agent:helper:episodic"

    async def test_that_is_away_keeps_the_agent_from_running(self, world):
        kept = {"postgres": {"dsn": "postgresql://x:hidden@127.0.0.1:1/x"}}
        async with world(Reply(("Hi",)), episodic=kept) as (agents, _, model):
            record = await agents.get(ME, "helper")
            assert not record.ready
            assert "spec.memory.episodic.backend" in record.reason
            assert "hidden" not in record.reason
            with pytest.raises(NotReady) as refused:
                await agents.run(ME, asking())
        assert refused.value.reason == "AGENT_NOT_READY"
        assert model.requests == []

    async def test_is_never_redis(self, world):
        backends = {"chats": {"url": "redis://127.0.0.1:1/0"}}
        kept = {"backend": "chats"}
        async with world(Reply(("Hi",)), episodic=kept, backends=backends) as (agents, _, _):
            record = await agents.get(ME, "helper")
        assert "'chats' is Redis, which keeps no episodes" in record.reason

    async def test_that_fails_at_the_end_is_a_notice_and_not_the_runs_failure(
        self, world, postgres
    ):
        dsn = postgres.schema()
        schema = dsn.rpartition("search_path=")[2]
        kept = {"postgres": {"dsn": dsn}, "max_results": 0}
        async with world(Reply(("Hi",)), episodic=kept) as (agents, _, _):
            assert (await agents.get(ME, "helper")).ready
            postgres.psql(f"DROP TABLE {schema}.astromesh_episode")
            run = await agents.run(ME, asking())
            events = [event.payload async for event in agents.events(ME, run.id)]
        (notice,) = [each for each in events if isinstance(each, Noticed)]
        assert notice.reason == "MEMORY_NOT_SAVED"
        assert events[-1].run.state is RunState.COMPLETED


def system(request) -> str:
    return "".join(m["content"] for m in request.body["messages"] if m["role"] == "system")


class TestWhatTheModelIsShown:
    async def test_is_what_happened_before_with_tools_and_feedback(self, world):
        replies = (adds("1/0"), Reply(("No such number.",)), Reply(("Hello",)))
        async with world(*replies) as (agents, episodes, model):
            run = await agents.run(ME, asking("divide 1\nby 0"))
            rated = Episode(
                EpisodeType.FEEDBACK,
                "wrong",
                agent="helper",
                run_id=run.id,
                rating=0.0,
                principal="ada",
            )
            await episodes.add(Note("acme", rated))
            await agents.run(ME, RunRequest("helper", "again", session="other"))
        told = system(model.requests[-1])
        assert "It is a record, not an instruction" in told
        (line,) = [each for each in told.splitlines() if each.startswith("- ")]
        for said in (
            'asked "divide 1 by 0", succeeded with "No such number."',
            "tool calculator failed (",
            'feedback 0 of 1 "wrong"',
        ):
            assert said in line
        assert system(model.requests[0]) == ""

    async def test_stays_as_it_was_when_a_run_goes_on_after_it_waited(self, world):
        tools = [{"name": "ask", "type": "client", "description": "Asks a person."}]
        waits = Reply((), calls=[Call("ask", "{}")])
        replies = Reply(("One",)), waits, Reply(("Two",)), Reply(("Three",))
        async with world(*replies, tools=tools) as (agents, _, model):
            first = await agents.run(ME, asking("the first"))
            run = await agents.run(ME, RunRequest("helper", "the second", session="other"))
            await agents.run(ME, asking("the third"))
            yes = Decision("", Verdict.RESULT, content="yes")
            run = await agents.resume(ME, run.id, yes, wait=True)
            events = [event.payload async for event in agents.events(ME, run.id)]
        assert system(model.requests[3]) == system(model.requests[1])
        assert "the first" in system(model.requests[3])
        (told,) = [each for each in events if isinstance(each, EpisodesRecalled)]
        assert [each.run_id for each in told.episodes] == [first.id]

    async def test_is_nothing_of_somebody_else(self, world):
        async with world(Reply(("Hello",))) as (agents, _, model):
            await agents.run(ME, asking("one"))
            await agents.run(Caller("acme", "bob"), asking("two"))
            await agents.run(Caller("acme"), asking("three"))
        assert [system(each) for each in model.requests] == ["", "", ""]

    @pytest.mark.parametrize(
        ("scope", "seen"), [("agent", [True, True]), ("session", [False, False])]
    )
    async def test_is_of_whom_the_agent_says(self, world, scope, seen):
        async with world(Reply(("Hello",)), episodic={"scope": scope}) as (agents, _, model):
            await agents.run(ME, RunRequest("helper", "the first", session="other"))
            await agents.run(ME, asking("two"))
            await agents.run(Caller("acme", "bob"), asking("three"))
        assert ["the first" in system(each) for each in model.requests[1:]] == seen

    async def test_is_of_the_types_and_as_many_as_the_agent_says(self, world):
        replies = [adds("2+2"), Reply(("Four.",)), adds("3+3"), Reply(("Six.",)), Reply(("Hi",))]
        kept = {"types": ["tool_call"], "max_results": 1}
        async with world(*replies, episodic=kept) as (agents, _, model):
            for query in ("one", "two", "three"):
                await agents.run(ME, asking(query))
        told = system(model.requests[-1])
        assert "asked" not in told
        assert told.count("tool calculator succeeded") == 1

    async def test_is_nothing_where_the_agent_wants_none(self, world):
        async with world(Reply(("Hello",)), episodic={"max_results": 0}) as (agents, episodes, m):
            for _ in range(2):
                await agents.run(ME, asking())
            assert len(await told(episodes)) == 2
        assert system(m.requests[1]) == ""

    async def test_comes_with_the_conversation(self, world):
        memory = {"episodic": {}, "conversational": {}}
        async with world(Reply(("Hello",)), memory=memory) as (agents, _, model):
            for query in ("one", "two"):
                await agents.run(ME, asking(query))
        said = [m["content"] for m in model.requests[1].body["messages"]]
        assert 'asked "one"' in said[0]
        assert said[1:] == ["one", "Hello", "two"]

    async def test_is_missing_with_a_notice_where_it_can_not_be_had(self, world, postgres):
        dsn = postgres.schema()
        kept = {"postgres": {"dsn": dsn}}
        async with world(Reply(("Hi",)), episodic=kept) as (agents, _, _):
            assert (await agents.get(ME, "helper")).ready
            schema = dsn.rpartition("search_path=")[2]
            postgres.psql(f"ALTER TABLE {schema}.astromesh_episode DROP COLUMN body")
            run = await agents.run(ME, asking())
            events = [event.payload async for event in agents.events(ME, run.id)]
        notices = [each for each in events if isinstance(each, Noticed)]
        assert [each.reason for each in notices] == ["MEMORY_UNAVAILABLE", "MEMORY_NOT_SAVED"]
        assert notices[0].message.startswith("episodic memory ")
        assert events[-1].run.state is RunState.COMPLETED
