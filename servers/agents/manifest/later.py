"""What kind Agent may say in later versions, and is refused for in this one.

Whoever builds a feature deletes its line here.
"""

from servers.kernel.later import Later

_NOT_YET = "not part of this version"


LATER: tuple[Later, ...] = (
    # spec.model
    Later(
        "spec.model.routing.health_check_interval",
        f"health checks per agent are {_NOT_YET}; set the key on the provider instead",
    ),
    # spec.memory
    # spec.tools
    Later(
        "spec.tools.*.type",
        f"the tool type {{value!r}} is {_NOT_YET}; use 'internal', or remove the tool",
        frozenset({"mcp", "webhook", "grpc"}),
        up=1,
    ),
    # the rest of spec
    Later("spec.permissions", f"permissions are {_NOT_YET}; remove the key"),
)
