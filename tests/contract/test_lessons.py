"""What `Lessons` promises: nothing is lost that was put down, and nothing is there twice."""

import pytest

from servers.agents.adapters import sqlite_lessons
from servers.agents.adapters.sqlite_lessons import SqliteLessons
from servers.agents.ports import Lesson
from servers.agents.runs.learning import Learning
from servers.kernel.errors import Unavailable
from servers.kernel.sqlite import open_database

ONE = Lesson("r1", "acme", "helper", "s", "ada", "tree", "why?", "because")


@pytest.fixture
async def lessons(tmp_path):
    async with open_database(tmp_path / "lessons.db", sqlite_lessons.MIGRATIONS) as database:
        yield SqliteLessons(database)


async def test_what_was_put_down_is_due_with_all_it_has(lessons):
    await lessons.put(ONE)
    assert await lessons.due(1.0, 10) == [ONE]


async def test_of_the_same_run_again_nothing_is_put_down(lessons):
    for _ in range(2):
        await lessons.put(ONE)
    assert len(await lessons.due(1.0, 10)) == 1


async def test_what_is_done_is_gone(lessons):
    await lessons.put(ONE)
    await lessons.done("r1")
    assert await lessons.due(1.0, 10) == []


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
    await lessons.put(ONE)
    async with learning:
        learning.start(teach)
        while len(tries) < 9:
            await learning.put(ONE)
            now += 100_000.0  # a day and more each time
    assert tries == list(range(9))
