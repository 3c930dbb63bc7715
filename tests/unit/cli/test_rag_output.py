"""What `astromesh rag` shows people."""

import asyncio
import os
from collections import Counter

import pytest
from rich.console import Console

from servers.cli.rag import Folder, fault
from servers.cli.rag_eval import _table


@pytest.mark.parametrize("pipelines", [1, 2, 4])
def test_measures_are_whole_numbers_of_digits_on_a_usual_terminal(pipelines):
    values = {"recall@10": 0.667, "nDCG@10": 0.81}
    table = _table({f"pipeline-{n}": values for n in range(pipelines)}, 3)
    console = Console(width=80, record=True)
    console.print(table)
    (line,) = [each for each in console.export_text().splitlines() if "recall@10" in each]
    assert line.count("0.667") == pipelines


def test_files_of_other_kinds_are_counted_by_their_ending(tmp_path):
    for name in ("a.md", "b.gz", "c.gz", "README", ".hidden.gz"):
        (tmp_path / name).write_text("x")
    folder = Folder(tmp_path)
    assert folder.passed_over(folder.files()) == Counter({".gz": 2, "no ending": 1})
    assert Folder(tmp_path / "b.gz").passed_over([]) == Counter()


def test_a_file_whose_name_is_no_text_is_a_fault_of_its_own(tmp_path):
    """And stops no others: protobuf could not send the name."""
    (tmp_path / "good.md").write_text("x")
    (tmp_path / os.fsdecode(b"na\xffme.txt")).write_text("x")
    folder = Folder(tmp_path)

    async def read():
        return [each async for each in folder.read(folder.files())]

    (good, none), (nothing, why) = asyncio.run(read())
    assert (good.id, none, nothing) == ("good.md", "", None)
    assert why.endswith("its name is not in UTF-8: give it another one")


@pytest.mark.parametrize(
    ("why", "shown"),
    [
        ("the document 'a.pdf' can't be read", "the document 'a.pdf' can't be read"),
        ("it took longer than 900 s", "a.pdf: it took longer than 900 s"),
    ],
)
def test_a_fault_names_its_document_once(why, shown):
    assert fault("a.pdf", why) == shown
