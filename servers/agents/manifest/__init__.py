"""kind: Agent, as users write it and as the service reads it."""

from servers.agents.manifest.agent import Agent, AgentSpec
from servers.agents.manifest.memory import ConversationalMemory
from servers.agents.manifest.model import ModelChoice
from servers.agents.manifest.tools import AgentTool

__all__ = ["Agent", "AgentSpec", "AgentTool", "ConversationalMemory", "ModelChoice"]
