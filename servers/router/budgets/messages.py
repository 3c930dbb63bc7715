"""What is said of budgets that are spent: to who is refused, and to who is warned."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from servers.domain.chat import Notice
from servers.kernel.errors import Exhausted, NotReady, Violation
from servers.router.budgets.amounts import NOTHING, Amount, dollars
from servers.router.budgets.budget import Call, Claim
from servers.router.budgets.ledger import Reserved, Standing


def unpriced(claim: Claim, call: Call) -> NotReady:
    name, provider, model = claim.budget.name, call["provider"], call["model"]
    return NotReady(
        f"budget {name!r} counts US dollars, and nobody knows what {provider}/{model} costs: add "
        "its price to prices.yaml or to the ProviderConfig (0 where it is free)",
        reason="PRICE_UNKNOWN",
        budget=name,
        provider=provider,
        model=model,
    )


def exceeded(
    claims: Iterable[Claim], standings: Iterable[Standing], need: Amount, now: float
) -> Exhausted:
    """Of the hard budgets that have not got `need` left."""
    short = [
        (claim, standing)
        for claim, standing in zip(claims, standings, strict=True)
        if claim.budget.hard and not claim.budget.limit.fits(standing.taken + need)
    ]
    violations = tuple(
        Violation(claim.budget.name, _refusal(claim, standing, need)) for claim, standing in short
    )
    # Where a call is larger than the whole limit, no new window helps.
    ends = [
        claim.counter.ends_at
        for claim, _ in short
        if claim.counter.ends_at is not None and claim.budget.limit.fits(need)
    ]
    first, *rest = violations
    more = f" (and {len(rest)} more)" if rest else ""
    return Exhausted(
        f"budget {first.field!r}: {first.description}{more}",
        reason="BUDGET_EXCEEDED",
        retry_after=max(min(ends) - now, 0.001) if ends else None,
        violations=violations,
        budget=first.field,
    )


def warnings(reserved: Reserved) -> Iterator[Notice]:
    """Of the budgets that only warn."""
    claims = reserved.hold.claims if reserved.hold else ()
    for claim, standing in zip(claims, reserved.standings, strict=True):
        budget = claim.budget
        if not budget.hard and not budget.limit.fits(standing.taken):
            says = f"budget {budget.name!r} is exceeded: {_state(claim, standing, NOTHING)}"
            yield Notice("BUDGET_WARNING", says)


def uncounted(claims: Iterable[Claim]) -> Notice:
    names = ", ".join(repr(claim.budget.name) for claim in claims)
    return Notice("BUDGETS_UNAVAILABLE", f"not counted by {names}: Redis can't be reached")


def _refusal(claim: Claim, standing: Standing, need: Amount) -> str:
    wants = [
        *([dollars(need.nano)] if _short_of_money(claim, standing, need) else []),
        *([f"{need.tokens:,} tokens"] if _short_of_tokens(claim, standing, need) else []),
    ]
    state = _state(claim, standing, need)
    return f"{state}; this call may need {' and '.join(wants)}{_until(claim)}"


def _state(claim: Claim, standing: Standing, need: Amount) -> str:
    """Of the limits that are short: what became of them, and in which counter."""
    limit, spent, reserved = claim.budget.limit, standing.spent, standing.reserved
    parts = []
    if limit.nano is not None and _short_of_money(claim, standing, need):
        held = f", {dollars(reserved.nano)} set aside" if reserved.nano else ""
        parts.append(f"{dollars(spent.nano)} of {dollars(limit.nano)} spent{held}")
    if limit.tokens is not None and _short_of_tokens(claim, standing, need):
        held = f", {reserved.tokens:,} set aside" if reserved.tokens else ""
        parts.append(f"{spent.tokens:,} of {limit.tokens:,} tokens used{held}")
    whose = ", ".join(f"{name} {value!r}" for name, value in claim.counter.group)
    return " and ".join(parts) + (f" for {whose}" if whose else "")


def _short_of_money(claim: Claim, standing: Standing, need: Amount) -> bool:
    limit = claim.budget.limit.nano
    return limit is not None and standing.taken.nano + need.nano > limit


def _short_of_tokens(claim: Claim, standing: Standing, need: Amount) -> bool:
    limit = claim.budget.limit.tokens
    return limit is not None and standing.taken.tokens + need.tokens > limit


def _until(claim: Claim) -> str:
    if claim.counter.ends_at is None:
        return ""
    return (
        f"; it begins anew at {datetime.fromtimestamp(claim.counter.ends_at, UTC):%Y-%m-%dT%H:%MZ}"
    )
