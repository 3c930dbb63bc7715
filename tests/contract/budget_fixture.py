"""What the tests of budgets share: books whose counters are in this process, or in Redis."""

import uuid

import pytest

from servers.domain.caller import Account
from servers.domain.usage import BudgetState
from servers.router.ports import Cost
from tests.contract.spending_fixture import ANYBODY, NOON, books, used

MIDNIGHT = NOON + 12 * 3600


@pytest.fixture(params=["in_process", "in_redis"])
def opened(request, tmp_path, redis):
    """Opens the books with the budgets that are named."""
    prefix = uuid.uuid4().hex
    url = redis.url if request.param == "in_redis" else ""

    def open_(*budgets, **more):
        return books(tmp_path, *budgets, redis=url, prefix=prefix, **more)

    return open_


async def spend(kept, most: Cost, account: Account = ANYBODY, model: str = "m", **real):
    """One call, with everything it may use used."""
    reservation = await kept.reserve(account, "company", model, most)
    spent = used(**real) if real else used(most.tokens, most.usd)
    await reservation.settle(spent, "chat")
    return reservation


async def one(kept, name: str = "") -> BudgetState:
    (state,) = await kept.budgets("acme", name)
    return state
