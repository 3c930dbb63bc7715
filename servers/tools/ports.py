"""What the tool service needs of a tool, whatever it is made of."""

from dataclasses import dataclass, field
from typing import Protocol

from servers.domain.caller import Caller
from servers.domain.chat import Json
from servers.domain.tools import Tool


@dataclass(frozen=True, slots=True)
class Invocation:
    """On whose behalf a tool runs. A function gets it by naming a parameter of this type.

    `idempotency_key` is the same when a call is repeated after a crash: pass it on to
    whatever the tool changes, so that nothing happens twice. `context` names agent and run.
    """

    caller: Caller = field(default_factory=Caller)
    idempotency_key: str = ""
    context: Json = field(default_factory=dict)


class Invocable(Protocol):
    """One tool that can be called."""

    @property
    def tool(self) -> Tool: ...

    async def call(self, arguments: str, invocation: Invocation) -> str:
        """Run it on JSON text. Whatever it raises becomes an error the model reads.

        Arguments that don't fit are InvalidInput, with the schema in the message.
        Must end soon after being cancelled.
        """
        ...
