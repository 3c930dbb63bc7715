"""`python protos/generate.py` and its `--check`."""

import shutil
import subprocess
import sys

import pytest


@pytest.fixture
def copy(root, tmp_path):
    """The contract and what follows from it, apart from the real ones."""
    for folder in ("protos", "gen"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(root / folder, tmp_path / folder, ignore=ignored)
    return tmp_path


def generate(root, *arguments):
    command = [sys.executable, root / "protos/generate.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_check_names_exactly_the_files_that_are_not_fresh(copy):
    with (copy / "gen/astromesh/common/v1/chat_pb2.py").open("a") as changed:
        changed.write("# by hand\n")
    (copy / "gen/astromesh.binpb").unlink()
    (copy / "gen/astromesh/left_over.py").touch()
    done = generate(copy, "--check")
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "gen/astromesh/common/v1/chat_pb2.py is stale: run `make gen`",
        "gen/astromesh/left_over.py is stale: run `make gen`",
        "gen/astromesh.binpb is stale: run `make gen`",
    ]


def test_a_faulty_proto_is_told_with_its_line(copy):
    proto = copy / "protos/astromesh/common/v1/chat.proto"
    proto.write_text(proto.read_text().replace("message Usage", "massage Usage"))
    done = generate(copy)
    assert done.returncode == 1
    assert "astromesh/common/v1/chat.proto:" in done.stderr
