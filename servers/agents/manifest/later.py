"""What kind Agent may say in later versions, and is refused for in this one.

Whoever builds a feature deletes its line here.
"""

from servers.kernel.later import Later

_NOT_YET = "not part of this version"


def _words(path: str, what: str, use: str, *values: str) -> Later:
    return Later(path, f"{what} {{value!r}} is {_NOT_YET}; {use}", frozenset(values))


_TALK = "spec.memory.conversational"

LATER: tuple[Later, ...] = (
    # spec.model
    Later(
        "spec.model.routing.health_check_interval",
        f"health checks per agent are {_NOT_YET}; set the key on the provider instead",
    ),
    # spec.memory
    _words(f"{_TALK}.backend", "the backend", "use 'sqlite'", "redis", "postgres"),
    _words(f"{_TALK}.strategy", "the strategy", "use 'sliding_window'", "summary", "token_budget"),
    Later(f"{_TALK}.max_tokens", f"the token_budget strategy is {_NOT_YET}; remove the key"),
    Later(f"{_TALK}.summary_threshold", f"the summary strategy is {_NOT_YET}; remove the key"),
    Later(f"{_TALK}.ttl", f"forgetting after a time is {_NOT_YET}; remove the key"),
    Later(f"{_TALK}.connection", "the backend 'sqlite' needs no connection; remove the key"),
    Later("spec.memory.semantic", f"semantic memory is {_NOT_YET}; remove the key"),
    Later("spec.memory.episodic", f"episodic memory is {_NOT_YET}; remove the key"),
    # spec.tools
    Later(
        "spec.tools.*.type",
        f"the tool type {{value!r}} is {_NOT_YET}; use 'internal', or remove the tool",
        frozenset({"mcp", "webhook", "rag", "grpc"}),
        up=1,
    ),
    # the rest of spec
    Later("spec.knowledge", f"knowledge is {_NOT_YET}; remove the key"),
    Later("spec.permissions", f"permissions are {_NOT_YET}; remove the key"),
)
