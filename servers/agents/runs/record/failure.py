"""Errors as values and back: a failed run is stored with its error, and raises it again."""

from servers.domain.runs import Failure
from servers.kernel import errors
from servers.kernel.errors import AstromeshError, Violation

_KINDS = {
    kind.__name__: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, AstromeshError)
}


def failure_of(error: AstromeshError) -> Failure:
    return Failure(
        type(error).__name__,
        error.message,
        error.reason,
        error.retry_after,
        dict(error.facts),
        tuple((each.field, each.description) for each in error.violations),
    )


def error_of(failure: Failure, **facts: str) -> AstromeshError:
    """The error that a run failed with. `facts` are added: which run it was."""
    return _KINDS.get(failure.code, errors.Internal)(
        failure.message,
        reason=failure.reason,
        retry_after=failure.retry_after,
        violations=tuple(Violation(*each) for each in failure.violations),
        **{**failure.facts, **facts},
    )
