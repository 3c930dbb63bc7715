"""Episodes as rows, and filters as conditions. SQLite and PostgreSQL have the same columns."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from servers.domain.episodes import (
    Episode,
    EpisodeFilter,
    EpisodeOutcome,
    EpisodeType,
    RunTold,
)
from servers.kernel.stored_json import dumps, loads
from servers.memory.episode_ports import Numbered, Position

COLUMNS: Final = (
    "seq, id, agent, session, principal, run_id, type, name, outcome, created_at, expires_at, body"
)
WRITTEN: Final = (
    "tenant, attempt, id, agent, session, principal, run_id, type, name, outcome, "
    "created_at, expires_at, body"
)
NEWEST_FIRST: Final = "ORDER BY created_at DESC, seq DESC"


def row_of(tenant: str, episode: Episode, attempt: int = 0) -> tuple[Any, ...]:
    """As WRITTEN. `attempt` 0: it is not what a run has told."""
    body = dumps(
        {
            "text": episode.text,
            "result": episode.result,
            "reason": episode.reason,
            "duration": episode.duration,
            "rating": episode.rating,
            "metadata": dict(episode.metadata),
        }
    )
    return (
        tenant,
        attempt,
        episode.id,
        episode.agent,
        episode.session,
        episode.principal,
        episode.run_id,
        episode.type.value,
        episode.name,
        episode.outcome.value,
        episode.created_at,
        episode.expires_at,
        body,
    )


def rows_of(told: RunTold) -> list[tuple[Any, ...]]:
    """The calls before the run, as they have happened: so they are listed of one moment."""
    key, rows = told.key, []
    for number, episode in enumerate(told.episodes):
        named = replace(
            episode,
            id=f"{told.run_id}.{number}",
            agent=key.agent,
            session=key.session,
            principal=told.principal,
            run_id=told.run_id,
            expires_at=episode.created_at + told.ttl if told.ttl else None,
        )
        rows.append(row_of(key.tenant, named, told.attempt))
    return [*rows[1:], *rows[:1]]


def numbered_from(row: Iterable[Any]) -> Numbered:
    seq, id, agent, session, principal, run_id, kind, name, outcome, at, ends, body = row
    episode = Episode(
        type=EpisodeType(kind),
        name=name,
        outcome=EpisodeOutcome(outcome),
        created_at=at,
        expires_at=ends,
        id=id,
        agent=agent,
        session=session,
        principal=principal,
        run_id=run_id,
        **loads(body),
    )
    return seq, episode


def conditions(
    asked: EpisodeFilter, now: float, before: Position | None = None
) -> tuple[str, list[Any]]:
    """A WHERE whose values stand where it has "?"."""
    said: list[tuple[str, Sequence[Any]]] = [
        ("tenant = ?", [asked.tenant]),
        ("agent = ?", [asked.agent]),
        ("(expires_at IS NULL OR expires_at > ?)", [now]),
    ]
    for column in ("session", "run_id", "name"):
        if value := getattr(asked, column):
            said.append((f"{column} = ?", [value]))
    if asked.principal is not None:
        said.append(("principal = ?", [asked.principal]))
    for column, values in (("type", asked.types), ("outcome", asked.outcomes)):
        if values:
            marks = ", ".join("?" * len(values))
            said.append((f"{column} IN ({marks})", [each.value for each in values]))
    if asked.since is not None:
        said.append(("created_at >= ?", [asked.since]))
    if asked.until is not None:
        said.append(("created_at < ?", [asked.until]))
    if before is not None:
        said.append(("(created_at, seq) < (?, ?)", before))
    return " AND ".join(sql for sql, _ in said), [value for _, values in said for value in values]
