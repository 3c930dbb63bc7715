"""docs/configuration.md knows every key of every manifest, and the defaults it gives are true."""

import re
from importlib import import_module

import pytest
import typer.main
import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from servers.agents.catalogue.declare import Declaring
from servers.agents.manifest.agent import Agent, AgentSpec
from servers.agents.manifest.guardrails import RULES
from servers.cli.app import app
from servers.config.runtime import RuntimeConfig, RuntimeSpec
from servers.kernel.manifest import Manifest, parse
from servers.kernel.yaml_text import read_yaml
from servers.rag.manifest import PipelineSpec, RAGPipeline
from servers.router.kinds import PROVIDERS
from servers.router.manifest.budgets import Budget, BudgetSpec
from servers.router.manifest.providers import ProviderConfig, ProviderSpec
from servers.router.routing.prices import load_prices
from servers.tools.adapters.builtin import function_tools
from servers.tools.threads import Threads
from tests.docs.blocks import blocks_of
from tests.docs.tour import ROOT

PAGE = ROOT / "docs" / "configuration.md"
TEXT = PAGE.read_text()
TABLES = dict(re.findall(r"<!-- (servers\.\S+) -->\n((?:\|.*\n)+)", TEXT))
ENVELOPE = {"api_version", "kind", "metadata", "spec"}
# Wholly refused, so that one line in a table is enough for each.
REFUSED = {
    "Permissions",
    "Connection",
    "Embeddings",
}
KINDS = {
    "Agent": Agent,
    "Budget": Budget,
    "ProviderConfig": ProviderConfig,
    "RAGPipeline": RAGPipeline,
    "RuntimeConfig": RuntimeConfig,
}


def models_in(annotation):
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from models_in(inner)


def models_below(model, seen):
    if model not in seen:
        seen.add(model)
        for field in model.model_fields.values():
            for inner in models_in(field.annotation):
                models_below(inner, seen)
    return seen


ALL = sorted(
    {
        model
        for spec in (AgentSpec, BudgetSpec, PipelineSpec, ProviderSpec, RuntimeSpec)
        for model in models_below(spec, set())
    }
    | {options for options, _ in RULES.values()},
    key=lambda model: model.__name__,
)
DESCRIBED = [model for model in ALL if model.__name__ not in REFUSED]


def table_of(model):
    rows = {}
    for line in TABLES[f"{model.__module__}:{model.__name__}"].splitlines()[2:]:
        keys, default, _ = (cell.strip() for cell in line.split("|", 3)[1:])
        rows |= dict.fromkeys(re.findall(r"`(\w+)`", keys), default)
    return rows


def test_every_table_is_of_something_that_exists():
    for name in TABLES:
        module, model = name.split(":")
        assert hasattr(import_module(module), model)


@pytest.mark.parametrize("model", DESCRIBED, ids=lambda model: model.__name__)
def test_its_table_has_every_key_and_no_other(model):
    assert set(table_of(model)) == set(model.model_fields)


@pytest.mark.parametrize("model", DESCRIBED, ids=lambda model: model.__name__)
def test_its_defaults_are_true(model):
    rows = table_of(model)
    for key, field in model.model_fields.items():
        if field.default is PydanticUndefined:
            assert rows[key] == "required", key
        elif isinstance(field.default, bool | int | float | str) and field.default != "":
            written = yaml.safe_dump(field.default).splitlines()[0].removesuffix(".0")
            assert rows[key] == f"`{written}`", key


@pytest.mark.parametrize(
    "model", [m for m in ALL if m.__name__ in REFUSED], ids=lambda m: m.__name__
)
def test_what_is_refused_is_named(model):
    assert [key for key in model.model_fields if f"`{key}`" not in TEXT] == []


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_word_that_is_refused_is_in_the_table(kind: type[Manifest]):
    for line in kind.later:
        words = [line.path.rpartition(".")[2], *(w for w in line.values or () if w is not True)]
        assert [word for word in words if word != "*" and f"`{word}`" not in TEXT] == []


def test_every_type_of_provider_is_in_the_table():
    assert [name for name in PROVIDERS if f"| `{name}` |" not in TEXT] == []


def test_every_option_of_up_is_named():
    up = typer.main.get_command(app).commands["up"]
    options = [p for p in up.params if p.name != "help"]
    assert options
    for option in options:
        assert any(f"`{name}`" in TEXT for name in (*option.opts, *option.secondary_opts))
        assert option.envvar is None or f"`{option.envvar}`" in TEXT


GUIDES = ("configuration.md", "budgets.md", "patterns.md", "guardrails.md", "rag.md")
EXAMPLES = [
    block
    for page in map(PAGE.with_name, GUIDES)
    for block in blocks_of(page)
    if block.language == "yaml"
]


@pytest.mark.parametrize("block", EXAMPLES, ids=lambda block: block.name)
def test_its_examples_are_valid(block, tmp_path):
    (document,) = read_yaml(block.text, "")
    if document.value.get("kind") == "Agent":
        Declaring().from_file(document)
    elif "kind" in document.value:
        parse(KINDS[document.value["kind"]], document, {})
    else:
        (tmp_path / "prices.yaml").write_text(block.text)
        assert load_prices(tmp_path / "prices.yaml").hosts


async def test_its_function_is_a_tool():
    (block,) = [block for block in blocks_of(PAGE) if block.language == "python"]
    names = {}
    exec(block.text, names)
    (made,) = function_tools({"in_stock": names["in_stock"]}, Threads(limit=1))
    assert made.tool.spec.description == "How many pieces of an article are in stock."
    assert made.tool.spec.parameters["properties"]["article"]["description"]


def test_every_type_of_guardrail_is_told_of():
    guide = PAGE.with_name("guardrails.md").read_text()
    assert [name for name in RULES if f"| `{name}` |" not in guide] == []
