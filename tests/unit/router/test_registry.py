"""Names in a manifest and the code behind them."""

import pytest

from servers.kernel.errors import InvalidInput, NotReady
from servers.kernel.registry import Registry
from servers.router.kinds import PROVIDERS, check_strategy

THINGS = Registry(
    "astromesh.things",
    planned={"soon": "Use here instead.", "later": ""},
    extras={"broken": "big"},
    here="collections:OrderedDict",
    broken="no_such_package.adapter:Thing",
)


def test_a_name_gives_its_code():
    from collections import OrderedDict

    assert THINGS["here"] is OrderedDict


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(InvalidInput, match="no 'what', only broken, here"):
        THINGS.check("what")


def test_a_planned_name_is_refused_with_advice():
    with pytest.raises(InvalidInput, match=r"'soon' is not supported by this version.*Use here"):
        THINGS.check("soon")


def test_a_missing_package_is_named_with_the_extra_that_brings_it():
    with pytest.raises(NotReady, match=r"no_such_package.*astromesh-grpc\[big\]"):
        THINGS["broken"]


@pytest.mark.parametrize("name", sorted(PROVIDERS))
def test_every_provider_type_has_code(name):
    assert callable(PROVIDERS[name])


@pytest.mark.parametrize("name", ["", "in_order"])
def test_in_order_is_a_strategy(name):
    check_strategy(name)


def test_an_unknown_strategy_is_refused():
    with pytest.raises(InvalidInput, match="no strategy 'fastest'"):
        check_strategy("fastest")
