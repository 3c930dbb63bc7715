"""Budgets over several processes, and over the sudden death of one of them."""

import asyncio
import json
import os
import sys
import time
import uuid
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.contract.spending_fixture import books, budget
from tests.patience import PATIENCE
from tests.redis_server import redis_server

ROOT = Path(__file__).parents[2]


class Spender:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def hears(self) -> str:
        return (await asyncio.wait_for(self.process.stdout.readline(), PATIENCE)).decode().strip()

    async def tell(self, what: object) -> str:
        self.process.stdin.write(f"{what}\n".encode())
        return await self.hears()


@asynccontextmanager
async def spender(folder: Path, spec: dict, redis: str, prefix: str, lease: float, *more: int):
    words = [folder, json.dumps(spec), redis, prefix, lease, *more]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("spender.py")),
        *map(str, words),
        stdin=pipe,
        stdout=pipe,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}"},
    )
    try:
        found = Spender(process)
        assert await found.hears() == "ready"
        yield found
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture
async def redis(tmp_path):
    (tmp_path / "redis").mkdir()
    async with redis_server(tmp_path / "redis") as server:
        yield server


@pytest.mark.slow
async def test_two_processes_get_exactly_what_there_is(tmp_path, redis):
    spec, prefix = {"name": "shared", "window": "month", "limit": {"tokens": 1000}}, "two"
    async with AsyncExitStack() as stack:
        both = [
            await stack.enter_async_context(
                spender(tmp_path / name, spec, redis.url, prefix, 900, 200, 7)
            )
            for name in ("one", "other")
        ]
        got = await asyncio.gather(*(each.tell("go") for each in both))
        kept = await stack.enter_async_context(
            books(tmp_path, budget(**spec), redis=redis.url, prefix=prefix, clock=time.time)
        )
        (held,) = await kept.budgets("acme")
        await asyncio.gather(*(each.tell(3) for each in both))
        (settled,) = await kept.budgets("acme")
    assert sum(map(int, got)) == 1000 // 7
    assert (held.spent_tokens, held.reserved_tokens) == (0, 1000 // 7 * 7)
    assert (settled.spent_tokens, settled.reserved_tokens) == (1000 // 7 * 3, 0)


@pytest.mark.slow
class TestAKilledProcess:
    SPEC = {"name": "b", "window": "month", "limit": {"tokens": 100}}  # noqa: RUF012

    async def test_gives_back_what_it_held_in_redis_once_its_lease_is_over(self, tmp_path, redis):
        prefix = uuid.uuid4().hex
        async with spender(tmp_path / "s", self.SPEC, redis.url, prefix, 2.0, 10, 10) as killed:
            assert await killed.tell("go") == "10"
            killed.process.kill()
            await killed.process.wait()
        async with books(
            tmp_path, budget(**self.SPEC), redis=redis.url, prefix=prefix, clock=time.time
        ) as kept:
            (state,) = await kept.budgets("acme")
            async with asyncio.timeout(PATIENCE):
                while state.reserved_tokens:
                    await asyncio.sleep(0.05)
                    (state,) = await kept.budgets("acme")
        assert state.spent_tokens == 0

    async def test_leaves_in_redis_what_it_had_spent(self, tmp_path, redis):
        async with spender(tmp_path / "s", self.SPEC, redis.url, "p", 900, 10, 10) as killed:
            await killed.tell("go")
            assert await killed.tell(4) == "settled"
            killed.process.kill()
            await killed.process.wait()
        async with books(
            tmp_path, budget(**self.SPEC), redis=redis.url, prefix="p", clock=time.time
        ) as kept:
            (state,) = await kept.budgets("acme")
        assert (state.spent_tokens, state.reserved_tokens) == (40, 0)

    async def test_leaves_on_disk_what_it_had_spent_and_nothing_that_it_held(self, tmp_path):
        """A hard budget in the process itself: a settled call is on disk."""
        folder = tmp_path / "s"
        async with spender(folder, self.SPEC, "", "", 900, 10, 10) as killed:
            await killed.tell("go")
            assert await killed.tell(4) == "settled"
            killed.process.kill()
            await killed.process.wait()
        async with books(folder, budget(**self.SPEC), clock=time.time) as kept:
            (state,) = await kept.budgets("acme")
        assert (state.spent_tokens, state.reserved_tokens) == (40, 0)

    async def test_frees_what_it_held_in_its_own_memory(self, tmp_path):
        folder = tmp_path / "s"
        async with spender(folder, self.SPEC, "", "", 900, 10, 10) as killed:
            assert await killed.tell("go") == "10"
            killed.process.kill()
            await killed.process.wait()
        async with books(folder, budget(**self.SPEC), clock=time.time) as kept:
            (state,) = await kept.budgets("acme")
        assert (state.spent_tokens, state.reserved_tokens) == (0, 0)
