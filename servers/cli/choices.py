"""The words that options accept."""

from enum import StrEnum


class Output(StrEnum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


class Service(StrEnum):
    AGENTS = "agents"
    ROUTER = "router"
    MEMORY = "memory"
    TOOLS = "tools"
    RAG = "rag"


class State(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    BLOCKED = "blocked"
    WAITING_APPROVAL = "waiting_approval"
    WAITING_INPUT = "waiting_input"
    WAITING_TIMER = "waiting_timer"
    WAITING_RUN = "waiting_run"


class Drawn(StrEnum):
    TREE = "tree"
    MERMAID = "mermaid"
    SVG = "svg"
    JSON = "json"


class EpisodeKind(StrEnum):
    RUN = "run"
    TOOL_CALL = "tool_call"
    FEEDBACK = "feedback"
    CUSTOM = "custom"


class EpisodeResult(StrEnum):
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    BLOCKED = "blocked"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    REJECTED = "rejected"
    UNKNOWN = "unknown"


class KeptFor(StrEnum):
    PRINCIPAL = "principal"
    AGENT = "agent"
    SESSION = "session"
