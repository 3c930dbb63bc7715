"""What a servicer may ask about the call it serves: who calls, and how long it may take."""

from typing import Any, TypeAlias

import grpc

from servers.domain.caller import Caller
from servers.kernel.telemetry import outgoing_headers

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

TENANT = "x-astromesh-tenant"  # put in by Envoy once it has verified the caller
PRINCIPAL = "x-astromesh-principal"
REQUEST_ID = "x-request-id"


def caller_from(context: Context) -> Caller:
    """On whose behalf the call is made; nobody in particular where nothing is said."""
    tenant, principal, request_id = "", "", ""
    for key, value in context.invocation_metadata() or ():
        if key == TENANT:
            tenant = str(value)
        elif key == PRINCIPAL:
            principal = str(value)
        elif key == REQUEST_ID:
            request_id = str(value)
    return Caller(tenant or "default", principal, request_id)


def deadline_from(context: Context) -> float | None:
    """Seconds until the caller gives up; None where it did not say."""
    return context.time_remaining()


def metadata_of(caller: Caller) -> list[tuple[str, str]]:
    """What a call to a sibling carries along: on whose behalf, and in which trace."""
    carried = [(TENANT, caller.tenant), (PRINCIPAL, caller.principal)]
    carried.append((REQUEST_ID, caller.request_id))
    return [(key, value) for key, value in (*carried, *outgoing_headers().items()) if value]
