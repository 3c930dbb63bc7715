"""What runs in PostgreSQL do while it is restarted, away, not theirs or from the future."""

import asyncio
import signal
import sys
import time
from contextlib import AsyncExitStack, suppress

import asyncpg
import pytest

from servers.agents.adapters.opening import open_stores
from servers.agents.ports import Beat
from servers.domain.run_events import TextDelta
from servers.kernel.errors import NotReady, Unavailable
from tests.contract import run_fixture
from tests.contract.run_fixture import STARTED, a_run, ended, event, ids, said, waiting_run
from tests.patience import PATIENCE
from tests.postgres_proxy import proxy

LONG = 600.0  # seconds that no test waits for


@pytest.fixture
def dsn(fragile):
    return fragile.schema()


@pytest.fixture
async def stores(dsn):
    async with run_fixture.postgres(dsn, patience=2 * PATIENCE) as stores:
        yield stores


def texts(run_id, *sequences):
    return [event(sequence, TextDelta(f"t{sequence}"), run_id) for sequence in sequences]


async def in_the_end(ask):
    """What a server that is back says to who asks it again."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with suppress(Unavailable):
                return await ask()


class TestARestart:
    @pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["in_order", "crash"])
    async def test_loses_nothing_and_doubles_nothing(self, fragile, stores, how):
        """Many logs are written while it happens: each is whole, and in order."""
        stop = asyncio.Event()

        async def work(run_id):
            await stores.runs.create(a_run(run_id))
            sequence = 0
            while not stop.is_set():
                sequence += 1
                await stores.runs.append(run_id, texts(run_id, sequence))
            return sequence

        working = [asyncio.create_task(work(f"r{number}")) for number in range(8)]
        for _ in range(3):
            await asyncio.sleep(0.3)
            await asyncio.to_thread(fragile.restart, how)
        await asyncio.sleep(0.3)
        stop.set()
        for number, written in enumerate(await asyncio.gather(*working)):
            log = await stores.runs.events(f"r{number}", 0, 1_000_000)
            assert [e.sequence for e in log] == list(range(1, written + 1))

    async def test_lets_everything_else_wait_for_it(self, fragile, stores):
        await stores.runs.create(a_run("r1"), events=[STARTED])
        await stores.runs.create(waiting_run("r2"))
        await asyncio.to_thread(fragile.stop)
        asked = asyncio.gather(
            stores.runs.get("acme", "r1"),
            stores.runs.events("r1"),
            stores.leases.renew(["r1"]),
            stores.leases.take("acme", "r2"),
            stores.versions.kept("abc"),
            stores.outbox.undelivered(10, 60.0),
            stores.retention.forget(1.0, 10),
        )
        await asyncio.sleep(0.3)
        assert not asked.done()
        await asyncio.to_thread(fragile.start)
        async with asyncio.timeout(PATIENCE):
            run, log, beat, taken, *_ = await asked
        assert (run, log, beat) == (a_run("r1"), [STARTED], Beat())
        assert taken == (waiting_run("r2"), [])

    async def test_lets_readers_go_on_waiting(self, fragile, dsn, stores):
        await stores.runs.create(a_run(), events=[STARTED])
        async with run_fixture.postgres(dsn) as reader:
            waiting = asyncio.create_task(reader.runs.changed("r1", 1, LONG))
            await asyncio.to_thread(fragile.restart)
            await asyncio.sleep(0.3)
            assert not waiting.done()
            await stores.runs.append("r1", said(2, 3))
            async with asyncio.timeout(PATIENCE):
                await waiting


class TestALineThatBreaksAfterTheCommit:
    """Nobody knows then whether it came to pass."""

    @pytest.fixture
    async def line(self, postgres, process):
        async with proxy(postgres.folder) as line:
            yield line

    @pytest.fixture
    async def process(self):
        async with AsyncExitStack() as stack:
            yield lambda dsn: stack.enter_async_context(run_fixture.postgres(dsn))

    @pytest.fixture
    async def ours(self, postgres, line, process):
        dsn = postgres.schema().replace(str(postgres.folder), str(line.folder))
        return await process(dsn)

    async def test_an_append_is_not_done_twice(self, ours, line):
        await ours.runs.create(a_run(), events=[STARTED])
        await ours.runs.append("r1", said(2, 3))  # the statement is prepared
        line.swallowing = b"t4"
        await ours.runs.append("r1", said(4, 5), a_run(iterations=2))
        assert line.swallowed == 1
        assert await ours.runs.events("r1") == [STARTED, *said(2, 5)]
        assert (await ours.runs.get("acme", "r1")).iterations == 2

    async def test_an_end_is_told_once(self, ours, line):
        run = ended(a_run(webhook="https://example.test/told", answer="the-answer"))
        await ours.runs.create(a_run(webhook=run.webhook))
        await ours.runs.append("r1", said(1, 1))
        line.swallowing = b"the-answer"
        await ours.runs.append("r1", said(2, 2), run)
        assert line.swallowed == 1
        assert await ours.outbox.undelivered(10, 60.0) == [(run, 0)]

    @pytest.mark.parametrize("request_id", ["", "q"])
    async def test_a_run_is_new_all_the_same(self, ours, line, request_id):
        await ours.runs.create(a_run("r1"))
        run = a_run("r2", request_id=request_id, answer="the-answer")
        line.swallowing = b"the-answer"
        assert await ours.runs.create(run, "hash", said(1, 2, "r2")) == (run, True)
        assert line.swallowed == 1
        assert await ours.runs.events("r2") == said(1, 2, "r2")

    async def test_others_in_the_same_commit_hear_well_of_it_too(self, ours, line):
        for name in ("r1", "r2", "r3"):
            await ours.runs.create(a_run(name))
            await ours.runs.append(name, texts(name, 1))
        line.swallowing = b"t2"
        await asyncio.gather(*(ours.runs.append(n, texts(n, 2)) for n in ("r1", "r2", "r3")))
        assert line.swallowed == 1
        for name in ("r1", "r2", "r3"):
            assert await ours.runs.events(name) == texts(name, 1, 2)

    async def test_what_is_refused_is_refused_still(self, ours, line):
        await ours.runs.create(a_run(), events=said(1, 4))
        line.swallowing = b"other"
        outcomes = await asyncio.gather(
            ours.runs.append("r1", [event(4, TextDelta("other"))]), return_exceptions=True
        )
        assert line.swallowed == 1
        assert [getattr(each, "reason", "") for each in outcomes] == ["FENCED"]

    async def test_a_waiting_run_is_taken_all_the_same(self, ours, line):
        await ours.runs.create(waiting_run("only-this-one"))
        line.swallowing = b"only-this-one"
        assert ids([await ours.leases.take("acme", "only-this-one")]) == ["only-this-one"]
        assert line.swallowed == 1

    async def test_a_claim_is_made_all_the_same(self, ours, line):
        await ours.runs.create(a_run())
        await ours.leases.release(["r1"])
        line.swallowing = b"busy-with-this"
        assert ids(await ours.leases.claim(["busy-with-this"], 10)) == ["r1"]
        assert line.swallowed == 1


class TestNobodyThere:
    async def test_is_said_at_the_start_without_the_password(self, fragile):
        dsn = fragile.dsn(user="astromesh", password="hidden").replace("/pg-", "/no-such-pg-")
        with pytest.raises(Unavailable, match="no-such-pg-") as caught:
            async with run_fixture.postgres(dsn):
                pass
        assert caught.value.reason == "STORE_UNAVAILABLE"
        assert "spec.runs" in caught.value.message
        assert "hidden" not in caught.value.message

    async def test_is_said_where_the_user_is_unknown(self, fragile):
        with pytest.raises(Unavailable, match="astromesh") as caught:
            async with run_fixture.postgres(fragile.dsn(user="astromesh", password="hidden")):
                pass
        assert caught.value.reason == "STORE_UNAVAILABLE"
        assert "hidden" not in caught.value.message

    @pytest.mark.parametrize(
        "dsn", ["postgresql://me:hidden@[x/db", "postgresql://me:hidden@host:port/db"]
    )
    async def test_is_said_of_an_address_that_is_none(self, dsn):
        with pytest.raises(Unavailable) as caught:
            async with run_fixture.postgres(dsn):
                pass
        assert caught.value.reason == "STORE_UNAVAILABLE"
        assert "hidden" not in caught.value.message

    async def test_for_too_long_is_an_error_for_who_waits(self, fragile, dsn):
        async with run_fixture.postgres(dsn, patience=0.5) as stores:
            await stores.runs.create(a_run(), events=[STARTED])
            await asyncio.to_thread(fragile.stop)
            for waiting in (
                stores.runs.append("r1", said(2, 3)),
                stores.runs.create(a_run("r2")),
                stores.runs.get("acme", "r1"),
                stores.leases.claim((), 10),
                stores.leases.renew(["r1"]),
            ):
                with pytest.raises(Unavailable, match="PostgreSQL") as caught:
                    await waiting
                assert caught.value.reason == "STORE_UNAVAILABLE"
                assert caught.value.retry_after
            await asyncio.to_thread(fragile.start)
            await in_the_end(lambda: stores.runs.append("r1", said(2, 3)))
            assert await in_the_end(lambda: stores.runs.events("r1")) == [STARTED, *said(2, 3)]

    async def test_does_not_keep_a_process_from_stopping(self, fragile, dsn):
        async with AsyncExitStack() as stack:
            ours = run_fixture.postgres(dsn, patience=LONG)
            stores = await stack.enter_async_context(ours)
            await stores.runs.create(a_run())
            await asyncio.to_thread(fragile.stop)
            writing = asyncio.create_task(stores.runs.append("r1", [STARTED]))
            await asyncio.sleep(0.1)
            async with asyncio.timeout(PATIENCE):
                await stack.aclose()
        with pytest.raises(Unavailable):
            await writing

    async def test_does_not_keep_a_process_from_leaving_its_runs(self, fragile, stores):
        await stores.runs.create(a_run())
        await asyncio.to_thread(fragile.stop)
        async with asyncio.timeout(PATIENCE):
            await stores.leases.release(["r1"])
        await asyncio.to_thread(fragile.start)
        assert await stores.leases.renew(["r1"]) == Beat()

    async def test_does_not_end_a_wait_for_changes_before_its_time(self, fragile, stores):
        await stores.runs.create(a_run())
        await asyncio.to_thread(fragile.stop)
        started = time.monotonic()
        async with asyncio.timeout(PATIENCE):
            await stores.runs.changed("r1", 0, 0.5)
        assert time.monotonic() - started >= 0.5
        await asyncio.to_thread(fragile.start)


class TestAMissedMessage:
    async def test_is_made_up_for_by_looking(self, postgres):
        dsn = postgres.schema()
        async with run_fixture.postgres(dsn) as ours, run_fixture.postgres(dsn) as theirs:
            await ours.runs.create(a_run(), events=[STARTED])
            waiting = asyncio.create_task(theirs.runs.changed("r1", 1, LONG))
            await asyncio.sleep(0.2)
            postgres.psql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE query ~ 'LISTEN|pg_notify' AND pid <> pg_backend_pid()"
            )
            await ours.runs.append("r1", said(2, 3))
            async with asyncio.timeout(PATIENCE):
                await waiting


class TestTheSchema:
    async def test_of_a_newer_program_is_refused(self, postgres):
        dsn = postgres.schema()
        async with run_fixture.postgres(dsn):
            schema = dsn.rpartition("=")[2]
            postgres.psql(f"UPDATE {schema}.astromesh_schema SET version = 99")
        with pytest.raises(NotReady, match="schema of runs 99") as caught:
            async with run_fixture.postgres(dsn):
                pass
        assert caught.value.reason == "STATE_TOO_NEW"

    async def test_is_made_once_by_several_who_start_at_once(self, postgres):
        dsn = postgres.schema()

        async def start(number):
            async with run_fixture.postgres(dsn) as stores:
                await stores.runs.create(a_run(f"r{number}"))

        await asyncio.gather(*map(start, range(6)))
        async with run_fixture.postgres(dsn) as stores:
            assert await stores.runs.line("acme", "helper", "s") == [f"r{n}" for n in range(6)]

    async def test_is_not_touched_when_it_is_there(self, postgres):
        """A change to a table would wait for who reads it, and let all others wait behind it."""
        dsn = postgres.schema()
        async with run_fixture.postgres(dsn):
            pass
        reader = await asyncpg.connect(dsn)
        async with reader.transaction():
            await reader.fetch("SELECT * FROM astromesh_run")
            await reader.fetch("LOCK TABLE astromesh_schema IN ACCESS SHARE MODE")
            async with asyncio.timeout(PATIENCE), run_fixture.postgres(dsn) as stores:
                await stores.runs.create(a_run())
        await reader.close()

    async def test_needs_a_user_who_may_make_it(self, postgres):
        dsn, role = postgres.schema(), f"role_{run_fixture.new_id()}"
        postgres.psql(f"CREATE ROLE {role} LOGIN")
        with pytest.raises(NotReady, match="GRANT") as caught:
            async with run_fixture.postgres(dsn.replace("postgres@", f"{role}@")):
                pass
        assert caught.value.reason == "STATE_NOT_WRITABLE"

    async def test_can_be_used_by_a_user_who_may_not_make_it(self, postgres):
        dsn, role = postgres.schema(), f"role_{run_fixture.new_id()}"
        schema = dsn.rpartition("=")[2]
        async with run_fixture.postgres(dsn):
            pass
        postgres.psql(
            f"CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA {schema} TO {role}; "
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}"
        )
        async with run_fixture.postgres(dsn.replace("postgres@", f"{role}@")) as stores:
            await stores.runs.create(a_run(), events=[STARTED])


async def test_without_the_extra_the_mesh_says_how_to_install_it(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "asyncpg"]:
        monkeypatch.setitem(sys.modules, name, None)
    for name in [name for name in sys.modules if ".adapters.postgres" in name]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(NotReady, match=r"pip install 'astromesh-grpc\[postgres\]'") as caught:
        async with open_stores(tmp_path, time.time, run_fixture.new_id, dsn="postgresql://h/d"):
            pass
    assert (caught.value.reason, caught.value.facts["extra"]) == ("EXTRA_MISSING", "postgres")
