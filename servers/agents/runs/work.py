"""What the steps of one run share, whichever part of it takes them."""

from collections.abc import Callable
from dataclasses import dataclass, field

from servers.agents.runs.journal import Journal
from servers.agents.runs.replay import Replay
from servers.agents.runs.tally import Tally
from servers.domain.caller import Account, Caller
from servers.domain.runs import Ask, Run


@dataclass(slots=True)
class Work:
    caller: Caller
    account: Account
    run: Run
    journal: Journal
    replay: Replay
    now: Callable[[], float]
    tally: Tally = field(default_factory=Tally)
    iterations: int = 0
    asks: dict[str, Ask] = field(default_factory=dict)  # what it waits for, by call id
    saying: list[str] = field(default_factory=list)  # what the newest model call has said so far
    _model_calls: int = 0

    @property
    def said(self) -> str:
        return "".join(self.saying)

    def next_model_call(self) -> int:
        """A number that no call on record has."""
        self._model_calls = max(self._model_calls, self.replay.model_calls) + 1
        return self._model_calls

    @property
    def answered(self) -> bool:
        """Whether something of what it waits for has come meanwhile."""
        return any(self.replay.decision(call_id) for call_id in self.asks)
