"""Tells addresses of the ends of runs: signed, again until it is heard, at least once.

In the form of https://www.standardwebhooks.com, which has libraries that check it in every
language: the headers `webhook-id` (the run's id, the same each time), `webhook-timestamp` and
`webhook-signature`. What is to be told lies in the store with the end of the run, so that no
crash loses it.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from urllib.parse import urlsplit

import httpx
import structlog
from standardwebhooks import Webhook

from servers.agents.ports import Outbox
from servers.domain.chat import Json
from servers.domain.runs import Run
from servers.kernel.errors import AstromeshError, Denied, InvalidInput, NotReady, Violation

_log = structlog.stdlib.get_logger("astromesh.webhooks")

# Seconds before it is tried again: about three days in all.
PAUSES = (5.0, 30.0, 120.0, 600.0, 3600.0, 4 * 3600.0, 12 * 3600.0, 24 * 3600.0, 24 * 3600.0)
_ANSWER = 15.0  # seconds that a receiver has
_LEASE = 60.0  # seconds in which nobody else tries
_AT_ONCE = 20
_LOOK = 1.0  # seconds
_LONGEST = 2048  # characters of an address


@dataclass(frozen=True, slots=True)
class Policy:
    """Where webhooks may go. Without a secret nowhere: nobody could tell who sends them."""

    secret: str = ""
    plain: frozenset[str] = frozenset()  # hosts that may be told over plain HTTP
    pauses: tuple[float, ...] = PAUSES  # seconds before each further try; then it is given up

    def check(self, url: str) -> None:
        """Raises what is wrong with an address that a caller gave."""
        if not url:
            return
        parts = _split(url)
        if not self.secret:
            raise NotReady(
                "webhooks are signed, and there is no secret: set spec.webhooks.secret in "
                "runtime.yaml",
                reason="WEBHOOKS_OFF",
            )
        host = parts.host.lower().rstrip(".")
        if parts.scheme == "http" and not {host, f"{host}:{parts.port or 80}"} & self.plain:
            raise Denied(
                f"a webhook to {host!r} must use https, or spec.webhooks.allowed_hosts in "
                "runtime.yaml name the host",
                reason="ADDRESS_DENIED",
                host=host,
            )


NO_WEBHOOKS = Policy()


def _split(url: str) -> httpx.URL:
    wrong = "an address such as https://example.com/hook, without a password"
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
        if fine and len(url) <= _LONGEST and url.isprintable():
            return httpx.URL(url)
    except (ValueError, httpx.InvalidURL):
        pass
    raise InvalidInput(
        f"webhook: {wrong}",
        reason="INVALID_REQUEST",
        violations=(Violation("webhook", wrong),),
    )


class Webhooks:
    """Delivers what is in the outbox, as long as it is awaited."""

    def __init__(
        self,
        outbox: Outbox,
        client: httpx.AsyncClient,
        policy: Policy,
        encode: Callable[[Run], Json],
        now: Callable[[], float],
    ) -> None:
        self._outbox = outbox
        self._client = client
        self._signer = Webhook(policy.secret)
        self._pauses = policy.pauses
        self._encode = encode
        self._now = now

    async def deliver(self) -> None:
        """For ever. Whatever goes wrong is tried again later."""
        while True:
            pause = _LOOK
            try:
                due = await self._outbox.undelivered(_AT_ONCE, _LEASE)
                pauses = await asyncio.gather(*(self._tell(run, tries) for run, tries in due))
                pause = min(_LOOK, *pauses)
            except AstromeshError as error:
                _log.warning("webhooks wait for the store", error=error.message)
                due = ()
            except Exception as error:
                _log.exception("webhooks broke", error=repr(error))
                due = ()
            if len(due) < _AT_ONCE:
                await asyncio.sleep(pause)

    async def _tell(self, run: Run, tries: int) -> float:
        """Seconds until it is to be told again."""
        heard = await self._sent(run)
        if heard is True:
            await self._outbox.delivered(run.id)
            return inf
        pause = inf if heard is None or tries >= len(self._pauses) else self._pauses[tries]
        _log.warning("webhook not heard", run_id=run.id, tries=tries + 1, again_in=pause)
        await self._outbox.try_again(run.id, pause)
        return pause

    async def _sent(self, run: Run) -> bool | None:
        """Whether the receiver has it; None where he never wants to hear of it again."""
        time = datetime.fromtimestamp(self._now(), UTC)
        event = {
            "type": "run.ended",
            "timestamp": time.isoformat(),
            "data": self._encode(run),
        }
        body = json.dumps(event, separators=(",", ":"))
        headers = {
            "content-type": "application/json",
            "webhook-id": run.id,
            "webhook-timestamp": str(int(time.timestamp())),
            "webhook-signature": self._signer.sign(run.id, time, body),
        }
        try:
            async with (
                asyncio.timeout(_ANSWER),
                self._client.stream("POST", run.webhook, content=body, headers=headers) as answer,
            ):
                if answer.status_code == httpx.codes.GONE:
                    return None
                return answer.is_success
        except (httpx.HTTPError, TimeoutError, AstromeshError) as error:
            _log.info("webhook failed", run_id=run.id, error=repr(error))
            return False
