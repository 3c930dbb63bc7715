"""The memory service: its databases, and what goes on beside it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

import structlog

from servers.agents.catalogue.files import Declared
from servers.assembly.files import TakeAgents
from servers.config import MeshConfig
from servers.domain.semantic import Hear
from servers.domain.services import Router
from servers.kernel.background import for_ever
from servers.kernel.errors import AstromeshError
from servers.kernel.ids import new_id
from servers.kernel.sqlite import open_database
from servers.kernel.vectors.stores import Stores, store_at
from servers.memory.adapters import sqlite
from servers.memory.adapters.opening import open_episode_places, open_places
from servers.memory.adapters.sqlite_marks import SqliteMarks
from servers.memory.collections import CollectionPlace, Collections
from servers.memory.episode_ports import EpisodeStore
from servers.memory.episodes import EpisodicMemory
from servers.memory.erasures import Erasures
from servers.memory.places import Backend, Places
from servers.memory.ports import ConversationStore
from servers.memory.semantic import VectorMemory
from servers.memory.service import ConversationMemory

_CONNECTION = "spec.memory.conversational.connection"
_OWN = "spec.memory.episodic.connection"
_SWEEP = 60.0  # seconds between two looks for what is over
_log = structlog.stdlib.get_logger("astromesh.memory")


async def open_memory(
    config: MeshConfig, stack: AsyncExitStack, router: Router, hearing: Sequence[Hear] = ()
) -> tuple[ConversationMemory, TakeAgents]:
    """And what is to be told of changes in the folder of agents: their files say where their
    conversations are. `hearing`: who is told of what is erased."""
    enter = stack.enter_async_context
    path = config.state_dir / "memory.db"
    database = await enter(open_database(path, sqlite.MIGRATIONS, erasing=True))
    said_in = "spec.memory.backends of runtime.yaml"
    backends = {
        name: Backend(each.kind, each.url, said_in)
        for name, each in config.runtime.memory.backends.items()
    }
    places = await enter(open_places(database, backends, time.time))
    happened = await enter(open_episode_places(database, backends, time.time))
    episodes = EpisodicMemory(happened, time.time, new_id)
    stores = await enter(Stores(store_at(config.state_dir / "memory")))
    collections = Collections(_shared_collections(config), stores)
    erasures = Erasures(SqliteMarks(database), time.time, hearing)
    semantic = VectorMemory(collections, router, time.time, erasures)
    memory = ConversationMemory(places, episodes, time.time, new_id, semantic)
    await enter(for_ever(_sweep(memory.sweep)))
    await enter(for_ever(_sweep(episodes.sweep)))
    await enter(for_ever(_sweep(semantic.sweep)))
    take = _one_after_another(
        _taking(places), _taking_collections(collections), _taking_episodes(happened)
    )
    take(config.agents)
    return memory, take


def _taking(places: Places[ConversationStore]) -> TakeAgents:
    def take(declared: Sequence[Declared]) -> None:
        agents = [each.agent for each in declared if each.agent]
        talks = [(agent.name, agent.conversation) for agent in agents if agent.conversation]
        own = {
            talk.place(name): Backend(
                talk.backend, talk.connection.url, f"agent {name!r}: {_CONNECTION}"
            )
            for name, talk in talks
            if talk.connection.url
        }
        places.take_files(own, {name: talk.place(name) for name, talk in talks})

    return take


def _shared_collections(config: MeshConfig) -> dict[str, CollectionPlace]:
    return {
        name: CollectionPlace(
            each.place(f"memory-{name}"[:48]), each.embeddings.chosen(), each.duplicate_threshold
        )
        for name, each in config.runtime.memory.collections.items()
    }


def _taking_collections(collections: Collections) -> TakeAgents:
    def take(declared: Sequence[Declared]) -> None:
        agents = [each.agent for each in declared if each.agent]
        kept = [(agent.name, agent.semantic) for agent in agents if agent.semantic]
        own = {
            said.name(name): CollectionPlace(place, said.own_model())
            for name, said in kept
            if (place := said.own_place(name))
        }
        collections.take_files(own, {name: said.name(name) for name, said in kept})

    return take


def _taking_episodes(places: Places[EpisodeStore]) -> TakeAgents:
    def take(declared: Sequence[Declared]) -> None:
        agents = [each.agent for each in declared if each.agent]
        kept = [(agent.name, agent.episodes) for agent in agents if agent.episodes]
        own = {
            each.place(name): Backend(each.backend, each.connection.url, f"agent {name!r}: {_OWN}")
            for name, each in kept
            if each.connection.url
        }
        places.take_files(own, {name: each.place(name) for name, each in kept})

    return take


def _one_after_another(*takes: TakeAgents) -> TakeAgents:
    def take(declared: Sequence[Declared]) -> None:
        for each in takes:
            each(declared)

    return take


async def _sweep(sweep: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(_SWEEP)
        try:
            await sweep()
        except AstromeshError as error:  # what is over isn't shown all the same
            _log.warning("memories that are over not removed", error=error.message)
        except Exception as error:  # nobody waits for it who could hear of it
            _log.exception("removing memories that are over broke", error=repr(error))
