"""What a call holds between its begin and its end. Satisfies `ports.Reservation`."""

from dataclasses import dataclass, replace

from servers.domain.chat import Notice, Usage
from servers.kernel import telemetry
from servers.router.budgets.amounts import NOTHING, used
from servers.router.budgets.journal import Journal
from servers.router.budgets.ledger import Hold, Ledger
from servers.router.budgets.records import Entry


@dataclass(slots=True)
class Reserving:
    """`begun` is the entry of the call as far as it is known when it begins."""

    begun: Entry
    ledger: Ledger
    journal: Journal
    hold: Hold | None = None  # None: no budget counts it
    notices: tuple[Notice, ...] = ()
    _ended: bool = False

    async def settle(self, usage: Usage, operation: str, outcome: str = "ok") -> None:
        self._end()
        entry = replace(self.begun, operation=operation, outcome=outcome, usage=usage)
        self.journal.note(entry)  # before anything waits: a cancelled call was paid for, too
        _measure(entry)
        if self.hold is None:
            return
        await self.ledger.settle(self.hold, used(usage))
        if not self.ledger.lasting and any(claim.budget.hard for claim in self.hold.claims):
            await self.journal.on_disk()

    async def release(self) -> None:
        self._end()
        if self.hold is not None:
            await self.ledger.settle(self.hold, NOTHING)

    def _end(self) -> None:
        if self._ended:
            raise RuntimeError("a reservation is settled or released once; this one has been")
        self._ended = True


def _measure(entry: Entry) -> None:
    if entry.usage.cost_usd is not None and telemetry.counting():
        seen: dict[str, telemetry.Attribute] = {
            telemetry.OPERATION: entry.operation,
            telemetry.PROVIDER: entry.provider,
            telemetry.MODEL: entry.model,
        }
        telemetry.record(telemetry.COST, entry.usage.cost_usd, seen)
