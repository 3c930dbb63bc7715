"""What calls cost, and what is honestly unknown."""

from pathlib import Path

import pytest

from servers.domain.chat import Usage
from servers.kernel.errors import InvalidInput
from servers.router.ports import Price
from servers.router.routing.prices import FREE, PriceList, cost, load_prices

SHIPPED = Path(__file__).parents[3] / "config" / "prices.yaml"
OPENAI = "https://api.openai.com/v1"


def test_a_call_costs_its_tokens():
    assert cost(Price(2.0, 10.0), Usage(1_000_000, 100_000)) == pytest.approx(3.0)


def test_cached_tokens_have_their_own_price():
    assert cost(Price(2.0, 10.0, 0.5), Usage(1_000_000, 0, 400_000)) == pytest.approx(1.4)


def test_cached_tokens_cost_as_much_as_others_where_nothing_is_said():
    assert cost(Price(2.0, 10.0), Usage(1_000_000, 0, 400_000)) == pytest.approx(2.0)


@pytest.mark.parametrize("price", [None, Price(input=1.0), Price(output=1.0)])
def test_without_a_price_the_cost_is_unknown(price):
    assert cost(price, Usage(10, 10)) is None


@pytest.mark.parametrize(
    "kind",
    [
        *("local", "onnx", "onnxruntime"),
        *("onnx_embeddings", "onnx_cross_encoder", "sentence_transformers"),
    ],
)
def test_a_model_of_this_machine_is_free(kind):
    assert PriceList().price(kind, "local:", "any") == FREE


def test_the_shipped_list_knows_openai():
    assert load_prices(SHIPPED).price("openai", OPENAI, "gpt-4o") == Price(2.5, 10.0, 1.25)


def test_a_dated_snapshot_costs_what_its_model_costs():
    prices = load_prices(SHIPPED)
    assert prices.price("openai", OPENAI, "gpt-4o-2024-08-06") == Price(2.5, 10.0, 1.25)


def test_the_same_name_elsewhere_has_no_price():
    assert load_prices(SHIPPED).price("openai_compat", "http://127.0.0.1:8000/v1", "gpt-4o") is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("prices: {h: {m: {input: -1, output: 1}}}", "prices.h.m.input"),
        ("prices: {h: {m: {input: 1}}}", "prices.h.m.output"),
        ("price: {}", "prices"),
        ("", "p.yaml"),
    ],
)
def test_a_list_with_a_mistake_names_file_and_field(tmp_path, text, says):
    file = tmp_path / "p.yaml"
    file.write_text(text)
    with pytest.raises(InvalidInput, match=says):
        load_prices(file)
