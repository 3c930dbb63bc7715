"""Says of runs in PostgreSQL on whose behalf they work, where their rows don't: those that a
process of an older version has written, which may be at work beside this one."""

from typing import Any, Final

from servers.kernel.postgres import Postgres
from servers.kernel.stored_json import loads

_AT_ONCE: Final = 500
_UNNAMED: Final = f"SELECT run_id, body FROM astromesh_run WHERE principal IS NULL LIMIT {_AT_ONCE}"
_NAME: Final = """
UPDATE astromesh_run AS run SET principal = named.principal
FROM unnest($1::text[], $2::text[]) AS named(run_id, principal)
WHERE run.run_id = named.run_id AND run.principal IS NULL
"""


async def name_principals(postgres: Postgres) -> None:
    """To be asked before runs are looked for by it. Mostly there is nothing to do."""
    while found := await postgres.fetch(_UNNAMED):
        names = [_principal(bytes(row["body"])) for row in found]
        await postgres.fetch(_NAME, [row["run_id"] for row in found], names)


def _principal(body: bytes) -> str:
    try:
        tree: Any = loads(body)
        return str(tree.get("principal", ""))
    except (AttributeError, ValueError):  # nobody can read it, and it is nobody's
        return ""
