"""What `astromesh rag` shows people."""

import asyncio
import os
from collections import Counter

import pytest
from rich.console import Console

from servers.cli.choices import Output
from servers.cli.folder import Folder, tell_passed_over
from servers.cli.operations import _ROW
from servers.cli.output import show_all
from servers.cli.rag import fault
from servers.cli.rag_eval import _table
from servers.domain.ingestions import Ingestion, IngestionState
from servers.rag.convert_operations import operation_to


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


@pytest.mark.parametrize(
    ("names", "said"),
    [("b", "1 file of other kinds passed over (1 .gz)\n"), ("bc", "2 files of other kinds")],
)
def test_one_file_is_no_files(tmp_path, names, said, capsys):
    for name in names:
        (tmp_path / f"{name}.gz").write_text("x")
    asyncio.run(tell_passed_over(Folder(tmp_path), []))
    assert capsys.readouterr().err.startswith(said)


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


def test_operations_stand_on_a_line_each(capsys):
    made = {"documents": 9, "created": 2, "failed": 1, "ended_at": 3.0}
    ended = {
        "cancelled": Ingestion(
            "i" * 32, "t", "", "handbook", 1, 2, IngestionState.CANCELLED, **made
        ),
        "given up": Ingestion(
            "j" * 32, "t", "", "handbook", 1, 2, IngestionState.GAVE_UP, waiting="away", **made
        ),
        "queued": Ingestion("k" * 32, "t", "", "handbook", 1, 2, documents=9),
    }
    show_all(map(operation_to, ended.values()), _ROW, Output.TABLE)
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["NAME", "STATE", "PIPELINE", "DONE", "SAYS"]
    for (state, ingestion), line in zip(ended.items(), lines, strict=True):
        assert line.startswith(f"{ingestion.id}  {state}")
    assert lines[0].rstrip().endswith("3/9   1 failed")
    assert "1 failed; given up after 3 of 9 documents: away" in lines[1]
