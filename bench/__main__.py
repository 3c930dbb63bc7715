"""Runs benchmarks by name: `python -m bench [NAME...]`, all the quick ones by default."""

import argparse
import importlib

QUICK = (
    "agent_runs",
    "first_token",
    "router_overhead",
    "stages",
    "memory_growth",
    "memory",
    "embeddings",
    "guardrails",
)
SLOW = ("failover", "rag")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(QUICK + SLOW))
    names = parser.parse_args().names or QUICK
    if unknown := set(names) - {*QUICK, *SLOW}:
        parser.error(f"no benchmark {sorted(unknown)[0]!r}; there are {', '.join(QUICK + SLOW)}")
    for name in names:
        importlib.import_module(f"bench.{name}").main([])


if __name__ == "__main__":
    main()
