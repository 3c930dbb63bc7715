"""On whose behalf something is done."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. Every stored row carries the tenant; nothing is read across tenants."""

    tenant: str = "default"
    principal: str = ""
    request_id: str = ""  # of the transport (x-request-id), for logs only
