"""What goes over the wire comes back as it was."""

from array import array

import pytest

from servers.domain.caller import Account, Caller
from servers.domain.chat import (
    ChatRequest,
    Completion,
    Finish,
    FinishReason,
    Image,
    Message,
    ModelRef,
    ModelUsage,
    Notice,
    ReasoningPiece,
    Role,
    Sampling,
    Text,
    TextPiece,
    ToolCall,
    ToolSpec,
    Usage,
    says,
)
from servers.domain.embeddings import (
    CountRequest,
    Embeddings,
    EmbedRequest,
    Purpose,
    Ranked,
    Ranking,
    RerankRequest,
    TokenCount,
)
from servers.domain.models import (
    BreakerInfo,
    BreakerState,
    Capabilities,
    ModelInfo,
    ProviderInfo,
)
from servers.domain.usage import BudgetAction, BudgetState, UsageQuery, UsageRow, Window
from servers.kernel.errors import InvalidInput
from servers.router.convert import chats as convert
from servers.router.convert import providers as convert_providers
from servers.router.convert import spending as convert_spending
from servers.router.convert import texts as convert_texts

CALL = ToolCall("c1", "add", '{"a": 1')
FINISH = Finish(
    FinishReason.TOOL_CALLS,
    (CALL,),
    Usage(9, 3, 4, 0.25, True),
    "p",
    "m",
    (ModelUsage("q", "n", 1, Usage(2, 0, 0, 0.5, True)),),
    True,
    True,
    (Notice("BUDGET_WARNING", "spent"),),
)
REQUEST = ChatRequest(
    (
        says(Role.SYSTEM, "be kind"),
        Message(Role.USER, (Text("what is it?"), Image(data=b"x", media_type="image/png"))),
        Message(Role.ASSISTANT, tool_calls=(CALL,), reasoning="hm"),
        Message(Role.TOOL, (Text("4"),), tool_call_id="c1"),
    ),
    (
        ModelRef("p", "m", "http://e", "KEY", "key", 2.5, 4096, Sampling(0.5, stop=("x",))),
        ModelRef("q"),
    ),
    "in_order",
    (ToolSpec("add", "Adds.", {"type": "object", "properties": {"a": {"type": "integer"}}}),),
    Sampling(0.0, 1.0, 10, ("END",), 7, {"top_k": 3, "deep": {"list": [1, "a", None, True]}}),
    {"type": "object", "required": ["x"]},
    True,
    30.0,
    Account("acme", "ada", "helper", "s-1", "r-1"),
)
CALLER = Caller("acme", "ada")
BREAKER = BreakerInfo("p", "m", "http://e", BreakerState.OPEN, 3, 12.5, True)


@pytest.mark.parametrize("to", [convert.complete_to, convert.stream_to])
def test_a_request_comes_back_as_it_was(to):
    assert convert.request_from(to(REQUEST), CALLER) == REQUEST


def test_a_completion_comes_back_as_it_was():
    completion = Completion(Message(Role.ASSISTANT, (Text("hi"),), (CALL,)), FINISH)
    assert convert.completion_from(convert.completion_to(completion)) == completion


@pytest.mark.parametrize("step", [TextPiece("a"), TextPiece(""), ReasoningPiece("b"), FINISH])
def test_a_step_comes_back_as_it_was(step):
    assert convert.step_from(convert.step_to(step)) == step


def test_an_unknown_cost_stays_unknown():
    finish = Finish(usage=Usage(1, 1))
    assert convert.step_from(convert.step_to(finish)).usage.cost_usd is None


def test_models_come_back_as_they_were():
    models = [
        ModelInfo("p", "m", Capabilities(True, False, None, True, 8192), 0.0, 1.5),
        ModelInfo(
            "q", "n", Capabilities(emulated_tools=True), 1.0, 2.0, 0.5, 3, frozenset({"embed"})
        ),
    ]
    assert convert_providers.models_from(convert_providers.models_to(models)) == models


def test_providers_come_back_as_they_were():
    providers = [
        ProviderInfo("p", "ollama", "http://e", False, "down", 0.5, 0.1, 3, 1, ("m",), (BREAKER,)),
        ProviderInfo("q", "local", "", None),
    ]
    assert convert_providers.providers_from(convert_providers.providers_to(providers)) == providers


def test_breakers_come_back_as_they_were():
    assert convert_providers.breakers_from(convert_providers.breakers_to([BREAKER])) == [BREAKER]


@pytest.mark.parametrize("length", [0, 1, 31, 32, 1536])  # the head of a message grows with it
def test_a_vector_is_the_same_to_the_last_bit(length):
    vectors = tuple(array("f", (n / 7 - at for n in range(length))) for at in range(3))
    wire = convert_texts.embeddings_to(Embeddings(vectors, Usage(), "p", "m"))
    assert [list(each.values) for each in wire.embeddings] == [list(each) for each in vectors]
    assert convert_texts.embeddings_from(wire).vectors == vectors


def test_a_state_that_is_not_said_is_refused():
    with pytest.raises(InvalidInput, match="state"):
        convert_providers.state_from(0)


TEXTS = [
    (
        convert_texts.embed_to,
        lambda wire: convert_texts.embed_from(wire, CALLER),
        EmbedRequest(("a", "b"), (ModelRef("p", "m"),), Purpose.QUERY, 256, REQUEST.account),
    ),
    (
        convert_texts.embeddings_to,
        convert_texts.embeddings_from,
        Embeddings((array("f", [0.6, 0.8]), array("f", [1.0, 0.0])), Usage(4), "p", "m"),
    ),
    (
        convert_texts.rerank_to,
        lambda wire: convert_texts.rerank_from(wire, CALLER),
        RerankRequest("q", ("a", "b"), (ModelRef("p", "m"),), 1, REQUEST.account),
    ),
    (
        convert_texts.ranking_to,
        convert_texts.ranking_from,
        Ranking((Ranked(1, 0.9), Ranked(0, -3.5)), Usage(4), "p", "m"),
    ),
    (
        convert_texts.count_to,
        convert_texts.count_from,
        CountRequest(ModelRef("p", "m"), (says(Role.USER, "hi"),), REQUEST.tools),
    ),
    (
        convert_texts.token_count_to,
        convert_texts.token_count_from,
        TokenCount(7, True, "o200k_base", "p", "m"),
    ),
    (
        convert_spending.query_to,
        lambda wire: convert_spending.query_from(wire, "acme"),
        UsageQuery(1.5, 9.0, {"tenant": "acme", "agent": "a", "run": "r"}, ("model", "day")),
    ),
    (
        convert_spending.usage_rows_to,
        convert_spending.usage_rows_from,
        [UsageRow({"model": "m"}, 3, Usage(9, 4, 2, 0.5), 1)],
    ),
    (
        convert_spending.budgets_to,
        convert_spending.budgets_from,
        [
            BudgetState(
                "b",
                {"session": "s"},
                Window.DAY,
                BudgetAction.HARD,
                86400.0,
                172800.0,
                *(5.0, 1.0, 0.5),
                *(None, 40, 2),
            )
        ],
    ),
]


@pytest.mark.parametrize(("to", "back", "value"), TEXTS, ids=lambda v: type(v).__name__)
def test_what_else_is_asked_and_answered_comes_back_as_it_was(to, back, value):
    assert back(to(value)) == value
