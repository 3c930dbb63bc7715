"""What budgets and the record do while Redis is away, or the disk is full."""

import asyncio
import sqlite3
import sys
from contextlib import closing

import pytest
import structlog

from servers.kernel.errors import Exhausted, Unavailable
from servers.router.adapters.redis.client import open_redis
from servers.router.budgets.journal import MOST_WAITING
from tests.contract.spending_fixture import ANYBODY, Clock, books, budget, tokens, used
from tests.patience import PATIENCE
from tests.redis_server import redis_server

HARD = budget(name="hard", limit={"tokens": 100})
SOFT = budget(name="soft", limit={"tokens": 1}, action="warn")


@pytest.fixture
async def redis(tmp_path):
    (tmp_path / "redis").mkdir()
    async with redis_server(tmp_path / "redis") as server:
        yield server


async def until_counted(kept, account=ANYBODY):
    """A call, as soon as Redis is used again."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await kept.reserve(account, "company", "m", tokens(1))
            except Unavailable:
                await asyncio.sleep(0.05)


class TestWithoutRedis:
    async def test_a_hard_budget_refuses_what_it_cannot_count(self, tmp_path, redis):
        async with books(tmp_path, HARD, SOFT, redis=redis.url, prefix="p") as kept:
            await redis.stop()
            with pytest.raises(Unavailable, match="budgets can't be counted") as caught:
                await kept.reserve(ANYBODY, "company", "m", tokens(1))
        assert caught.value.reason == "BUDGETS_UNAVAILABLE"
        assert caught.value.retry_after

    async def test_a_budget_that_warns_lets_calls_pass_and_says_that_it_did_not_count(
        self, tmp_path, redis
    ):
        async with books(tmp_path, SOFT, redis=redis.url, prefix="p") as kept:
            await redis.stop()
            reservation = await kept.reserve(ANYBODY, "company", "m", tokens(1))
            await reservation.settle(used(1), "chat")
        (notice,) = reservation.notices
        assert notice.reason == "BUDGETS_UNAVAILABLE"
        assert notice.message == "not counted by 'soft': Redis can't be reached"

    async def test_calls_that_no_budget_counts_do_not_notice(self, tmp_path, redis):
        theirs = budget(match={"tenant": "other"}, limit={"tokens": 1})
        async with books(tmp_path, theirs, redis=redis.url, prefix="p") as kept:
            await redis.stop()
            reservation = await kept.reserve(ANYBODY, "company", "m", tokens(1))
            await reservation.settle(used(1), "chat")
        assert reservation.notices == ()

    async def test_the_list_of_counters_is_unavailable(self, tmp_path, redis):
        async with books(tmp_path, HARD, redis=redis.url, prefix="p") as kept:
            await redis.stop()
            with pytest.raises(Unavailable):
                await kept.budgets("acme")

    async def test_it_is_logged_once_and_not_for_every_call(self, tmp_path, redis):
        async with books(tmp_path, HARD, redis=redis.url, prefix="p") as kept:
            await redis.stop()
            with structlog.testing.capture_logs() as logs:
                for _ in range(5):
                    with pytest.raises(Unavailable):
                        await kept.reserve(ANYBODY, "company", "m", tokens(1))
        assert [line["event"] for line in logs] == ["budgets can't be counted"]

    async def test_what_was_used_meanwhile_is_counted_once_it_is_back(self, tmp_path, redis):
        async with books(tmp_path, HARD, redis=redis.url, prefix="p") as kept:
            reservation = await kept.reserve(ANYBODY, "company", "m", tokens(50))
            await redis.stop()
            await reservation.settle(used(40), "chat")
            await redis.start()
            await (await until_counted(kept)).release()
            async with asyncio.timeout(PATIENCE):
                while not (  # noqa: ASYNC110  # in Redis
                    state := (await kept.budgets("acme"))[0]
                ).spent_tokens:
                    await asyncio.sleep(0.05)
        assert (state.spent_tokens, state.reserved_tokens) == (40, 0)

    async def test_a_connection_that_was_cut_costs_no_call(self, tmp_path, redis):
        async with books(tmp_path, HARD, redis=redis.url, prefix="p") as kept:
            await (await kept.reserve(ANYBODY, "company", "m", tokens(1))).release()
            await redis.stop()
            await redis.start()
            await (await kept.reserve(ANYBODY, "company", "m", tokens(1))).release()


class TestOpeningRedis:
    async def test_fails_where_nobody_answers_and_shows_no_password(self):
        url = "redis://me:hunter2@127.0.0.1:9/0"
        with pytest.raises(Unavailable, match=r"Redis at 127\.0\.0\.1:9 ") as caught:
            async with open_redis(url):
                pass
        assert "hunter2" not in caught.value.message

    async def test_fails_where_the_password_is_wrong_and_does_not_show_it(self, tmp_path):
        async with redis_server(tmp_path, "--requirepass", "right") as guarded:
            wrong = guarded.url.replace("//", "//:hunter2@")
            with pytest.raises(Unavailable, match="can't be used") as caught:
                async with open_redis(wrong):
                    pass
            async with open_redis(guarded.url.replace("//", "//:right@")) as redis:
                assert await redis.ping()
        assert "hunter2" not in caught.value.message


def room(kept, pages: int):
    """How far the file of the record may grow; it does not shrink."""
    return kept.record._database.write(
        lambda connection: connection.execute(f"PRAGMA max_page_count = {pages}").fetchone()
    )


async def spend(kept, calls: int) -> None:
    for _ in range(calls):
        reservation = await kept.reserve(ANYBODY, "company", "m", tokens(1))
        await reservation.settle(used(1), "chat" * 5000)  # a row that needs a page of its own


class TestAFullDisk:
    async def test_is_no_reason_to_refuse_a_call(self, tmp_path):
        async with books(tmp_path, HARD) as kept:
            await room(kept, 1)
            with structlog.testing.capture_logs() as logs:
                await spend(kept, 100)
        assert "usage not written" in [line["event"] for line in logs]

    async def test_does_not_keep_budgets_from_counting(self, tmp_path):
        async with books(tmp_path, HARD) as kept:
            await room(kept, 1)
            await spend(kept, 100)
            with pytest.raises(Exhausted):
                await kept.reserve(ANYBODY, "company", "m", tokens(1))

    async def test_that_was_emptied_gets_what_was_not_written(self, tmp_path):
        async with books(tmp_path) as kept:
            await room(kept, 1)
            await spend(kept, 10)
            await kept.journal.on_disk()
            await room(kept, 1_000_000)
        with closing(sqlite3.connect(tmp_path / "usage.db")) as connection:
            assert connection.execute("SELECT count(*) FROM usage").fetchone() == (10,)

    async def test_does_not_fill_the_memory_instead(self, tmp_path):
        with structlog.testing.capture_logs() as logs:
            async with books(tmp_path) as kept:
                await room(kept, 1)
                await spend(kept, 1)
                await kept.journal.on_disk()  # from now on it is known to be full
                for _ in range(MOST_WAITING + 10):
                    reservation = await kept.reserve(ANYBODY, "company", "m", tokens(1))
                    await reservation.settle(used(1), "chat")
        lost = [line for line in logs if line["event"] == "usage rows lost"]
        # Told at once, and not of each; in the end of all that waited in vain.
        assert [(line["rows"], line["why"]) for line in lost] == [
            (1, "no room"),
            (MOST_WAITING, "closed"),
        ]

    async def test_tells_in_the_end_how_much_was_lost(self, tmp_path):
        with structlog.testing.capture_logs() as logs:
            async with books(tmp_path) as kept:
                await room(kept, 1)
                await spend(kept, 10)
        lost = [line for line in logs if line["event"] == "usage rows lost"]
        assert [line["rows"] for line in lost] == [10]


async def test_a_budget_that_refuses_is_logged_once_and_not_for_every_call(tmp_path):
    async with books(tmp_path, HARD, clock=Clock()) as kept:
        with structlog.testing.capture_logs() as logs:
            for _ in range(5):
                with pytest.raises(Exhausted):
                    await kept.reserve(ANYBODY, "company", "m", tokens(101))
    (line,) = logs
    assert (line["event"], line["budget"], line["times"]) == ("budget exceeded", "hard", 1)


async def test_without_the_extra_the_mesh_says_how_to_install_it(tmp_path, monkeypatch):
    from servers.config import load_config
    from servers.kernel.errors import NotReady
    from servers.mesh import open_mesh

    for name in [name for name in sys.modules if name.partition(".")[0] == "redis"]:
        monkeypatch.setitem(sys.modules, name, None)
    for name in [name for name in sys.modules if ".router.adapters.redis" in name]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "runtime.yaml").write_text(
        "apiVersion: astromesh/v1\nkind: RuntimeConfig\nmetadata: {name: r}\n"
        "spec: {redis: {url: 'redis://127.0.0.1:9'}}\n"
    )
    config = load_config(tmp_path / "config", tmp_path / "state", {})
    with pytest.raises(NotReady, match=r"pip install 'astromesh-grpc\[redis\]'") as caught:
        async with open_mesh(config):
            pass
    assert (caught.value.reason, caught.value.facts["extra"]) == ("EXTRA_MISSING", "redis")
