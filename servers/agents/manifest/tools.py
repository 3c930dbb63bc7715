"""spec.tools: what an agent can do besides talk."""

from typing import Literal

from servers.kernel.fields import Count, Flag, FreeJson, FunctionPath, Seconds, ToolName
from servers.kernel.manifest import Strict


class RateLimit(Strict):
    max_calls: Count
    window_seconds: Seconds


class AgentTool(Strict):
    """A tool by name, and what this agent wants otherwise than the tool itself says."""

    name: ToolName
    type: Literal["internal", "mcp", "webhook", "rag", "grpc", "agent", "client"] = "internal"
    function: FunctionPath = ""
    description: str = ""
    parameters: FreeJson = {}  # noqa: RUF012  # pydantic copies defaults
    rate_limit: RateLimit | None = None
    max_result_tokens: Count | None = None
    timeout: Seconds | None = None
    idempotent: Flag | None = None
    requires_approval: Flag | None = None
