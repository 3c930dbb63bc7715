"""Checks who answers what a run waits for, and what. No I/O."""

from dataclasses import replace

from servers.domain.caller import Caller
from servers.domain.run_events import Decided
from servers.domain.runs import Ask, AskKind, Decision, Run, Verdict
from servers.kernel.errors import Denied, InvalidInput, NotFound, NotReady, Violation

_FITTING = {
    AskKind.APPROVAL: (Verdict.APPROVE, Verdict.REJECT),
    AskKind.INPUT: (Verdict.RESULT,),
}


def settled(run: Run, decision: Decision, caller: Caller) -> Decided:
    """The decision with all that it leaves open. Raises what is wrong with it."""
    ask = _ask(run, decision.call_id)
    _check_who(run, ask, caller)
    _check_what(run, ask, decision)
    return Decided(replace(decision, call_id=ask.call_id), caller.principal)


def _check_who(run: Run, ask: Ask, caller: Caller) -> None:
    if ask.principals and caller.principal not in ask.principals:
        raise Denied(
            f"{caller.principal or 'an unnamed caller'!r} may not decide on {ask.tool!r}; "
            f"those who may are named in the agent's declaration",
            reason="APPROVAL_DENIED",
            run_id=run.id,
            call_id=ask.call_id,
        )


def _check_what(run: Run, ask: Ask, decision: Decision) -> None:
    if decision.verdict not in _FITTING[ask.kind]:
        fitting = " or ".join(repr(each.value) for each in _FITTING[ask.kind])
        raise NotReady(
            f"call {ask.call_id!r} waits for {ask.kind.value!r}: say {fitting}",
            reason="WRONG_VERDICT",
            run_id=run.id,
            call_id=ask.call_id,
        )
    if decision.arguments and not ask.editable:
        wrong = Violation("arguments", "may not be changed: approve or reject the call as it is")
        raise InvalidInput(
            f"arguments of {ask.tool!r} {wrong.description}, or let the tool's declaration say "
            "approval: {editable: true}",
            reason="NOT_EDITABLE",
            violations=(wrong,),
            run_id=run.id,
            call_id=ask.call_id,
        )


def _ask(run: Run, call_id: str) -> Ask:
    asks = {ask.call_id: ask for ask in run.waiting if ask.kind in _FITTING}
    if not asks:
        raise not_waiting(run)
    if not call_id and len(asks) == 1:
        return next(iter(asks.values()))
    if call_id not in asks:
        known = ", ".join(repr(each) for each in asks)
        raise NotFound(
            f"run {run.id!r} has asked for {known}; name one of these in call_id",
            reason="NOT_ASKED",
            run_id=run.id,
            call_id=call_id,
        )
    return asks[call_id]


def not_waiting(run: Run) -> NotReady:
    others = [ask.run_id for ask in run.waiting if ask.kind is AskKind.RUN]
    hint = f"; answer the run {others[0]!r}, for which it waits" if others else ""
    return NotReady(
        f"run {run.id!r} waits for nobody's answer: it is {run.state.value}{hint}",
        reason="RUN_NOT_WAITING",
        run_id=run.id,
        state=run.state.value,
    )


def already_decided(run: Run, call_id: str) -> NotReady:
    return NotReady(
        f"somebody has decided on call {call_id!r} of run {run.id!r} already",
        reason="ALREADY_DECIDED",
        run_id=run.id,
        call_id=call_id,
    )
