"""Texts that agents remember, as `astromesh memory remember`, `recall` and `forget` handle them."""

from collections.abc import Sequence

from astromesh.memory.v1 import semantic_pb2 as pb
from astromesh.memory.v1.memory_service_pb2_grpc import MemoryServiceStub

from servers.cli.choices import Output
from servers.cli.client import PATIENCE, connected
from servers.cli.known_agents import check_known
from servers.cli.output import Columns, show_all, show_one
from servers.cli.pairs import pairs, wanted
from servers.kernel.chat_wire import json_to

_SHOWN = 160  # characters of a text in a table
_MEMORIES: Columns = {
    "SCORE": lambda memory: f"{memory.similarity:.4f}",
    "ID": lambda memory: memory.id,
    "KIND": lambda memory: memory.kind,
    "SCOPE": lambda memory: _scope(memory),
    "TEXT": lambda memory: " ".join(memory.text.split())[:_SHOWN],
}
_MEMORY: Columns = {
    "memory": lambda answer: answer.memory.id,
    "what became of it": lambda answer: _became(answer),
    "scope": lambda answer: _scope(answer.memory),
    "collection": lambda answer: answer.memory.collection,
    "text": lambda answer: answer.memory.text,
}


async def remember(
    address: str,
    agent: str,
    text: str,
    scope: str,
    session: str,
    meta: Sequence[str],
    ttl: float | None,
    collection: str,
    form: Output,
) -> None:
    request = pb.RememberRequest(
        agent=agent,
        text=text,
        metadata=json_to(dict(pairs(meta))),
        session=session,
        scope=pb.MemoryScope.Value(f"MEMORY_SCOPE_{scope.upper()}"),
        ttl_seconds=ttl,
        collection=collection,
    )
    async with connected(address) as channel:
        await check_known(channel, agent)
        answer = await MemoryServiceStub(channel).Remember(request, timeout=PATIENCE)
    show_one(answer, _MEMORY, form)


async def recall(
    address: str,
    agent: str,
    query: str,
    top_k: int | None,
    threshold: float | None,
    session: str,
    where: Sequence[str],
    collection: str,
    form: Output,
) -> None:
    request = pb.RecallRequest(
        agent=agent,
        query=query,
        top_k=top_k,
        similarity_threshold=threshold,
        filter=json_to(wanted(where)),
        session=session,
        collection=collection,
    )
    async with connected(address) as channel:
        answer = await MemoryServiceStub(channel).Recall(request, timeout=PATIENCE)
        if not answer.memories:
            await check_known(channel, agent)
    show_all(answer.memories, _MEMORIES, form)


async def forget(address: str, agent: str, id: str, session: str, all: bool, where: str) -> None:
    request = pb.ForgetRequest(agent=agent, id=id, session=session, all=all, collection=where)
    async with connected(address) as channel:
        answer = await MemoryServiceStub(channel).Forget(request, timeout=PATIENCE)
    count = answer.deleted_memories
    print(f"{count} {'memory' if count == 1 else 'memories'} forgotten")


def _scope(memory: pb.Memory) -> str:
    return pb.MemoryScope.Name(memory.scope).removeprefix("MEMORY_SCOPE_").lower()


def _became(answer: pb.RememberResponse) -> str:
    return pb.RememberOutcome.Name(answer.outcome).removeprefix("REMEMBER_OUTCOME_").lower()
