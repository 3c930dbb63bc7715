"""spec.orchestration: how an agent reasons."""

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, field_validator

from servers.kernel.explain import nearest
from servers.kernel.fields import Count, Seconds, ToolName, Whole
from servers.kernel.manifest import Strict
from servers.kernel.paths import Wrong

# Keys that mean something to some patterns only.
_OF_PATTERNS = {
    "stages": ("pipeline",),
    "stage_prompts": ("pipeline",),
    "max_parallel": ("plan_and_execute", "parallel_fan_out"),
    "max_replans": ("plan_and_execute",),
    "max_handoffs": ("swarm",),
}
_PLACE = ("spec", "orchestration")


class Orchestration(Strict):
    """How an agent reasons."""

    pattern: Literal[
        "react", "plan_and_execute", "parallel_fan_out", "pipeline", "supervisor", "swarm"
    ] = "react"
    max_iterations: Annotated[Count, Field(le=100)] = 10
    timeout_seconds: Seconds = 300.0
    stages: tuple[ToolName, ...] = ("analyze", "process", "synthesize")
    stage_prompts: dict[str, str] = {}  # noqa: RUF012  # pydantic copies defaults
    max_parallel: Annotated[Count, Field(le=100)] = 4
    max_replans: Annotated[Whole, Field(ge=0, le=10)] = 0
    max_handoffs: Annotated[Count, Field(le=100)] = 3
    role_map: dict[str, str] = {}  # noqa: RUF012
    max_tool_result_tokens: Count | None = None

    @field_validator("stages")
    @classmethod
    def _are_stages(cls, stages: tuple[str, ...]) -> tuple[str, ...]:
        if not stages:
            raise ValueError("is empty; name a stage at least, or remove the key")
        twice = [name for name, n in Counter(stages).items() if n > 1]
        if twice:
            raise ValueError(f"the stage {twice[0]!r} is listed twice")
        return stages


def wrong_orchestration(orchestration: Orchestration) -> Iterator[Wrong]:
    """What its keys have against one another."""
    said, pattern = orchestration.model_fields_set, orchestration.pattern
    for key, patterns in _OF_PATTERNS.items():
        if key in said and pattern not in patterns:
            others = " or ".join(patterns)
            says = f"means nothing to the pattern {pattern!r}; set pattern: {others}, or remove it"
            yield Wrong((*_PLACE, key), says)
    for name in orchestration.stage_prompts:
        if name not in orchestration.stages:
            says = f"there is no stage {name!r}{nearest(name, list(orchestration.stages))}"
            yield Wrong((*_PLACE, "stage_prompts", name), says)
