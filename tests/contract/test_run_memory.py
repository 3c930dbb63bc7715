"""What runs remember: where, how much of it, and in whose name."""

import asyncio
import contextlib

import pytest
import yaml

from servers.config import load_config
from servers.domain.caller import Caller
from servers.domain.chat import Role, says
from servers.domain.memory import SessionKey, Strategy
from servers.domain.runs import RunRequest, RunState
from servers.domain.usage import UsageQuery
from servers.kernel.errors import InvalidInput, NotReady
from servers.mesh import open_mesh
from tests.patience import PATIENCE, until
from tests.redis_server import redis_server
from tests.running import agent, in_process, over_the_wire, write_agents
from tests.scripted.http_server import Reply, refuses
from tests.scripted.openai_server import openai_server

ME = Caller("acme", "ada")
KEY = SessionKey("acme", "helper", "s")


def asking(query: str) -> RunRequest:
    return RunRequest("helper", query, session="s")


def model_at(server, name: str = "m") -> dict:
    return {"provider": "openai_compat", "endpoint": server.endpoint, "model": name}


def shown(request) -> list[str]:
    """What a model was shown besides the system prompt."""
    return [m["content"] for m in request.body["messages"] if m["role"] != "system"]


def system(request) -> str:
    return "".join(m["content"] for m in request.body["messages"] if m["role"] == "system")


async def asked_of(server) -> None:
    async with asyncio.timeout(PATIENCE):
        while not server.requests:  # noqa: ASYNC110  # in the background
            await asyncio.sleep(0.01)


@pytest.fixture(params=[in_process, over_the_wire], ids=lambda f: f.__name__)
def reached(request):
    return request.param


@pytest.fixture
def world(reached, tmp_path):
    """`helper` with this memory, and a runtime.yaml with these backends."""

    @contextlib.asynccontextmanager
    async def started(conversational, backends=None, **spec):
        async with contextlib.AsyncExitStack() as stack:
            model = await stack.enter_async_context(openai_server(Reply(("Hello",))))
            model_spec = spec.pop("model", lambda server: {"primary": model_at(server)})
            manifest = agent("helper", model.endpoint, **spec)
            manifest["spec"]["model"] = model_spec(model)
            manifest["spec"]["memory"] = {"conversational": conversational}
            config = write_agents(tmp_path, manifest)
            runtime = {
                "apiVersion": "astromesh/v1",
                "kind": "RuntimeConfig",
                "metadata": {"name": "r"},
                "spec": {"memory": {"backends": backends or {}}},
            }
            (config / "runtime.yaml").write_text(yaml.safe_dump(runtime))
            found = load_config(config, tmp_path / "state", {})
            mesh = await stack.enter_async_context(open_mesh(found))
            agents = await stack.enter_async_context(reached(mesh))
            yield agents, mesh.memory, model, mesh

    return started


class TestABudgetOfTokens:
    KEPT = {"strategy": "token_budget", "max_tokens": 30}  # noqa: RUF012

    @staticmethod
    def counted(server) -> dict:
        return {"primary": model_at(server, "gpt-4o")}

    async def test_is_counted_once_as_the_model_counts(self, world):
        async with world(self.KEPT, model=self.counted) as (agents, memory, _, _):
            await agents.run(ME, asking("how are you today, my friend?"))
            turns = (await memory.turns(KEY)).turns
        assert all(turn.tokens > 0 for turn in turns)
        assert {turn.counted_by for turn in turns} == {"openai_compat/gpt-4o"}
        assert turns[0].tokens > turns[1].tokens

    async def test_decides_what_the_model_sees(self, world):
        async with world(self.KEPT, model=self.counted) as (agents, memory, model, _):
            long = "one two three four five six seven eight nine ten " * 5
            for query in (long, "short", "and now?"):
                await agents.run(ME, asking(query))
            counts = [turn.tokens for turn in (await memory.turns(KEY)).turns[:4]]
        assert counts[0] > 30
        assert shown(model.requests[2]) == ["Hello", "short", "Hello", "and now?"]

    async def test_counts_what_a_client_appended_once(self, world):
        async with world(self.KEPT, model=self.counted) as (agents, memory, model, _):
            said = [says(Role.USER, "x " * 200), says(Role.ASSISTANT, "y")]
            await memory.append(KEY, said)
            await agents.run(ME, asking("now?"))
            turns = (await memory.turns(KEY)).turns
        assert [turn.tokens > 0 for turn in turns] == [True] * 4
        assert shown(model.requests[0]) == ["y", "now?"]


class TestASummary:
    KEPT = {"strategy": "summary", "summary_threshold": 4}  # noqa: RUF012

    async def until(self, memory, text: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while (await memory.context(KEY, Strategy("summary"))).summary != text:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    @contextlib.asynccontextmanager
    async def with_summarizer(self, world, *replies: Reply):
        async with openai_server(*replies) as summarizer:

            def models(server) -> dict:
                return {
                    "default": {"candidates": [model_at(server)]},
                    "roles": {"summarizer": {"candidates": [model_at(summarizer, "small")]}},
                }

            async with world(self.KEPT, model=models) as (agents, memory, model, mesh):
                yield agents, memory, model, summarizer, mesh

    async def talk(self, agents, first: int, last: int) -> None:
        for number in range(first, last + 1):
            run = await agents.run(ME, asking(f"question {number}"))
            assert run.state is RunState.COMPLETED

    async def test_by_its_role_stands_for_the_older_turns(self, world):
        done = self.with_summarizer(world, Reply(("They talked.",)))
        async with done as (agents, memory, model, summarizer, _):
            await self.talk(agents, 1, 3)  # six turns: four go into the summary
            await self.until(memory, "They talked.")
            await self.talk(agents, 4, 4)
        assert "They talked." in system(model.requests[3])
        assert shown(model.requests[3]) == ["question 3", "Hello", "question 4"]
        assert shown(summarizer.requests[0])[0].endswith(
            "user: question 1\nassistant: Hello\nuser: question 2\nassistant: Hello"
        )

    async def test_is_rolled_on(self, world):
        done = self.with_summarizer(world, Reply(("First.",)), Reply(("Second.",)))
        async with done as (agents, memory, _, summarizer, _):
            await self.talk(agents, 1, 3)
            await self.until(memory, "First.")
            await self.talk(agents, 4, 5)
            await self.until(memory, "Second.")
        asked = shown(summarizer.requests[1])[0]
        assert "First." in asked
        assert "question 3" in asked
        assert "question 1" not in asked

    async def test_never_holds_up_an_answer(self, world):
        hold = asyncio.Event()
        done = self.with_summarizer(world, Reply(("Late.",), hold=hold))
        async with done as (agents, memory, model, _, _):
            await self.talk(agents, 1, 6)  # all of them answered meanwhile
            assert (await memory.context(KEY, Strategy("summary"))).summary == ""
            assert "question 2" in shown(model.requests[5])  # twice the threshold is shown
            hold.set()
            await self.until(memory, "Late.")

    async def test_that_fails_is_made_after_the_next_run(self, world):
        done = self.with_summarizer(world, refuses(400, "no"), Reply(("Now.",)))
        async with done as (agents, memory, _, summarizer, _):
            await self.talk(agents, 1, 3)
            await asked_of(summarizer)
            async with asyncio.timeout(PATIENCE):
                while not (await memory.context(KEY, Strategy("summary"))).summary:
                    await self.talk(agents, 4, 4)  # the first time it may not have failed yet
            await self.until(memory, "Now.")

    async def test_does_not_outlive_its_session(self, world):
        hold = asyncio.Event()
        done = self.with_summarizer(world, Reply(("Stale.",), hold=hold))
        async with done as (agents, memory, _, summarizer, _):
            await self.talk(agents, 1, 3)
            await asked_of(summarizer)
            await memory.clear(KEY)
            await self.talk(agents, 4, 4)
            hold.set()
            await asyncio.sleep(0.2)
            assert (await memory.context(KEY, Strategy("summary"))).summary == ""

    async def test_does_not_keep_the_mesh_from_stopping(self, world):
        done = self.with_summarizer(world, Reply(("Never.",), hold=asyncio.Event()))
        async with asyncio.timeout(PATIENCE):
            async with done as (agents, _, _, summarizer, _):
                await self.talk(agents, 1, 3)
                await asked_of(summarizer)

    async def test_is_made_by_the_agents_own_model_without_a_role(self, world):
        async with world(self.KEPT) as (agents, memory, model, _):
            await self.talk(agents, 1, 3)
            await self.until(memory, "Hello")
        assert len(model.requests) == 4

    async def test_is_on_the_account_of_who_asked(self, world):
        done = self.with_summarizer(world, Reply(("They talked.",)))
        async with done as (agents, memory, _, _, mesh):
            await self.talk(agents, 1, 3)
            await self.until(memory, "They talked.")
            by = UsageQuery(where={"tenant": "acme"}, group_by=("model", "principal"))

            async def told():
                rows = await mesh.router.usage(by)
                accounts = {(row.group["model"], row.group["principal"]) for row in rows}
                return accounts == {("m", "ada"), ("small", "ada")}

            await until(told)


class TestWhereItIsKept:
    async def test_is_the_backend_that_the_agent_names(self, world, redis):
        backends = {"chats": {"url": redis.url}}
        async with world({"backend": "chats"}, backends) as (agents, memory, model, _):
            await memory.clear(KEY)
            for query in ("one", "two"):
                await agents.run(ME, asking(query))
            found = (await memory.sessions("acme", "helper")).sessions
            await memory.clear(KEY)
        assert shown(model.requests[1]) == ["one", "Hello", "two"]
        assert [(each.backend, each.turns) for each in found] == [("chats", 4)]

    async def test_may_be_a_database_of_the_agents_own(self, world, redis):
        kept = {"redis": {"url": redis.url.replace("/0", "/1"), "ttl": 60}}
        async with world(kept) as (agents, memory, _, _):
            await agents.run(ME, asking("one"))
            (found,) = (await memory.sessions("acme", "helper")).sessions
            await memory.clear(KEY)
        assert found.backend == "agent:helper"
        assert found.expires_at is not None

    async def test_is_in_the_name_of_who_asked(self, world):
        async with world({}) as (agents, memory, _, _):
            await agents.run(ME, asking("one"))
            records = (await memory.export("acme", "ada")).records
        assert [record.turn.message.text for record in records] == ["one", "Hello"]


class TestABackendThatIsAway:
    async def test_keeps_its_agent_from_running_and_is_the_reason(self, world, tmp_path):
        async with redis_server(tmp_path) as server:
            await server.stop()
            backends = {"chats": {"url": server.url}}
            async with world({"backend": "chats"}, backends) as (agents, _, model, _):
                record = await agents.get(ME, "helper")
                assert not record.ready
                assert "Redis at 127.0.0.1" in record.reason
                with pytest.raises(NotReady, match="Redis at 127") as refused:
                    await agents.run(ME, asking("one"))
                assert refused.value.reason == "AGENT_NOT_READY"
                assert model.requests == []
                await server.start()

                async def ready():
                    return (await agents.get(ME, "helper")).ready

                await until(ready)
                assert (await agents.run(ME, asking("one"))).state is RunState.COMPLETED

    async def test_shows_no_password(self, world):
        backends = {"chats": {"url": "redis://:secret@127.0.0.1:1/0"}}
        async with world({"backend": "chats"}, backends) as (agents, _, _, _):
            assert "secret" not in (await agents.get(ME, "helper")).reason

    async def test_that_nobody_has_configured_is_named_at_load(self, world):
        async with world({"backend": "chatz"}) as (agents, _, _, _):
            record = await agents.get(ME, "helper")
        assert not record.ready
        assert "there is no backend 'chatz'" in record.reason

    async def test_is_no_address_that_a_caller_of_the_api_chooses(self, world):
        async with world({}) as (agents, _, model, _):
            manifest = agent("mine", model.endpoint)
            kept = {"backend": "redis", "connection": {"url": "redis://127.0.0.1:1/0"}}
            manifest["spec"]["memory"] = {"conversational": kept}
            manifest["api_version"] = manifest.pop("apiVersion")
            with pytest.raises(InvalidInput, match="only agents in files"):
                await agents.create(ME, manifest)
