"""Answers are tables for people, and data for programs."""

import json

import pytest
import yaml
from astromesh.tools.v1.tool_service_pb2 import Tool

from servers.cli.choices import Output
from servers.cli.output import show_all, show_one

COLUMNS = {"NAME": lambda tool: tool.name, "DESCRIPTION": lambda tool: tool.description}
TOOL = Tool(name="calculator", description="Adds [bold]numbers[/bold]", timeout_seconds=2)


def test_a_table_has_a_line_for_each(capsys):
    show_all([TOOL], COLUMNS, Output.TABLE)
    titles, row = capsys.readouterr().out.splitlines()
    assert titles.split() == ["NAME", "DESCRIPTION"]
    assert row.split(maxsplit=1)[1].strip() == "Adds [bold]numbers[/bold]"


def test_lines_that_a_program_reads_end_with_their_text(capsys):
    show_all([TOOL, Tool(name="x")], COLUMNS, Output.TABLE)
    lines = capsys.readouterr().out.splitlines()
    assert [line.rstrip() for line in lines] == lines


def test_a_table_of_nothing_has_its_titles(capsys):
    show_all([], COLUMNS, Output.TABLE)
    assert capsys.readouterr().out.split() == ["NAME", "DESCRIPTION"]


def test_a_long_cell_is_not_cut_where_a_program_reads_it(capsys):
    show_all([Tool(name="x", description="word " * 60)], COLUMNS, Output.TABLE)
    assert capsys.readouterr().out.count("word") == 60


@pytest.mark.parametrize(
    ("form", "read"), [(Output.JSON, json.loads), (Output.YAML, yaml.safe_load)]
)
def test_data_holds_everything_under_its_contract_name(capsys, form, read):
    show_all([TOOL], COLUMNS, form)
    (tree,) = read(capsys.readouterr().out)
    assert tree["timeout_seconds"] == 2


def test_a_single_thing_is_one_line_per_field(capsys):
    show_one(TOOL, {"name": lambda tool: tool.name, "type": lambda tool: tool.type}, Output.TABLE)
    assert capsys.readouterr().out == "name  calculator\n"


def test_nothing_printed_moves_the_cursor(capsys):
    show_one(Tool(name="a\x1b[2Jb"), {"name": lambda tool: tool.name}, Output.TABLE)
    assert capsys.readouterr().out == "name  a[2Jb\n"
