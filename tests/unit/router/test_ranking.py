"""Who is asked first, by each strategy."""

from servers.domain.chat import ChatRequest, ModelRef, Role, Sampling, says
from servers.domain.models import Capabilities
from servers.router.lanes.breaker import Breaker
from servers.router.lanes.lanes import Lane
from servers.router.lanes.limits import Gate
from servers.router.ports import Limits, ModelSettings, Price
from servers.router.routing.candidates import Candidate
from servers.router.routing.ranking import Ranking
from servers.router.routing.targets import Needs, Target

SHORT = ChatRequest((says(Role.USER, "hi"),), (ModelRef("any"),))


def named(
    name: str,
    *,
    price: Price | None = None,
    rank: int | None = None,
    able: Capabilities | None = None,
    needs: Needs | None = None,
    latency: float | None = None,
    first_token: float | None = None,
) -> Candidate:
    target = Target(
        name, "openai_compat", "http://x", "m", declared=ModelSettings("m", quality_rank=rank)
    )
    lane = Lane(Breaker(), latency, first_token)
    gate = Gate(name, Limits())
    return Candidate(target, lane, gate, price, able or Capabilities(), needs or Needs())


def order(strategy: str, *candidates: Candidate, request=SHORT, streamed=False) -> str:
    ranked = Ranking().rank(strategy, candidates, request, streamed)
    return "".join(each.target.provider for each in ranked)


class TestInOrder:
    def test_is_as_listed(self):
        assert order("", named("b"), named("a")) == "ba"


class TestCost:
    def test_is_that_of_the_model_itself(self):
        dear, cheap = named("d", price=Price(10, 10)), named("c", price=Price(1, 1))
        assert order("cost_optimized", dear, cheap) == "cd"

    def test_is_reckoned_with_the_prompt_s_own_length(self):
        reads_cheaply = named("r", price=Price(0.1, 20))
        writes_cheaply = named("w", price=Price(5, 1))
        book = ChatRequest((says(Role.USER, "word " * 10_000),), (ModelRef("any"),))
        assert order("cost_optimized", reads_cheaply, writes_cheaply) == "wr"
        assert order("cost_optimized", writes_cheaply, reads_cheaply, request=book) == "rw"

    def test_is_reckoned_with_the_answer_s_bound(self):
        reads_cheaply = named("r", price=Price(0.1, 20))
        writes_cheaply = named("w", price=Price(5, 1))
        talk = ChatRequest(
            (says(Role.USER, "word " * 1000),), (ModelRef("any"),), sampling=Sampling(max_tokens=1)
        )
        assert order("cost_optimized", writes_cheaply, reads_cheaply, request=talk) == "rw"

    def test_that_is_equal_keeps_the_order(self):
        same = Price(1, 1)
        assert order("cost_optimized", named("b", price=same), named("a", price=same)) == "ba"

    def test_that_is_unknown_is_not_taken_for_none(self):
        assert order("cost_optimized", named("u"), named("k", price=Price(99, 99))) == "ku"

    def test_of_nothing_is_the_least(self):
        free, known = named("f", price=Price(0, 0)), named("k", price=Price(1, 1))
        assert order("cost_optimized", known, free) == "fk"


class TestLatency:
    def test_the_fastest_comes_first(self):
        assert order("latency_optimized", named("s", latency=2.0), named("f", latency=1.0)) == "fs"

    def test_the_unmeasured_come_before_all(self):
        assert order("latency_optimized", named("f", latency=0.1), named("u")) == "uf"

    def test_of_streams_is_the_time_to_the_first_piece(self):
        long = named("l", latency=9.0, first_token=0.1)
        late = named("t", latency=1.0, first_token=0.9)
        assert order("latency_optimized", late, long, streamed=True) == "lt"
        assert order("latency_optimized", long, late) == "tl"


class TestQuality:
    def test_is_as_declared(self):
        assert order("quality_first", named("b", rank=2), named("a", rank=1)) == "ab"

    def test_that_nobody_declared_comes_last_in_order(self):
        assert order("quality_first", named("x"), named("y"), named("a", rank=5)) == "axy"


class TestTurns:
    def test_go_round(self):
        ranking, abc, first = Ranking(), [named(each) for each in "abc"], []
        for _ in range(5):
            first.append(ranking.rank("round_robin", abc, SHORT, False)[0].target.provider)
            ranking.attempted(abc)
        assert "".join(first) == "abcab"

    def test_are_moved_on_by_every_attempt(self):
        ranking, abc = Ranking(), [named(each) for each in "abc"]
        ranking.attempted(abc)  # a failed
        ranking.attempted(abc)  # so b was asked, in the same request
        assert ranking.rank("round_robin", abc, SHORT, False)[0].target.provider == "c"

    def test_of_other_candidates_are_counted_apart(self):
        ranking, ab, cd = Ranking(), [named("a"), named("b")], [named("c"), named("d")]
        ranking.attempted(ab)
        assert ranking.rank("round_robin", cd, SHORT, False)[0].target.provider == "c"

    def test_do_not_depend_on_the_order_of_listing(self):
        ranking, a, b = Ranking(), named("a"), named("b")
        ranking.attempted([a, b])
        assert ranking.rank("round_robin", [b, a], SHORT, False)[0].target.provider == "a"


class TestCapabilities:
    def test_that_are_declared_go_before_those_not_denied(self):
        tools = Needs(tools=True)
        silent = named("s", needs=tools)
        able = named("a", able=Capabilities(tools=True), needs=tools)
        assert order("capability_match", silent, able) == "as"

    def test_that_are_native_go_before_emulated_ones(self):
        tools = Needs(tools=True)
        emulated = named("e", able=Capabilities(tools=False, emulated_tools=True), needs=tools)
        native = named("n", able=Capabilities(tools=True), needs=tools)
        assert order("capability_match", emulated, native) == "ne"

    def test_of_windows_the_smallest_that_is_large_enough_is_taken(self):
        wide = named("w", able=Capabilities(context_window=100_000))
        narrow = named("n", able=Capabilities(context_window=8_000))
        assert order("capability_match", wide, narrow) == "nw"

    def test_of_streaming_counts_for_streams(self):
        whole = named("w", able=Capabilities(streaming=False, context_window=1))
        pieces = named("p", able=Capabilities(context_window=2))
        assert order("capability_match", whole, pieces) == "wp"
        assert order("capability_match", whole, pieces, streamed=True) == "pw"
