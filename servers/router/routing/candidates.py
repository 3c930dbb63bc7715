"""Those who could answer a request: resolved, able, with what is known of each."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from servers.domain.chat import ChatRequest, ModelRef, Usage
from servers.domain.models import Capabilities
from servers.kernel.errors import InvalidInput
from servers.router.kinds import kind
from servers.router.lanes.lanes import Lane, Lanes
from servers.router.lanes.limits import Gate
from servers.router.ports import Cost, Price, Providers, RouterSettings
from servers.router.routing.counting import Prompt
from servers.router.routing.prices import PriceList, cost, priced
from servers.router.routing.targets import Needs, Target, combined, needs, resolve
from servers.router.routing.trail import Trail

_RESOLVED = 1000  # refs
_ANY, _NONE = Capabilities(), Needs()
_ANSWER = 4096  # tokens that a budget sets aside where nothing bounds an answer


@dataclass(frozen=True, slots=True)
class Candidate:
    target: Target
    lane: Lane
    gate: Gate
    price: Price | None
    able: Capabilities
    needs: Needs

    @property
    def emulated(self) -> bool:
        """Whether tools must be offered to it as constrained JSON."""
        return self.needs.tools and self.able.tools is False

    def priced(self, usage: Usage) -> Usage:
        return priced(self.price, usage)

    def most(self, read: int, written: int) -> Cost:
        """What a call costs at most that reads and writes so many tokens."""
        return Cost(read + written, cost(self.price, Usage(read, written)))


class Candidates:
    """Makes candidates of references. One for the whole process."""

    def __init__(
        self, settings: RouterSettings, providers: Providers, lanes: Lanes, prices: PriceList
    ) -> None:
        self._settings, self._providers = settings, providers
        self._lanes, self._prices = lanes, prices
        self._resolved: OrderedDict[int, tuple[ModelRef, Target]] = OrderedDict()  # by id(ref)
        self._usual: dict[str, tuple[ModelRef, ...]] = {}  # by type of provider

    def of(self, request: ChatRequest, trail: Trail) -> list[Candidate]:
        """Those that can do what the request needs. All names are checked first."""
        if not request.messages:
            raise InvalidInput("messages: there is no message to answer", reason="INVALID_REQUEST")
        if not request.candidates:
            raise InvalidInput("candidates: name at least one model", reason="INVALID_REQUEST")
        wanted, prompt = needs(request), Prompt.of(request)
        found = []
        for target in self.targets(request.candidates, "chat"):
            provider = self._providers.get(target.kind, target.endpoint, target.options)
            able = combined(target.declared.capabilities, provider.capabilities(target.model))
            if missing := (*wanted.missing(able), *_too_long(prompt, able)):
                trail.cannot(target, missing)
            else:
                found.append(self.candidate(target, able, wanted))
        return found

    def targets(self, refs: Sequence[ModelRef], deed: str) -> list[Target]:
        targets = [self.target(ref) for ref in refs]
        for target in targets:
            check_does(target, deed)
        return targets if self._settings.fallback_enabled else targets[:1]

    def any_of(self, type_: str) -> tuple[ModelRef, ...]:
        """The first declared provider of a type, or the type itself. Always the same refs: each
        new one would have to be resolved, and be remembered."""
        if type_ not in self._usual:
            declared = self._settings.providers.values()
            name = next((each.name for each in declared if each.kind == type_), type_)
            self._usual[type_] = (ModelRef(name),)
        return self._usual[type_]

    def target(self, ref: ModelRef) -> Target:
        """As `resolve`, which is worked out once for the refs that an agent keeps using."""
        known = self._resolved.get(id(ref))
        if known is None or known[0] is not ref:
            known = self._resolved[id(ref)] = ref, resolve(ref, self._settings)
            if len(self._resolved) > _RESOLVED:
                self._resolved.popitem(last=False)
        return known[1]

    def candidate(
        self, target: Target, able: Capabilities = _ANY, wanted: Needs = _NONE
    ) -> Candidate:
        return Candidate(
            target,
            self._lanes.lane(target.key),
            self._lanes.gate(target.provider, self._settings.provider(target.provider).limits),
            target.declared.price or self._prices.price(target.kind, target.endpoint, target.model),
            able,
            wanted,
        )


def answer_limit(request: ChatRequest, candidate: Candidate) -> int:
    """Tokens that the answer has at most, as far as anybody says."""
    target = candidate.target
    said = request.sampling.over(target.sampling).max_tokens or target.declared.max_output
    return said or min(_ANSWER, candidate.able.context_window or _ANSWER)


def check_does(target: Target, deed: str) -> None:
    """Raises InvalidInput where the provider's type is for something else."""
    does = kind(target.kind).does
    if deed not in does:
        raise InvalidInput(
            f"provider {target.provider!r} (type {target.kind!r}) can't {deed}; "
            f"it can {', '.join(sorted(does))}",
            reason="PROVIDER_UNFIT",
            provider=target.provider,
        )


def _too_long(prompt: Prompt, able: Capabilities) -> tuple[str, ...]:
    window = able.context_window
    if window is None or prompt.least <= window:
        return ()
    return (f"room for a prompt of more than {prompt.least} tokens (its window has {window})",)
