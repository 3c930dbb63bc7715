"""Agents as resources: what is declared, and whether it can run."""

from dataclasses import dataclass

from servers.domain.chat import Json


@dataclass(frozen=True, slots=True)
class AgentRecord:
    """A declared agent.

    `manifest` is the whole resource in its canonical form (one spelling per key,
    secrets shown as ``***``). An agent that can't run is listed with the reason.
    """

    name: str
    version: str
    manifest: Json
    etag: str
    ready: bool = True
    reason: str = ""  # why it can't run; empty where it can
    source: str = "api"  # "file:support.agent.yaml" for one that a file declares
    created_at: float = 0.0
    updated_at: float = 0.0


@dataclass(frozen=True, slots=True)
class AgentPage:
    agents: tuple[AgentRecord, ...]
    next_page_token: str = ""
