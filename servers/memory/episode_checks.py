"""What may be kept as an episode, and what may be asked of them."""

from collections.abc import Mapping
from typing import Final

from servers.domain.episodes import (
    Episode,
    EpisodeFilter,
    EpisodeOutcome,
    EpisodeType,
    EpisodicSelection,
    Note,
    RunTold,
)
from servers.memory.names import check_key, check_name, check_principal, wrong

LONGEST_TEXT: Final = 16_384  # characters
MOST: Final = 1001  # of one run
_ENTRIES, _KEY, _VALUE = 32, 64, 1024  # of metadata: how many, and characters
_SHOWN: Final = 100
_LONGEST_TIME: Final = 100 * 365 * 86400.0  # seconds
_END_OF_TIME: Final = 253_402_300_800.0  # of what a Timestamp can be in JSON
_OF_RUNS: Final = (EpisodeType.RUN, EpisodeType.TOOL_CALL)


def check_told(told: RunTold) -> None:
    check_key(told.key)
    check_name("run_id", told.run_id)
    check_principal(told.principal)
    _check_ttl(told.ttl)
    if told.attempt < 1:
        raise wrong("attempt", f"{told.attempt} is too few: 1 or more")
    if not 1 <= len(told.episodes) <= MOST:
        raise wrong("episodes", f"expected 1 to {MOST}, not {len(told.episodes)}")
    for number, episode in enumerate(told.episodes):
        here = f"episodes[{number}]"
        expected = EpisodeType.TOOL_CALL if number else EpisodeType.RUN
        if episode.type is not expected:
            raise wrong(f"{here}.type", "the run comes first, and then only its tool calls")
        if episode.rating is not None:
            raise wrong(f"{here}.rating", "only feedback has one")
        if episode.outcome is EpisodeOutcome.NONE:
            raise wrong(f"{here}.outcome", "say how it ended")
        if number:
            check_name(f"{here}.name", episode.name)
        _check_said(episode, f"{here}.")


def check_note(note: Note) -> None:
    said = note.episode
    check_name("tenant", note.tenant)
    check_name("agent", said.agent)
    if said.type in _OF_RUNS:
        raise wrong("type", "expected EPISODE_TYPE_FEEDBACK or EPISODE_TYPE_CUSTOM")
    for field, name in (
        ("session", said.session),
        ("run_id", said.run_id),
        ("name", said.name),
        ("request_id", note.request_id),
    ):
        if name:
            check_name(field, name)
    _check_ttl(note.ttl)
    if said.type is EpisodeType.FEEDBACK:
        _check_feedback(said)
    elif said.rating is not None:
        raise wrong("rating", "only feedback has one")
    elif not said.text.strip():
        raise wrong("text", "it is empty")
    _check_said(said, "")


def _check_feedback(said: Episode) -> None:
    if not said.run_id:
        raise wrong("run_id", "feedback is on a run: say which")
    if said.rating is None and not said.text.strip():
        raise wrong("rating", "give a rating, or a text")
    if said.rating is not None and not 0 <= said.rating <= 1:
        raise wrong("rating", f"{said.rating:g} is out of range: 0 to 1")


def _check_said(said: Episode, here: str) -> None:
    for field, text in (("text", said.text), ("result", said.result), ("reason", said.reason)):
        _check_text(f"{here}{field}", text, LONGEST_TEXT)
    if not 0 <= said.duration <= _LONGEST_TIME:
        raise wrong(f"{here}duration_seconds", f"expected 0 to {_LONGEST_TIME:.0f} seconds")
    if not 0 <= said.created_at < _END_OF_TIME:
        raise wrong(f"{here}create_time", "expected a time since 1970, and before 10000")
    _check_metadata(f"{here}metadata", said.metadata)


def _check_metadata(field: str, metadata: Mapping[str, str]) -> None:
    if len(metadata) > _ENTRIES:
        raise wrong(field, f"{len(metadata)} entries are too many: {_ENTRIES} at most")
    for key, value in metadata.items():
        if not (0 < len(key) <= _KEY and key.isprintable()):
            raise wrong(field, f"{key[:_KEY]!r} is no key: 1 to {_KEY} printable characters")
        _check_text(f"{field}[{key!r}]", value, _VALUE)


def _check_text(field: str, text: str, longest: int) -> None:
    if len(text) > longest:
        raise wrong(field, f"{len(text)} characters are too many: {longest} at most")
    if "\0" in text:
        raise wrong(field, "it has a NUL character")
    if not text.isascii() and any("\ud800" <= each <= "\udfff" for each in text):
        raise wrong(field, "it has half a character")


def _check_ttl(ttl: float | None) -> None:
    if ttl is not None and not 0 <= ttl <= _LONGEST_TIME:
        raise wrong("ttl_seconds", f"expected 0 to {_LONGEST_TIME:.0f} seconds")


def check_one(tenant: str, agent: str, id: str) -> None:
    check_name("tenant", tenant)
    check_name("agent", agent)
    check_name("episode_id", id)


def check_filter(asked: EpisodeFilter) -> None:
    check_name("tenant", asked.tenant)
    check_name("agent", asked.agent)
    for field in ("session", "run_id", "name", "principal"):
        if name := getattr(asked, field):
            check_name(field, name)
    if EpisodeOutcome.NONE in asked.outcomes:
        raise wrong("outcomes", "EPISODE_OUTCOME_UNSPECIFIED is none: leave it out")
    if asked.since is not None and asked.until is not None and asked.until < asked.since:
        raise wrong("end_time", "it lies before start_time")


def check_selection(selection: EpisodicSelection) -> None:
    if not 1 <= selection.max_results <= _SHOWN:
        raise wrong("episodic.max_results", f"expected 1 to {_SHOWN}")
