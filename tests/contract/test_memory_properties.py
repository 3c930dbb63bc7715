"""Whatever is asked of conversations in whatever order: every database says what a list would."""

import asyncio
from dataclasses import dataclass, field
from itertools import accumulate, count

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from servers.domain.chat import Role, says
from servers.domain.memory import Details, SessionKey, Strategy

PEOPLE = ("", "ada", "bob")
_tenants = count()

sessions = st.sampled_from(["s1", "s2"])
people = st.sampled_from(PEOPLE)
runs = st.sampled_from(["", "r1", "r2", "r3"])
sizes = st.integers(1, 4)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), sessions, people, runs, sizes),
        st.tuples(st.just("clear"), sessions),
        st.tuples(st.just("erase"), st.sampled_from(PEOPLE[1:])),
        st.tuples(st.just("count"), sessions, st.integers(0, 4), st.integers(1, 99)),
    ),
    max_size=20,
)


@dataclass
class Listed:
    """One session as a list."""

    turns: list = field(default_factory=list)  # [index, text, run, principal, tokens]
    runs: set = field(default_factory=set)
    next: int = 0


class Model:
    def __init__(self) -> None:
        self.sessions: dict[str, Listed] = {}

    def append(self, session, principal, run, size) -> int:
        kept = self.sessions.setdefault(session, Listed())
        if not (run and run in kept.runs):
            for _ in range(size):
                kept.turns.append([kept.next, f"{kept.next}", run, principal, 0])
                kept.next += 1
            kept.runs |= {run} - {""}
        return len(kept.turns)

    def clear(self, session) -> int:
        return len(self.sessions.pop(session, Listed()).turns)

    def erase(self, principal) -> int:
        before = sum(len(kept.turns) for kept in self.sessions.values())
        for name, kept in list(self.sessions.items()):
            his = [turn for turn in kept.turns if turn[3] == principal]
            kept.turns = [turn for turn in kept.turns if turn[3] != principal]
            # A run whose turns are gone may write again; one that has some left may not.
            kept.runs = {turn[2] for turn in kept.turns} - {""}
            if his and not kept.turns:
                del self.sessions[name]
        return before - sum(len(kept.turns) for kept in self.sessions.values())

    def count(self, session, index, tokens) -> None:
        for turn in self.sessions.get(session, Listed()).turns:
            if turn[0] == index:
                turn[4] = tokens


async def done(memory, model: Model, step, tenant: str) -> None:
    match step:
        case ("append", session, principal, run, size):
            key = SessionKey(tenant, "helper", session)
            first = model.sessions.get(session, Listed()).next
            said = [says(Role.USER, f"{first + n}") for n in range(size)]
            total = await memory.append(key, said, run, Details(principal))
            assert total == model.append(session, principal, run, size)
        case ("clear", session):
            key = SessionKey(tenant, "helper", session)
            assert await memory.clear(key) == model.clear(session)
        case ("erase", principal):
            assert (await memory.erase(tenant, principal)).turns == model.erase(principal)
        case ("count", session, index, tokens):
            key = SessionKey(tenant, "helper", session)
            await memory.count(key, [(index, tokens)], "p/m")
            model.count(session, index, tokens)


async def compared(memory, model: Model, tenant: str) -> None:
    for session in ("s1", "s2"):
        key, kept = SessionKey(tenant, "helper", session), model.sessions.get(session, Listed())
        turns = (await memory.turns(key)).turns
        seen = [[t.index, t.message.text, t.run_id, t.principal, t.tokens] for t in turns]
        assert seen == kept.turns
        context = await memory.context(key, Strategy(max_turns=3))
        assert [m.text for m in context.messages] == [turn[1] for turn in kept.turns[-3:]]
        assert context.total_turns == len(kept.turns)
    listed = (await memory.sessions(tenant, "helper")).sessions
    assert {s.key.session: s.turns for s in listed} == {
        name: len(kept.turns) for name, kept in model.sessions.items()
    }
    for principal in PEOPLE[1:]:
        records = (await memory.export(tenant, principal)).records
        assert [(r.key.session, r.turn.index) for r in records] == [
            (name, turn[0])
            for name, kept in sorted(model.sessions.items())
            for turn in kept.turns
            if turn[3] == principal
        ]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=steps)
def test_every_database_says_what_a_list_would(database, asked):
    async def compare() -> None:
        model, tenant = Model(), f"t{next(_tenants)}"
        async with database.memory() as memory:
            for step in asked:
                await done(memory, model, step, tenant)
            await compared(memory, model, tenant)

    asyncio.run(compare())


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(counts=st.lists(st.integers(1, 90), max_size=300), most=st.integers(1, 9000))
def test_a_budget_shows_what_would_be_shown_of_all_turns_at_once(database, counts, most):
    fitting = sum(total <= most for total in accumulate(reversed(counts)))

    async def compare() -> None:
        key = SessionKey(f"t{next(_tenants)}", "helper", "s1")
        async with database.memory() as memory:
            said = [says(Role.USER, f"{n}") for n in range(len(counts))]
            if said:
                await memory.append(key, said, "", Details("", tuple(counts), "p/m"))
            budget = Strategy("token_budget", max_tokens=most, counted_by="p/m")
            context = await memory.context(key, budget)
            assert context.messages == tuple(said[len(said) - fitting :])
            assert (context.total_turns, context.uncounted) == (len(said), ())

    asyncio.run(compare())
