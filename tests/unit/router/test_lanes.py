"""What is learnt about providers, and what of it may be forgotten."""

import pytest

from servers.router.lanes.breaker import Breaker
from servers.router.lanes.lanes import Lane, Lanes


def test_latency_is_four_parts_old_and_one_part_new():
    lane = Lane(Breaker())
    lane.took(100)
    lane.took(200)
    assert lane.latency == pytest.approx(120)


def test_the_same_model_at_the_same_place_has_one_lane():
    lanes = Lanes()
    assert lanes.lane(("p", "e", "m")) is lanes.lane(("p", "e", "m"))


def test_another_model_has_a_lane_of_its_own():
    lanes = Lanes()
    assert lanes.lane(("p", "e", "m")) is not lanes.lane(("p", "e", "n"))


def test_the_longest_unused_lane_makes_room():
    lanes = Lanes(most=2)
    for model in ("a", "b", "a", "c"):
        lanes.lane(("p", "e", model))
    assert [key[2] for key, _ in lanes.all()] == ["a", "c"]


def test_a_lane_that_remembers_failures_stays():
    lanes = Lanes(most=2)
    lanes.lane(("p", "e", "a")).breaker.failed()
    for model in ("b", "c"):
        lanes.lane(("p", "e", model))
    assert [key[2] for key, _ in lanes.all()] == ["a", "c"]
