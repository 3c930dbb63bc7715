"""Who is asked first: the strategies, over candidates that can all do what is needed."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf

from servers.domain.chat import ChatRequest
from servers.domain.models import Capabilities
from servers.router.routing.candidates import Candidate
from servers.router.routing.counting import Prompt
from servers.router.routing.targets import Needs

_MOST_ROUNDS = 1000  # sets of candidates that round_robin remembers
_USUAL_ANSWER = 512  # tokens; where a request doesn't bound its answer


@dataclass(slots=True)
class Ranking:
    """Ranks by the strategy of a request. Candidates that a strategy finds alike keep the
    order in which they were listed."""

    turns: OrderedDict[tuple[tuple[str, str, str], ...], int] = field(default_factory=OrderedDict)

    def rank(
        self, strategy: str, candidates: Sequence[Candidate], request: ChatRequest, streamed: bool
    ) -> Sequence[Candidate]:
        match strategy:
            case "cost_optimized":
                return sorted(candidates, key=_cost(request))
            case "latency_optimized":
                return sorted(candidates, key=_first_token if streamed else _latency)
            case "quality_first":
                return sorted(candidates, key=_quality)
            case "capability_match":
                return sorted(candidates, key=_fit(candidates, streamed))
            case "round_robin":
                return self._next(candidates)
        return candidates

    def attempted(self, candidates: Sequence[Candidate]) -> None:
        """An attempt at one of them, whatever becomes of it: the next turn is another's."""
        key = _names(candidates)
        self.turns[key] = self.turns.get(key, 0) + 1
        self.turns.move_to_end(key)
        if len(self.turns) > _MOST_ROUNDS:
            self.turns.popitem(last=False)

    def _next(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        if not candidates:
            return candidates
        start = self.turns.get(_names(candidates), 0) % len(candidates)
        return [*candidates[start:], *candidates[:start]]


def _names(candidates: Sequence[Candidate]) -> tuple[tuple[str, str, str], ...]:
    """The same for every order of the same candidates."""
    return tuple(sorted(each.target.key for each in candidates))


def _cost(request: ChatRequest) -> Callable[[Candidate], float]:
    """By what this very prompt costs at the model; an unknown price comes last."""
    read = Prompt.of(request).likely

    def key(candidate: Candidate) -> float:
        price, most = candidate.price, request.sampling.over(candidate.target.sampling).max_tokens
        if price is None or price.input is None or price.output is None:
            return inf
        return read * price.input + (most or _USUAL_ANSWER) * price.output

    return key


def _latency(candidate: Candidate) -> float:
    """One that was never measured comes first: else it never would be."""
    return candidate.lane.latency if candidate.lane.latency is not None else -1.0


def _first_token(candidate: Candidate) -> float:
    return candidate.lane.first_token if candidate.lane.first_token is not None else -1.0


def _quality(candidate: Candidate) -> float:
    rank = candidate.target.declared.quality_rank
    return inf if rank is None else rank


def _fit(
    candidates: Sequence[Candidate], streamed: bool
) -> Callable[[Candidate], tuple[int, int, float]]:
    """What is declared goes before what is only not denied, native tools before emulated
    ones; of those that fit alike, the one with the smallest window that is large enough."""

    def key(candidate: Candidate) -> tuple[int, int, float]:
        able = candidate.able
        undeclared = _undeclared(candidate.needs, able) + (streamed and not able.streaming)
        return undeclared, candidate.emulated, able.context_window or inf

    return key


def _undeclared(needs: Needs, able: Capabilities) -> int:
    wanted = (
        (needs.tools, able.tools or able.emulated_tools),
        (needs.vision, able.vision),
        (needs.json_schema or needs.fitting, able.json_schema),
    )
    return sum(need and not can for need, can in wanted)
