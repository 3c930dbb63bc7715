"""Budgets and usage of a started mesh: from YAML to the callers on gRPC, REST and the command line.

The scripted model reads 7 tokens and writes 2; at the prices below that is 0.017 USD. A call
may write 10, which together with its prompt is set aside at first: 0.05 USD and some more.
"""

import asyncio
import signal
import time
from collections.abc import Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from astromesh.agents.v1 import agent_service_pb2 as agents_pb
from google.rpc import error_details_pb2

from servers.config import load_config
from servers.domain.caller import Account
from servers.domain.chat import Usage
from servers.domain.usage import UsageQuery
from servers.kernel.sqlite import open_database
from servers.mesh import open_mesh
from servers.router.adapters.sqlite_usage import MIGRATIONS, SqliteUsage
from servers.router.budgets.records import Entry
from tests.mesh.budget_fixture import (
    BUDGETS,
    Reached,
    details_of,
    folder,
    mesh,
    model,
    reached,
    refused,
    write_config,
)
from tests.mesh.mesh_process import command, mesh_process
from tests.mesh.test_tracing import collecting
from tests.patience import PATIENCE
from tests.redis_server import redis_server
from tests.scripted.http_server import Call, Reply
from tests.scripted.openai_server import openai_server

__all__ = ["folder", "mesh", "model"]
pytestmark = pytest.mark.asyncio(loop_scope="module")
COST = 0.017
ADD = Reply((), calls=[Call("calculator", '{"expression": "2+3"}')])


class TestASpentBudget:
    async def test_refuses_a_run_with_the_budget_and_the_time_when_it_begins_anew(self, mesh):
        asked = len(mesh.model.requests)
        error = await refused(mesh, "spender")
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        info = details_of(error, error_details_pb2.ErrorInfo)
        assert info.reason == "BUDGET_EXCEEDED"
        assert info.metadata["budget"] == "spender-monthly"
        (violation,) = details_of(error, error_details_pb2.QuotaFailure).violations
        assert violation.subject == "spender-monthly"
        assert "of 0.09 USD spent" in violation.description
        retry = details_of(error, error_details_pb2.RetryInfo).retry_delay.seconds
        assert 0 < retry <= 31 * 86400
        assert len(mesh.model.requests) - asked == 2  # the third was never asked

    async def test_is_429_over_rest(self, mesh):
        await refused(mesh, "spender")
        answer = await mesh.http.post("/v1/agents/spender:run", json={"query": "hi"})
        kinds = {each["@type"].rpartition(".")[2]: each for each in answer.json()["details"]}
        assert answer.status_code == 429
        assert kinds["ErrorInfo"]["reason"] == "BUDGET_EXCEEDED"
        assert kinds["QuotaFailure"]["violations"][0]["subject"] == "spender-monthly"

    async def test_lets_others_go_on(self, mesh):
        await refused(mesh, "spender")
        assert (await mesh.run("free")).answer == "Hello there"

    async def test_is_shown_with_its_sums(self, mesh):
        await refused(mesh, "spender")
        counter = await mesh.counter("spender-monthly")
        assert (counter.window, counter.action, counter.limit_usd) == ("month", "hard", 0.09)
        assert counter.spent_usd == pytest.approx(2 * COST)
        assert (counter.reserved_usd, counter.spent_tokens) == (0, 18)

    async def test_is_told_by_the_log(self, mesh):
        await refused(mesh, "spender")
        assert "budget exceeded" in mesh.mesh.log()


class TestABudgetOfARun:
    async def test_ends_a_run_that_goes_on_too_long_and_no_other(self, mesh):
        long = Reply((), calls=ADD.calls, prompt_tokens=300, completion_tokens=60)
        mesh.model.replies[:] = [long, long, Reply(("5",)), Reply()]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await mesh.run("looping")
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert details_of(caught.value, error_details_pb2.ErrorInfo).metadata["budget"] == "one-run"
        mesh.model.replies[:] = [Reply()]
        assert (await mesh.run("looping")).answer == "Hello there"


async def test_a_price_that_nobody_knows_is_refused_before_the_call(mesh):
    asked = len(mesh.model.requests)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await mesh.run("unpriced")
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert details_of(caught.value, error_details_pb2.ErrorInfo).reason == "PRICE_UNKNOWN"
    assert len(mesh.model.requests) == asked


async def test_a_budget_that_warns_adds_a_notice_to_the_answer(mesh):
    body = {
        "candidates": [{"provider": "company", "model": "m"}],
        "messages": [{"role": "ROLE_USER", "text": "hi"}],
        "agent": "warned",
    }
    answer = (await mesh.http.post("/v1/router:complete", json=body)).json()
    (notice,) = answer["finish"]["notices"]
    assert notice["reason"] == "BUDGET_WARNING"
    assert notice["message"].startswith("budget 'soft' is exceeded: ")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def used(mesh):
    """Two calls of a session that nobody else has."""
    await mesh.run("free", session_id="s-usage")
    await mesh.run("free", session_id="s-usage")


async def test_a_run_shows_the_notices_of_its_calls(mesh):
    request = agents_pb.StreamAgentRequest(agent="warned", query="hi")
    events = [event async for event in mesh.agents.StreamAgent(request)]
    noticed = [event.notice for event in events if event.HasField("notice")]
    assert [notice.reason for notice in noticed] == ["BUDGET_WARNING"]
    assert events[-1].completed.answer == "Hello there"


class TestUsage:
    async def test_is_summed_over_rest(self, mesh, used):
        (row,) = (await mesh.rest("/v1/usage", session_id="s-usage", group_by="model"))["rows"]
        assert row["group"] == {"model": "m"}
        assert (row["calls"], row["prompt_tokens"], row["completion_tokens"]) == ("2", "14", "4")
        assert row["cost_usd"] == pytest.approx(2 * COST)

    async def test_is_summed_through_grpcurl(self, mesh, used):
        asked = {"session_id": "s-usage", "group_by": ["agent", "provider"]}
        (row,) = (await mesh.grpcurl("GetUsage", asked))["rows"]
        assert row["group"] == {"agent": "free", "provider": "company"}
        assert row["calls"] == "2"

    async def test_is_shown_by_the_command_line(self, mesh, used):
        rows = await mesh.cli("usage", "--by", "session", "--by", "day", "--since", "1h")
        assert ("s-usage", "2") in [(row["group"]["session"], row["calls"]) for row in rows]

    async def test_has_each_run_apart(self, mesh, used):
        rows = (await mesh.rest("/v1/usage", session_id="s-usage", group_by="run"))["rows"]
        assert [row["calls"] for row in rows] == ["1", "1"]

    async def test_by_an_unknown_dimension_is_refused(self, mesh):
        answer = await mesh.http.get("/v1/usage", params={"group_by": "modle"})
        assert answer.status_code == 400
        assert "did you mean 'model'" in answer.json()["message"]


class TestBudgetsAreListed:
    async def test_through_grpcurl(self, mesh):
        counters = (await mesh.grpcurl("ListBudgets", {}))["counters"]
        assert {"spender-monthly", "soft"} <= {counter["budget"] for counter in counters}

    async def test_over_rest(self, mesh):
        (counter,) = (await mesh.rest("/v1/budgets", budget="soft"))["counters"]
        assert (counter["action"], counter["limit_usd"]) == ("warn", 0.001)

    async def test_on_the_command_line(self, mesh):
        counters = await mesh.cli("budgets", "soft")
        assert [counter["budget"] for counter in counters] == ["soft"]

    async def test_by_no_other_name(self, mesh):
        answer = await mesh.http.get("/v1/budgets", params={"budget": "sotf"})
        assert answer.status_code == 404
        assert "did you mean 'soft'" in answer.json()["message"]


async def test_usage_that_is_too_old_is_forgotten(tmp_path):
    config = write_config(tmp_path, "http://127.0.0.1:9/v1", {}, usage={"keep_days": 30})
    state, day, now = tmp_path / "state", 86400, time.time()
    async with open_database(state / "usage.db", MIGRATIONS) as database:
        ages = [Entry(now - age * day, Account(), "p", "m", "", "", Usage()) for age in (29, 31)]
        await SqliteUsage(database).add(ages)
    async with open_mesh(load_config(config, state, {})) as mesh, asyncio.timeout(PATIENCE):
        while (  # noqa: ASYNC110  # it happens in the background
            await mesh.router.usage(UsageQuery())
        )[0].calls == 2:
            await asyncio.sleep(0.02)
        (row,) = await mesh.router.usage(UsageQuery(group_by=("day",)))
    assert row.group["day"] == f"{datetime.fromtimestamp(now - 29 * day, UTC):%Y-%m-%d}"


async def test_what_calls_cost_is_a_metric(tmp_path, model):
    write_config(tmp_path, model.endpoint, BUDGETS)
    async with collecting() as (collector, endpoint):
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
        with mesh_process(tmp_path, command(tmp_path, "--no-envoy"), env) as mesh:
            async with grpc.aio.insecure_channel(mesh.address) as channel:
                await refused(Reached(mesh, None, channel, model), "spender")
            mesh.signal(signal.SIGTERM)  # what is left is sent at the end
            assert await mesh.ended() == 0
    assert {"astromesh.cost.usd", "astromesh.budget.refusals"} <= collector.metrics


@pytest.mark.slow
async def test_a_restart_keeps_budgets_and_usage(tmp_path):
    async with openai_server() as model:
        write_config(tmp_path, model.endpoint, BUDGETS)
        async with reached(tmp_path, model, "--no-envoy") as mesh:
            await refused(mesh, "spender")
            before = await mesh.cli("budgets"), await mesh.cli("usage", "--by", "agent")
        async with reached(tmp_path, model, "--no-envoy") as mesh:
            assert (await mesh.cli("budgets"), await mesh.cli("usage", "--by", "agent")) == before
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await mesh.run("spender")
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.slow
class TestTwoMeshesOnOneRedis:
    BUDGET = {  # noqa: RUF012
        "shared": {"match": {"agent": "spender"}, "window": "month", "limit": {"tokens": 200}}
    }

    @asynccontextmanager
    async def both(self, folder: Path, model, url: str):
        (folder / "one").mkdir()
        (folder / "two").mkdir()
        for name in ("one", "two"):
            write_config(folder / name, model.endpoint, self.BUDGET, redis={"url": url})
        async with (
            reached(folder / "one", model, "--no-envoy") as one,
            reached(folder / "two", model, "--no-envoy") as two,
        ):
            yield one, two

    async def test_spend_one_budget_together(self, tmp_path):
        async with (
            redis_server(tmp_path) as redis,
            openai_server() as model,
            self.both(tmp_path, model, redis.url) as meshes,
        ):
            answers = await asyncio.gather(
                *(mesh.run("spender") for _ in range(40) for mesh in meshes),
                return_exceptions=True,
            )
            counters = [await mesh.counter("shared") for mesh in meshes]
        errors = [answer for answer in answers if isinstance(answer, Exception)]
        went_well = len(answers) - len(errors)
        assert {error.code() for error in errors} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert went_well > 0
        assert {counter.spent_tokens for counter in counters} == {went_well * 9}
        assert {counter.reserved_tokens for counter in counters} == {0}
        assert counters[0].spent_tokens <= 200

    async def test_refuse_while_it_is_away(self, tmp_path):
        async with (
            redis_server(tmp_path) as redis,
            openai_server() as model,
            self.both(tmp_path, model, redis.url) as (one, _),
        ):
            await redis.stop()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await one.run("spender")
            assert (await one.run("free")).answer == "Hello there"
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        info = details_of(caught.value, error_details_pb2.ErrorInfo)
        assert info.reason == "BUDGETS_UNAVAILABLE"

    async def test_do_not_start_where_it_cannot_be_reached(self, tmp_path):
        write_config(tmp_path, "http://127.0.0.1:9/v1", {}, redis={"url": "redis://127.0.0.1:9"})
        words: Sequence[str] = command(tmp_path, "--no-envoy")
        process = await asyncio.create_subprocess_exec(
            *words, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
        )
        _, err = await asyncio.wait_for(process.communicate(), PATIENCE)
        assert process.returncode == 1
        assert "UNAVAILABLE BUDGETS_UNAVAILABLE: Redis at 127.0.0.1:9" in err.decode()
