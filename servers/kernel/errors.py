"""Everything that can go wrong, named for the caller rather than for the cause.

Domain code raises these. It never imports grpc: `servers.kernel.status` is the one
place that knows how each looks on the wire.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """One wrong field: where it is ("spec.model.primary.provider") and what is wrong with it."""

    field: str
    description: str


class AstromeshError(Exception):
    """Base of all expected failures. Raise a subclass.

    `reason` is what programs branch on (UPPER_SNAKE); `facts` are sent to the caller
    as they are, so never put a secret there.
    """

    reason = "UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        retry_after: float | None = None,
        violations: tuple[Violation, ...] = (),
        **facts: str,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or type(self).reason
        self.retry_after = retry_after  # seconds
        self.violations = violations
        self.facts = facts


class InvalidInput(AstromeshError):
    """The request is wrong whatever state we are in."""

    reason = "INVALID_INPUT"


class NotFound(AstromeshError):
    """The named thing does not exist."""

    reason = "NOT_FOUND"


class AlreadyExists(AstromeshError):
    """The name or request id is taken by something else."""

    reason = "ALREADY_EXISTS"


class NotReady(AstromeshError):
    """The request is fine, the system's state is not. Retrying unchanged won't help."""

    reason = "NOT_READY"


class Conflict(AstromeshError):
    """Somebody else was faster: read again, then retry."""

    reason = "CONFLICT"


class Denied(AstromeshError):
    """The caller, or a policy, does not allow this."""

    reason = "DENIED"


class Exhausted(AstromeshError):
    """A quota, a budget or a bound on concurrent work is used up."""

    reason = "EXHAUSTED"


class Unavailable(AstromeshError):
    """Nothing can answer now. The same request may succeed later."""

    reason = "UNAVAILABLE"


class Interrupted(AstromeshError):
    """A stream broke after its first piece: what was shown is not the whole answer."""

    reason = "INTERRUPTED"


class OutOfTime(AstromeshError):
    """The deadline passed."""

    reason = "DEADLINE_EXCEEDED"


class DataLost(AstromeshError):
    """What was stored can't be used: it is damaged, or doesn't fit what is replayed on it."""

    reason = "DATA_LOST"


class Internal(AstromeshError):
    """A bug of ours. The log has the traceback; the caller only learns that it happened."""

    reason = "INTERNAL"
