"""How a Python function says what kind of tool it is.

    @tool(idempotent=True, timeout=5)
    def add(a: int, b: int) -> int:
        '''Add two numbers.

        Args:
            a: the first
            b: the second
        '''
        return a + b

A function without `@tool` works too: it is named after itself, not idempotent, and
has 30 seconds.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from servers.kernel.errors import InvalidInput

F = TypeVar("F", bound=Callable[..., Any])

NAME = re.compile(r"^[a-zA-Z_][a-zA-Z0-9_-]{0,63}$")
_MARK = "__astromesh_tool__"


@dataclass(frozen=True, slots=True)
class Declaration:
    """What `@tool` said. `name` and `description` empty: the function's own."""

    name: str = ""
    description: str = ""
    idempotent: bool = False
    timeout: float = 30.0  # seconds


def tool(
    *,
    name: str = "",
    description: str = "",
    idempotent: bool = False,
    timeout: float = 30.0,
) -> Callable[[F], F]:
    """Declare a function as a tool. The function itself is returned unchanged.

    `idempotent` promises that a second call with the same arguments does no harm: after
    a crash such a tool is called again, any other is only reported.
    """
    declaration = Declaration(name, description, idempotent, timeout)

    def mark(function: F) -> F:
        setattr(function, _MARK, declaration)
        return function

    return mark


def declaration_of(function: Callable[..., Any]) -> Declaration:
    found = getattr(function, _MARK, None)
    return found if isinstance(found, Declaration) else Declaration()


def checked_name(name: str) -> str:
    """`name`, if models may be offered a tool of that name. Raises InvalidInput if not."""
    if not NAME.fullmatch(name):
        raise InvalidInput(
            f"the tool name {name!r} is not usable: start with a letter or _, go on with "
            "letters, digits, _ or -, 64 characters at most",
            reason="TOOL_NAME_INVALID",
        )
    return name
