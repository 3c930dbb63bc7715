from hypothesis import example, given
from hypothesis import strategies as st

from servers.router.adapters.triton.stops import Stops


def shown(stops: Stops, pieces: list[str]) -> str:
    said = ""
    for piece in pieces:
        said += stops.take(piece)
        if stops.met:
            return said
    return said + stops.rest()


class TestAText:
    def test_without_stop_strings_is_shown_as_it_comes(self):
        stops = Stops(())
        assert [stops.take("a"), stops.take("b"), stops.rest()] == ["a", "b", ""]

    def test_ends_before_the_first_stop_string(self):
        assert shown(Stops(("END", "STOP")), ["one STOP two END"]) == "one "

    def test_is_held_back_only_where_a_stop_string_may_begin(self):
        stops = Stops(("END",))
        assert [stops.take("the E"), stops.take("N"), stops.take("T")] == ["the ", "", "ENT"]

    def test_that_was_held_back_is_shown_at_the_end(self):
        assert shown(Stops(("END",)), ["the EN"]) == "the EN"

    def test_does_not_stop_at_nothing(self):
        assert shown(Stops(("",)), ["one"]) == "one"


few = st.text(alphabet="ab", max_size=12)


@given(st.lists(st.text(alphabet="ab", min_size=1, max_size=3), max_size=3), st.lists(few))
@example(["abab", "ba"], ["abab"])
def test_where_it_ends_does_not_depend_on_the_pieces(stops, pieces):
    letters = list("".join(pieces))
    assert shown(Stops(stops), pieces) == shown(Stops(stops), letters)


@given(st.text(alphabet="ab", min_size=1, max_size=3), st.lists(few))
def test_it_is_what_comes_before_the_stop_string(stop, pieces):
    assert shown(Stops((stop,)), pieces) == "".join(pieces).split(stop)[0]
