"""What is logged and counted of every run that has ended."""

import structlog

from servers.domain.runs import Run
from servers.kernel import telemetry

_log = structlog.stdlib.get_logger("astromesh.runs")


def measured(run: Run, tokens: int) -> None:
    _log.info(
        "run",
        state=run.state.value,
        ms=round(((run.ended_at or 0.0) - run.created_at) * 1000, 1),
        iterations=run.iterations,
        tokens=tokens,
    )
    if telemetry.counting():
        seconds = (run.ended_at or 0.0) - (run.started_at or run.created_at)
        attributes = {telemetry.AGENT: run.agent, "astromesh.run.state": run.state.value}
        telemetry.record(telemetry.AGENT_DURATION, seconds, attributes)
