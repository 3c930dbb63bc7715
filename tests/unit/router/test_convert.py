"""What goes over the wire comes back as it was."""

import pytest

from servers.domain.chat import (
    ChatRequest,
    Completion,
    Finish,
    FinishReason,
    Image,
    Message,
    ModelRef,
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
from servers.domain.models import (
    BreakerInfo,
    BreakerState,
    Capabilities,
    ModelInfo,
    ProviderInfo,
)
from servers.kernel.errors import InvalidInput
from servers.router import convert

CALL = ToolCall("c1", "add", '{"a": 1')
FINISH = Finish(FinishReason.TOOL_CALLS, (CALL,), Usage(9, 3, 4, 0.25, True), "p", "m")
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
)
BREAKER = BreakerInfo("p", "m", "http://e", BreakerState.OPEN, 3, 12.5, True)


@pytest.mark.parametrize("to", [convert.complete_to, convert.stream_to])
def test_a_request_comes_back_as_it_was(to):
    assert convert.request_from(to(REQUEST)) == REQUEST


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
        ModelInfo("q", "n", Capabilities()),
    ]
    assert convert.models_from(convert.models_to(models)) == models


def test_providers_come_back_as_they_were():
    providers = [
        ProviderInfo("p", "ollama", "http://e", False, "down", 0.5, ("m",), (BREAKER,)),
        ProviderInfo("q", "local", "", None),
    ]
    assert convert.providers_from(convert.providers_to(providers)) == providers


def test_breakers_come_back_as_they_were():
    assert convert.breakers_from(convert.breakers_to([BREAKER])) == [BREAKER]


def test_a_state_that_is_not_said_is_refused():
    with pytest.raises(InvalidInput, match="state"):
        convert.state_from(0)
