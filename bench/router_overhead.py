"""What a call costs more through the router than without it, next to LiteLLM's Router.

    python -m bench.router_overhead [--quick] [--rounds 3] [--seconds 2] [--callers 1 16 64]

The same instant model is asked directly, through our router, through LiteLLM's, and through
RouterService of a started mesh. Each but the last is one process on uvloop with the same load
in it, and each call's answer is compared with its question. A round goes once through all of
them; what a router adds is taken against the direct call of the same round.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.progress import track

from bench import litellm_package
from bench.callers import Result
from bench.mesh import mesh, write_config
from bench.processes import instant_model
from bench.report import Spread, console, table, write
from bench.subject_process import Subject, subject
from bench.subjects import Setup

DIRECT, OURS, THEIRS, DOOR = "direct", "our router", "LiteLLM Router", "RouterService"
GOAL = 1 / 5  # of what LiteLLM adds
PIECES = 20  # of a streamed answer
COLUMNS = (
    *("", "callers", "p50 ms", "p99 ms", "µs CPU/call"),
    *("added p50 ms", "added p99 ms", "added µs CPU"),
)


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one call: latencies in milliseconds, CPU of the subject in microseconds."""

    p50: float
    p99: float
    cpu: float
    others: float = 0.0  # cores that something else on this machine used meanwhile

    def __sub__(self, other: "Cost") -> "Cost":
        return Cost(self.p50 - other.p50, self.p99 - other.p99, self.cpu - other.cpu)


@dataclass(frozen=True, slots=True)
class Case:
    stream: bool
    callers: int

    def __str__(self) -> str:
        return f"{'streamed' if self.stream else 'whole'}, {self.callers} callers"


Round = dict[str, Cost]  # by subject


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.router_overhead", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--quick", action="store_true", help="2 rounds of 1 second")
    options = parser.parse_args(arguments)
    if options.quick:
        options.rounds, options.seconds = 2, 1.0
    with tempfile.TemporaryDirectory() as folder:
        rounds = asyncio.run(_measured(Path(folder), options))
    _tell(rounds, options)


async def _measured(folder: Path, options: argparse.Namespace) -> dict[Case, list[Round]]:
    cases = [Case(stream, callers) for stream in (False, True) for callers in options.callers]
    with ExitStack() as servers:
        port, model = servers.enter_context(instant_model(folder, PIECES))
        ours = servers.enter_context(mesh(write_config(folder, port), folder))
        async with AsyncExitStack() as stack:
            setup = Setup(port, door=ours.grpc_port)
            started = await _started(stack, setup, folder)
            door = await stack.enter_async_context(subject(DOOR, "grpc_door", setup, folder))
            for each in (*started, door):  # warm up: imports, caches, connections
                await each.load(16, 1.0)
            watched = {"model": model.pid, "server": ours.pid}
            rounds: dict[Case, list[Round]] = {}
            work = [case for case in cases for _ in range(options.rounds)]
            for case in track(work, "router overhead", console=console):
                through = started if case.stream else [*started, door]
                found = {each.name: await _cost(each, case, options, watched) for each in through}
                rounds.setdefault(case, []).append(found)
            return rounds


async def _started(stack: AsyncExitStack, setup: Setup, folder: Path) -> list[Subject]:
    wanted = [subject(DIRECT, "direct", setup, folder), subject(OURS, "ours", setup, folder)]
    if python := litellm_package.installed():
        wanted.append(subject(THEIRS, "litellm_router", setup, folder, python))
    else:
        console.print(litellm_package.SKIPPED)
    return [await stack.enter_async_context(each) for each in wanted]


async def _cost(
    each: Subject, case: Case, options: argparse.Namespace, watched: dict[str, int]
) -> Cost:
    done = await each.load(
        case.callers,
        options.seconds,
        stream=case.stream,
        least=2 * case.callers,
        watched=watched,
    )
    model, server = _used(done, "model/"), _used(done, "server/")
    mine = server if each.name == DOOR else done.cpu["client"]
    others = done.cpu["machine"] - done.cpu["client"] - model - server
    return Cost(done.p50, done.p99, mine / done.requests * 1e6, max(others, 0.0) / done.seconds)


def _used(done: Result, prefix: str) -> float:
    """Seconds of CPU of a watched process and its children."""
    return sum(cpu for name, cpu in done.cpu.items() if name.startswith(prefix))


def _tell(rounds: dict[Case, list[Round]], options: argparse.Namespace) -> None:
    for stream in {case.stream: None for case in rounds}:
        kind = f"streamed in {PIECES} pieces" if stream else "whole"
        rows = [
            _row(name, case, found)
            for case, found in rounds.items()
            if case.stream is stream
            for name in found[0]
        ]
        table(f"a call of the router, answer {kind}: median and range of the rounds", COLUMNS, rows)
    console.print(
        "added: over the direct call of the same round. µs CPU: of the process that has the\n"
        f"router, the load included, which the direct call has as well; {DOOR}: of the mesh\n"
        "alone, so nothing is taken off."
    )
    others = Spread.of(
        [cost.others for found in rounds.values() for r in found for cost in r.values()]
    )
    console.print(f"Cores used by all else on this machine: {others.told(2)}.", highlight=False)
    ratios = {case: _ratio(found) for case, found in rounds.items() if THEIRS in found[0]}
    _tell_ratios(ratios)
    write(
        "router_overhead",
        {
            "options": vars(options),
            "rounds": {str(case): found for case, found in rounds.items()},
            "added, ours over LiteLLM's": {
                str(case): {name: asdict(spread) for name, spread in ratio.items()}
                for case, ratio in ratios.items()
            },
        },
    )


def _row(name: str, case: Case, rounds: list[Round]) -> tuple[str, ...]:
    costs = [each[name] for each in rounds]
    added = [each[name] - each[DIRECT] for each in rounds]
    shown = [
        Spread.of([each.p50 for each in costs]).told(2),
        Spread.of([each.p99 for each in costs]).told(2),
        Spread.of([each.cpu for each in costs]).told(),
        Spread.of([each.p50 for each in added]).told(2),
        Spread.of([each.p99 for each in added]).told(2),
        Spread.of([each.cpu for each in added]).told(),
    ]
    if name == DIRECT:
        shown[3:] = ("", "", "")
    elif name == DOOR:
        shown[5] = ""
    return (name, str(case.callers), *shown)


def _ratio(rounds: list[Round]) -> dict[str, Spread]:
    """What ours adds over what LiteLLM's adds, round by round."""
    pairs = [(each[OURS] - each[DIRECT], each[THEIRS] - each[DIRECT]) for each in rounds]
    return {
        "p50": Spread.of([ours.p50 / theirs.p50 for ours, theirs in pairs]),
        "p99": Spread.of([ours.p99 / theirs.p99 for ours, theirs in pairs]),
        "cpu": Spread.of([ours.cpu / theirs.cpu for ours, theirs in pairs]),
    }


def _tell_ratios(ratios: dict[Case, dict[str, Spread]]) -> None:
    if not ratios:
        return
    rows = [
        (str(case), *(ratio[name].told(3) for name in ("p50", "p99", "cpu")))
        for case, ratio in ratios.items()
    ]
    columns = ("", "of its added p50", "of its added p99", "of its added CPU")
    table(f"what our router adds, as a share of what LiteLLM's adds (goal {GOAL})", columns, rows)


if __name__ == "__main__":
    main()
