"""The log of an ended run without what is in it twice."""

from collections.abc import Sequence
from itertools import groupby

from servers.agents.adapters.run_codec import Row, events_of, row_of
from servers.domain.run_events import ModelReplied, ReasoningDelta, TextDelta


def compacted(run_id: str, rows: Sequence[Row]) -> list[Row] | None:
    """Without the pieces of text whose model call has its whole reply on record.

    None where there are none. The rest keeps its sequences, and what was written
    together stays together.
    """
    logs = [events_of(run_id, row) for row in rows]
    events = [event for log in logs for event in log]
    whole = {
        event.payload.model_call for event in events if isinstance(event.payload, ModelReplied)
    }
    kept = [
        (number, event)
        for number, log in enumerate(logs)
        for event in log
        if not isinstance(event.payload, TextDelta | ReasoningDelta)
        or event.payload.model_call not in whole
    ]
    if len(kept) == len(events):
        return None
    return [
        row_of([event for _, event in together])
        for _, together in groupby(kept, key=lambda each: each[0])
    ]
