"""What every store of declarations that runs began with promises."""

import time

import pytest

from tests.contract.run_fixture import a_run, ended, waiting_run

MANIFEST = {"kind": "Agent", "metadata": {"name": "helper"}, "spec": {"nul": "a\0b", "n": 1 << 70}}


@pytest.fixture
def versions(stores):
    return stores.versions


async def test_a_declaration_is_given_back(versions):
    await versions.keep("abc", MANIFEST)
    assert await versions.kept("abc") == MANIFEST


async def test_a_declaration_can_be_kept_again(versions):
    await versions.keep("abc", MANIFEST)
    await versions.keep("abc", MANIFEST)
    assert await versions.kept("abc") == MANIFEST


async def test_each_digest_has_its_own(versions):
    await versions.keep("abc", MANIFEST)
    await versions.keep("def", {"kind": "Agent"})
    assert await versions.kept("def") == {"kind": "Agent"}


async def test_an_unknown_digest_has_none(versions):
    assert await versions.kept("abc") is None


async def test_declarations_survive_the_process(opening):
    async with opening() as stores:
        await stores.versions.keep("abc", MANIFEST)
    async with opening() as stores:
        assert await stores.versions.kept("abc") == MANIFEST


@pytest.mark.parametrize("run", [a_run(agent_digest="abc"), waiting_run(agent_digest="abc")])
async def test_a_declaration_is_there_as_long_as_a_run_has_not_ended(stores, run):
    await stores.versions.keep("abc", MANIFEST)
    await stores.runs.create(run)
    await stores.retention.forget(time.time() + 10 * 86400, 10)
    assert await stores.versions.kept("abc") == MANIFEST


async def test_a_declaration_that_was_kept_just_now_is_not_forgotten(stores):
    """Its run is put on record next."""
    await stores.versions.keep("abc", MANIFEST)
    await stores.runs.create(ended(a_run(agent_digest="abc")))
    await stores.retention.forget(time.time() + 10 * 86400, 10)
    assert await stores.versions.kept("abc") == MANIFEST
