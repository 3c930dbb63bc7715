"""Words by which models tell apart what they think, what they say and which tools they call."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pair:
    begin: str
    end: str  # empty: until the end of the answer


THOUGHT = Pair("<think>", "</think>")

# Each holds JSON: one call, or a list of them. Which one a model was trained to write shows in
# its chat template, which writes earlier calls the same way.
CALLS = (
    Pair("<tool_call>", "</tool_call>"),  # Qwen, Hermes, SmolLM3
    Pair("<|tool_call|>", "<|/tool_call|>"),  # Phi-4
    Pair("[TOOL_CALLS]", ""),  # Mistral
)

ALL = tuple(word for pair in (THOUGHT, *CALLS) for word in (pair.begin, pair.end) if word)


def of_template(template: str) -> Pair | None:
    """How a model writes tool calls; None where its template has no place for tools."""
    if "tools" not in template:
        return None
    return next((pair for pair in CALLS if pair.begin in template), None)
