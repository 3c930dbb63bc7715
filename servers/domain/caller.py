"""On whose behalf something is done."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. Every stored row carries the tenant; nothing is read across tenants."""

    tenant: str = "default"
    principal: str = ""
    request_id: str = ""  # of the transport (x-request-id), for logs only


@dataclass(frozen=True, slots=True)
class Account:
    """On whose account a model is asked: what budgets and usage are kept by. Empty is nobody's."""

    tenant: str = "default"
    principal: str = ""
    agent: str = ""
    session: str = ""
    run: str = ""  # the first run of the tree: what its sub-agents spend is spent by it
