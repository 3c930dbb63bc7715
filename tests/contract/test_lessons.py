"""What `Lessons` promises: nothing is lost that was put down, and nothing is there twice."""

import asyncio
import sqlite3
import time
from contextlib import closing
from dataclasses import replace

import pytest

from servers.agents.adapters.sqlite import lessons as sqlite_lessons
from servers.agents.adapters.sqlite.lessons import SqliteLessons
from servers.agents.ports import Lesson
from servers.agents.runs.memory.learning import Learning
from servers.domain.semantic import Erasure
from servers.kernel.errors import Unavailable
from servers.kernel.sqlite import open_database
from tests.patience import PATIENCE
from tests.unit.agents.troubled import settled

ONE = Lesson("r1", "acme", "helper", "s", "ada", "tree", "why?", "because", 0.5)
DAY = 86_400.0


async def until_nothing_is_left(lessons):
    async with asyncio.timeout(PATIENCE):
        while await lessons.due(1.0, 10):  # noqa: ASYNC110  # a file tells nobody
            await asyncio.sleep(0.001)


@pytest.fixture
async def lessons(tmp_path):
    path = tmp_path / "lessons.db"
    async with open_database(path, sqlite_lessons.MIGRATIONS, erasing=True) as database:
        yield SqliteLessons(database)


def written(folder) -> bytes:
    return b"".join(path.read_bytes() for path in folder.glob("lessons.db*"))


async def test_what_was_put_down_is_due_with_all_it_has(lessons):
    await lessons.put(ONE)
    assert await lessons.due(1.0, 10) == [ONE]


async def test_of_the_same_run_again_nothing_is_put_down(lessons):
    for _ in range(2):
        await lessons.put(ONE)
    assert len(await lessons.due(1.0, 10)) == 1


async def test_what_is_done_is_gone_from_the_files_too(lessons, tmp_path):
    await lessons.put(ONE)
    assert b"because" in written(tmp_path)
    await lessons.done("r1")
    assert await lessons.due(1.0, 10) == []
    assert b"because" not in written(tmp_path)


async def test_what_is_done_is_done_also_while_somebody_reads_what_was(lessons, tmp_path):
    await lessons.put(ONE)
    with closing(sqlite3.connect(tmp_path / "lessons.db")) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM lesson").fetchone()
        await lessons.done("r1")
        assert await lessons.due(1.0, 10) == []


class TestErased:
    @pytest.fixture
    async def several(self, lessons):
        for run, agent, session, who in (
            ("r1", "helper", "s", "ada"),
            ("r2", "helper", "t", "ada"),
            ("r3", "other", "s", "ada"),
            ("r4", "helper", "s", "bob"),
        ):
            said = replace(ONE, run_id=run, agent=agent, session=session, principal=who)
            await lessons.put(said)
        await lessons.put(replace(ONE, run_id="r5", tenant="elsewhere"))
        return lessons

    @pytest.mark.parametrize(
        ("erasure", "left"),
        [
            (Erasure("acme", "ada"), ["r4", "r5"]),
            (Erasure("acme", "ada", "helper"), ["r3", "r4", "r5"]),
            (Erasure("acme", "ada", "helper", "s"), ["r2", "r3", "r4", "r5"]),
            (Erasure("acme", ""), ["r1", "r2", "r3", "r4", "r5"]),
        ],
        ids=str,
    )
    async def test_are_those_that_it_says(self, several, erasure, left):
        assert await several.drop(erasure) == 5 - len(left)
        assert [each.run_id for each in await several.due(1.0, 10)] == left

    async def test_are_gone_from_the_files_too(self, lessons, tmp_path):
        await lessons.put(ONE)
        assert await lessons.drop(Erasure("acme", "ada")) == 1
        assert b"because" not in written(tmp_path)


async def test_of_what_waited_before_the_upgrade_the_time_is_that_of_the_upgrade(tmp_path):
    path = tmp_path / "lessons.db"
    async with open_database(path, sqlite_lessons.MIGRATIONS[:1]) as database:
        row = "INSERT INTO lesson VALUES ('r1', 'acme', 'helper', 's', 'ada', 't', '?', 'x', 0, 0)"
        await database.write(lambda db: db.execute(row).rowcount)
    before = time.time()
    async with open_database(path, sqlite_lessons.MIGRATIONS) as database:
        (found,) = await SqliteLessons(database).due(1.0, 10)
    assert before - 1 <= found.said_at <= time.time() + 1


class TestWhatAModelFound:
    FACTS = ("Ada sails.", "")

    async def test_is_kept_with_the_lesson(self, lessons):
        await lessons.put(ONE)
        await lessons.found("r1", self.FACTS)
        assert await lessons.due(1.0, 10) == [replace(ONE, facts=self.FACTS)]

    async def test_may_be_nothing(self, lessons):
        await lessons.put(ONE)
        await lessons.found("r1", ())
        assert [each.facts for each in await lessons.due(1.0, 10)] == [()]

    async def test_is_gone_from_the_files_with_a_lesson_that_is_erased(self, lessons, tmp_path):
        await lessons.put(ONE)
        await lessons.found("r1", self.FACTS)
        assert b"Ada sails." in written(tmp_path)
        await lessons.drop(Erasure("acme", "ada"))
        assert b"Ada sails." not in written(tmp_path)

    async def test_leaves_nothing_where_the_lesson_was_erased_meanwhile(self, lessons, tmp_path):
        await lessons.put(ONE)
        await lessons.drop(Erasure("acme", "ada"))
        await lessons.found("r1", self.FACTS)
        assert await lessons.due(1.0, 10) == []
        assert b"Ada sails." not in written(tmp_path)


async def test_of_what_waited_before_the_upgrade_no_model_was_asked(tmp_path):
    path = tmp_path / "lessons.db"
    async with open_database(path, sqlite_lessons.MIGRATIONS[:2]) as database:
        row = (
            "INSERT INTO lesson VALUES ('r', 'acme', 'helper', 's', 'ada', 't', '?', 'x', 0, 0, 1)"
        )
        await database.write(lambda db: db.execute(row).rowcount)
    async with open_database(path, sqlite_lessons.MIGRATIONS) as database:
        (waited,) = await SqliteLessons(database).due(1.0, 10)
    assert (waited.said_at, waited.facts) == (1.0, None)


async def test_what_did_not_work_is_due_later_with_one_more_try(lessons):
    await lessons.put(ONE)
    await lessons.again("r1", 50.0)
    assert await lessons.due(49.0, 10) == []
    assert [each.tries for each in await lessons.due(50.0, 10)] == [1]


async def test_what_was_put_down_survives_the_process(tmp_path):
    for _ in range(2):
        path = tmp_path / "lessons.db"
        async with open_database(path, sqlite_lessons.MIGRATIONS) as database:
            await SqliteLessons(database).put(ONE)
            assert await SqliteLessons(database).due(1.0, 10) == [ONE]


async def test_what_fails_is_tried_again_and_once_given_up(lessons):
    now, tries = 0.0, []

    async def teach(lesson):
        tries.append(lesson.tries)
        raise Unavailable("the store is away")

    learning = Learning(lessons, lambda: now, beat=0.005)
    young = replace(ONE, said_at=1e12)
    await lessons.put(young)
    async with learning:
        learning.start(teach)
        while len(tries) < 9:
            await learning.put(young)
            now += 100_000.0  # a day and more each time
    assert tries == list(range(9))


async def test_what_was_said_more_than_seven_days_ago_is_not_learned(lessons):
    learned = []

    async def teach(lesson):
        learned.append(lesson.run_id)

    learning = Learning(lessons, lambda: 8 * DAY, beat=0.005)
    await lessons.put(ONE)
    await lessons.put(replace(ONE, run_id="r2", said_at=1.5 * DAY))
    async with learning, asyncio.timeout(PATIENCE):
        learning.start(teach)
        while await lessons.due(9 * DAY, 10):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert learned == ["r2"]


async def test_a_slow_one_keeps_the_others_from_nothing(lessons):
    slow, all_but_one, taught = asyncio.Event(), asyncio.Event(), []

    async def teach(lesson):
        if lesson.run_id == "r1":
            await slow.wait()
        taught.append(lesson.run_id)
        if len(taught) == 19:
            all_but_one.set()

    runs = [f"r{number}" for number in range(1, 21)]
    async with Learning(lessons, lambda: 1.0) as learning:
        for run in runs:
            await lessons.put(replace(ONE, run_id=run))
        learning.start(teach)
        await all_but_one.wait()
        assert "r1" not in taught
        slow.set()
        await until_nothing_is_left(lessons)
    assert sorted(taught) == sorted(runs)


async def test_no_more_than_eight_are_learned_at_once(lessons):
    at_once, most, eight = 0, 0, asyncio.Barrier(8)

    async def teach(lesson):
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await eight.wait()
        at_once -= 1

    async with Learning(lessons, lambda: 1.0) as learning:
        for number in range(32):
            await lessons.put(replace(ONE, run_id=f"r{number}"))
        learning.start(teach)
        await until_nothing_is_left(lessons)
    assert most == 8


async def test_what_the_disk_does_not_take_is_written_once_it_does(lessons, tmp_path):
    taught, both = [], asyncio.Event()

    async def teach(lesson):
        taught.append(lesson.run_id)
        if len(taught) == 2:
            both.set()

    await lessons.put(ONE)
    await lessons.put(replace(ONE, run_id="r2"))
    path = tmp_path / "lessons.db"
    async with Learning(lessons, lambda: 1.0, beat=0.01) as learning:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute(
                "CREATE TRIGGER full BEFORE DELETE ON lesson "
                "BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
            )
            learning.start(teach)
            await both.wait()
            await asyncio.sleep(0.05)
            assert len(await lessons.due(1.0, 10)) == 2
            other.execute("DROP TRIGGER full")
        await until_nothing_is_left(lessons)
    assert sorted(taught) == ["r1", "r2"]  # each once


class Late:
    """Lessons whose news come late: what is due once `go` is set, from when `slow` is."""

    def __init__(self, lessons):
        self._lessons = lessons
        self.slow, self.looked, self.over, self.go = (asyncio.Event() for _ in range(4))

    def __getattr__(self, name):
        return getattr(self._lessons, name)

    async def due(self, now, limit):
        found = await self._lessons.due(now, limit)
        if self.slow.is_set():
            self.looked.set()
            await self.go.wait()
        return found

    async def done(self, run_id):
        await self._lessons.done(run_id)
        self.over.set()


async def test_what_is_done_while_the_next_ones_are_looked_for_is_not_learned_again(lessons):
    late, taught, both = Late(lessons), [], asyncio.Event()

    async def teach(lesson):
        taught.append(lesson.run_id)
        if lesson.run_id == "r1":
            late.slow.set()
            await late.looked.wait()
        else:
            both.set()

    await lessons.put(ONE)
    async with Learning(late, lambda: 1.0) as learning, asyncio.timeout(PATIENCE):
        learning.start(teach)
        await late.slow.wait()
        await learning.put(replace(ONE, run_id="r2"))
        await late.over.wait()
        await settled()
        late.go.set()
        await both.wait()
        await until_nothing_is_left(lessons)
    assert taught == ["r1", "r2"]


async def test_one_whose_work_somebody_else_cancelled_is_tried_later(lessons):
    tries = []

    async def teach(lesson):
        tries.append(lesson.tries)
        raise asyncio.CancelledError  # as of work that is shared with others

    async with Learning(lessons, lambda: 1.0) as learning, asyncio.timeout(PATIENCE):
        await lessons.put(ONE)
        learning.start(teach)
        await until_nothing_is_left(lessons)  # of what is due now
    (later,) = await lessons.due(10.0, 10)
    assert (tries, later.tries) == ([0], 1)


async def test_what_runs_have_left_that_are_deleted_is_gone_from_the_files_too(lessons, tmp_path):
    for name in ("r1", "r2", "r3"):
        await lessons.put(replace(ONE, run_id=name, answer=f"because of {name}."))
    await lessons.drop_of(["r1", "r3", "unknown"])
    assert [each.run_id for each in await lessons.due(1.0, 10)] == ["r2"]
    there = [name for name in ("r1", "r2", "r3") if f"of {name}.".encode() in written(tmp_path)]
    assert there == ["r2"]
