"""What a run says that its models used."""

from servers.agents.runs.record.tally import Tally
from servers.domain.chat import Finish, ModelUsage, Usage


def finish(model: str, tokens: int, cost: float | None = None, **more) -> Finish:
    return Finish(usage=Usage(tokens, 1, cost_usd=cost), provider="p", model=model, **more)


def tally(*finishes: Finish) -> tuple[ModelUsage, ...]:
    tally = Tally()
    for each in finishes:
        tally.add(each)
    return tally.models


def test_calls_of_a_model_add_up():
    assert tally(finish("a", 5), finish("a", 7)) == (ModelUsage("p", "a", 2, Usage(12, 2)),)


def test_what_was_used_besides_counts():
    other = ModelUsage("p", "b", 2, Usage(9, 9))
    assert tally(finish("a", 5, besides=(other,))) == (
        ModelUsage("p", "a", 1, Usage(5, 1)),
        other,
    )


def test_an_answer_that_was_repaired_counts_twice():
    broken = ModelUsage("p", "a", 1, Usage(5, 1))
    assert tally(finish("a", 7, besides=(broken,))) == (ModelUsage("p", "a", 2, Usage(12, 2)),)


CACHED = Finish(usage=Usage(cost_usd=0.0), provider="p", model="a", cached=True)


def test_an_answer_from_the_cache_is_no_call_and_costs_nothing():
    assert tally(CACHED) == (ModelUsage("p", "a", 0, Usage(cost_usd=0.0)),)


def test_an_answer_from_the_cache_does_not_make_an_unknown_price_known():
    for order in ((CACHED, finish("a", 5)), (finish("a", 5), CACHED)):
        assert tally(*order) == (ModelUsage("p", "a", 1, Usage(5, 1)),)
