"""The tools every mesh has, and how functions become tools."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import httpx

from servers.tools.adapters.calculator import calculator
from servers.tools.adapters.clock import Clock
from servers.tools.adapters.function import FunctionTool
from servers.tools.adapters.http_get import HttpGet
from servers.tools.adapters.json_query import json_query
from servers.tools.threads import Threads


def builtin_tools(
    threads: Threads,
    http: httpx.AsyncClient,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> list[FunctionTool]:
    """calculator, current_time, http_get and json_query.

    `http` comes from `servers.kernel.netguard.guarded_client` and stays the caller's.
    """
    functions = (calculator, Clock(now).current_time, HttpGet(http).http_get, json_query)
    return [FunctionTool(function, threads) for function in functions]


def function_tools(
    functions: Mapping[str, Callable[..., Any]], threads: Threads
) -> list[FunctionTool]:
    """What `servers.tools.catalogue` found, as tools of these names."""
    return [FunctionTool(function, threads, name) for name, function in functions.items()]
