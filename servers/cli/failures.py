"""How a command says what went wrong: one line with code, reason and message; an exit code.

A reason that says no more than the code is left out.
"""

import sys

from servers.kernel.errors import AstromeshError, Unavailable

FAILED, USAGE, UNREACHABLE, INTERRUPTED = 1, 2, 3, 130  # 2 is Typer's, 130 the shell's for Ctrl-C


class NobodyThere(Unavailable):
    """No mesh answers at the address."""


def tell(error: AstromeshError) -> int:
    """Print the error; gives the exit code."""
    print(f"error: {line(error)}", file=sys.stderr)
    for violation in error.violations[1:]:  # the message has the first
        print(f"  {violation.field}: {violation.description}", file=sys.stderr)
    return UNREACHABLE if isinstance(error, NobodyThere) else FAILED


def line(error: AstromeshError) -> str:
    from servers.cli.text import clean
    from servers.kernel.details import code_of

    code = code_of(error).name
    reason = f" {error.reason}" if error.reason not in (code, type(error).reason) else ""
    return f"{code}{reason}: {' '.join(clean(error.message).split())}"
