"""Forgets runs, and fulfils what a person may ask of a mesh: to be told what it has of him, and
to be forgotten."""

import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import typer
from astromesh.agents.v1 import run_deletion_pb2 as pb
from astromesh.agents.v1 import run_event_pb2, run_pb2
from astromesh.agents.v1.agent_service_pb2_grpc import AgentServiceStub
from astromesh.memory.v1 import principal_pb2
from astromesh.memory.v1.memory_service_pb2_grpc import MemoryServiceStub
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from servers.cli.client import connected
from servers.cli.memory import forgotten
from servers.cli.paging import paged
from servers.cli.spending import moment
from servers.kernel.errors import AstromeshError, Unavailable

_LONG = 3600.0  # seconds: a deletion looks at whole files, and may be of all there is
_ROUNDS = 5  # of forgetting one who goes on talking meanwhile


@dataclass(frozen=True, slots=True)
class Which:
    """Runs, by what is said of them."""

    principal: str = ""
    session: str = ""
    agent: str = ""
    ended_before: str = ""
    everything: bool = False

    @property
    def says_anything(self) -> bool:
        said = self.principal, self.session, self.agent, self.ended_before
        return any(said) or self.everything

    def request(self, force: bool) -> pb.PurgeRunsRequest:
        request = pb.PurgeRunsRequest(
            principal=self.principal,
            session_id=self.session,
            agent=self.agent,
            all=self.everything,
            force=force,
        )
        if self.ended_before:
            request.ended_before.FromDatetime(moment(self.ended_before, datetime.now(UTC)))
        return request


async def delete_run(address: str, run: str, force: bool) -> None:
    async with connected(address) as channel:
        request = pb.DeleteRunRequest(run=run, force=force)
        await AgentServiceStub(channel).DeleteRun(request, timeout=_LONG)
    print(f"run {run} deleted")


async def purge_runs(address: str, which: Which, force: bool, yes: bool) -> None:
    async with connected(address) as channel:
        ask, request = AgentServiceStub(channel).PurgeRuns, which.request(force)
        if not yes:
            request.validate_only = True
            would = await ask(request, timeout=_LONG)
            request.validate_only = False
            typer.confirm(f"Forget {would.deleted_runs} runs?", abort=True)
        purged = await ask(request, timeout=_LONG)
    print(f"{purged.deleted_runs} runs deleted")
    if purged.left_runs:
        print(
            f"{purged.left_runs} runs left, which have not ended: cancel them, or say --force",
            file=sys.stderr,
        )


async def erase_principal(address: str, memory_address: str, principal: str) -> None:
    """Runs first: one that ends tells memory what happened. Again as long as there was something:
    he may have gone on talking meanwhile."""
    everything = Which(principal).request(force=True)
    for _ in range(_ROUNDS):
        purged = await _purged(address, everything)
        print(f"runs: {purged.deleted_runs} deleted", flush=True)
        if purged.left_runs:
            raise Unavailable(f"{purged.left_runs} runs do not end: ask again")
        try:
            erased = await _erased(memory_address, principal)
        except AstromeshError:
            print("memory: not all is deleted: ask again", file=sys.stderr)
            raise
        print(f"memory: {forgotten(erased)} deleted", flush=True)
        everything.validate_only = True
        rest = await _purged(address, everything)
        everything.validate_only = False
        if not rest.deleted_runs:
            break
    else:
        raise Unavailable(f"{principal!r} goes on asking: keep him from it, and ask again")
    for each in erased.remains:
        if not each.startswith("runs,"):  # those are gone
            print(f"not touched: {each}")
    print("not touched: backups, logs of processes, and what others said of him")


async def _purged(address: str, request: pb.PurgeRunsRequest) -> pb.PurgeRunsResponse:
    async with connected(address) as channel:
        return await AgentServiceStub(channel).PurgeRuns(request, timeout=_LONG)


async def _erased(address: str, principal: str) -> principal_pb2.ErasePrincipalResponse:
    async with connected(address) as channel:
        request = principal_pb2.ErasePrincipalRequest(principal=principal)
        return await MemoryServiceStub(channel).ErasePrincipal(request, timeout=_LONG)


async def export_principal(address: str, memory_address: str, principal: str) -> None:
    async with connected(address) as agents, connected(memory_address) as memory:
        records = principal_pb2.ExportPrincipalRequest(principal=principal)
        export = MemoryServiceStub(memory).ExportPrincipal
        async for record in paged(export, records, "records"):
            _line("record", record)
        stub = AgentServiceStub(agents)
        async for run in paged(stub.ListRuns, run_pb2.ListRunsRequest(principal=principal), "runs"):
            _line("run", run)
            past = run_event_pb2.StreamRunEventsRequest(run=run.run_id, past_only=True)
            async for event in stub.StreamRunEvents(past, timeout=_LONG):
                _line("event", event)


def _line(kind: str, message: Message) -> None:
    tree: dict[str, Any] = {kind: MessageToDict(message, preserving_proto_field_name=True)}
    print(json.dumps(tree, ensure_ascii=False))
