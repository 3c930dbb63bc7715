"""Which functions become tools, and under which names."""

from datetime import UTC, datetime
from importlib.metadata import EntryPoint

import httpx
import pytest

from servers.kernel.errors import InvalidInput, NotReady
from servers.tools.adapters.builtin import builtin_tools, function_tools
from servers.tools.adapters.function import FunctionTool
from servers.tools.catalogue import GROUP, configured_functions, plugin_functions
from servers.tools.declare import tool
from servers.tools.kinds import BUILTIN, checked_kind
from servers.tools.ports import Invocation
from servers.tools.threads import Threads


async def test_every_mesh_has_the_built_in_tools():
    async with httpx.AsyncClient() as client:
        found = builtin_tools(Threads(), client)
    assert [each.tool.name for each in found] == [
        "calculator",
        "current_time",
        "http_get",
        "json_query",
    ]
    assert {each.tool.name for each in found} == BUILTIN
    assert all(each.tool.idempotent and each.tool.spec.description for each in found)


async def test_the_built_in_clock_is_the_one_passed_in():
    async with httpx.AsyncClient() as client:
        found = builtin_tools(Threads(), client, lambda: datetime(2026, 1, 1, tzinfo=UTC))
    clock = next(each for each in found if each.tool.name == "current_time")
    assert (await clock.call("", Invocation())).startswith("2026-01-01T00:00:00+00:00")


class TestAConfiguredFunction:
    async def test_is_a_tool_of_the_configured_name(self):
        found = function_tools(configured_functions({"shell_quote": "shlex:quote"}), Threads())
        assert found[0].tool.name == "shell_quote"
        assert await found[0].call('{"s": "a b"}', Invocation()) == "'a b'"

    @pytest.mark.parametrize("target", ["shlex", "shlex:", ":quote", "shlex:nothing", "sys:path"])
    def test_that_names_no_function_is_refused(self, target):
        with pytest.raises(InvalidInput, match="tool 'x'"):
            configured_functions({"x": target})

    def test_in_a_module_that_can_not_be_imported_names_the_module(self):
        with pytest.raises(NotReady, match="'no_such_module' can't be imported"):
            configured_functions({"x": "no_such_module:f"})


class TestAPlugin:
    def test_is_found_under_its_entry_point_name(self):
        found = plugin_functions([EntryPoint("quoted", "shlex:quote", GROUP)])
        assert list(found) == ["quoted"]

    def test_that_is_broken_is_named(self):
        with pytest.raises(NotReady, match="tool 'broken'"):
            plugin_functions([EntryPoint("broken", "no_such_module:f", GROUP)])

    def test_need_not_be_installed(self):
        assert plugin_functions() == {}


class TestADeclaration:
    def test_leaves_the_function_as_it_was(self):
        @tool(name="plus")
        def add(a: int, b: int) -> int:
            return a + b

        assert add(1, 2) == 3

    def test_may_rename_and_describe(self):
        @tool(name="plus", description="Adds.", timeout=1.5)
        def add(a: int) -> int:
            """Not shown."""
            return a

        found = FunctionTool(add, Threads()).tool
        assert (found.name, found.spec.description, found.timeout) == ("plus", "Adds.", 1.5)

    @pytest.mark.parametrize("name", ["1st", "a b", "<lambda>", "a" * 65, "ä", "-a"])
    def test_with_a_name_no_model_accepts_is_refused(self, name):
        with pytest.raises(InvalidInput, match="not usable"):
            FunctionTool(lambda: None, Threads(), name)

    def test_of_a_function_without_a_name_needs_one(self):
        with pytest.raises(InvalidInput, match="<lambda>"):
            FunctionTool(lambda: None, Threads())

    def test_of_a_generator_is_refused(self):
        def pieces():
            yield 1

        with pytest.raises(InvalidInput, match="it yields"):
            FunctionTool(pieces, Threads())


class TestAType:
    def test_internal_runs(self):
        assert checked_kind("internal") == "internal"

    @pytest.mark.parametrize("kind", ["mcp", "webhook", "rag", "agent", "grpc"])
    def test_of_a_later_version_says_so(self, kind):
        with pytest.raises(InvalidInput, match="not available in this version yet"):
            checked_kind(kind)

    def test_nobody_knows_is_refused(self):
        with pytest.raises(InvalidInput, match="'magic' is unknown"):
            checked_kind("magic")
