"""`python protos/lint.py`: what it says of the contract, and of breaking it."""

import shutil
import subprocess
import sys

import pytest


@pytest.fixture
def copy(root, tmp_path):
    """The contract in a repository of its own."""
    shutil.copy(root / "buf.yaml", tmp_path)
    for folder in ("protos", "gen"):
        ignored = shutil.ignore_patterns("__pycache__", "astromesh", "astromesh_client")
        shutil.copytree(root / folder, tmp_path / folder, ignore=ignored)
    shutil.copytree(root / "protos/astromesh", tmp_path / "protos/astromesh")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "The contract")
    return tmp_path


def git(folder, *arguments):
    who = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.com"]
    subprocess.run(["git", "-C", folder, *who, *arguments], check=True)


def lint(root):
    command = [sys.executable, root / "protos/lint.py"]
    return subprocess.run(command, capture_output=True, text=True)


def renumber(root):
    proto = root / "protos/astromesh/common/v1/chat.proto"
    proto.write_text(proto.read_text().replace("string tool_call_id = 5;", "string call_id = 15;"))


def test_before_the_first_release_anything_may_change(copy):
    renumber(copy)
    done = lint(copy)
    assert (done.returncode, done.stderr) == (0, "")
    assert "no release is tagged yet" in done.stdout


def test_after_a_release_a_break_is_named(copy):
    git(copy, "tag", "v0.1.0")
    renumber(copy)
    done = lint(copy)
    assert done.returncode != 0
    assert 'field "5" with name "tool_call_id"' in done.stdout


def test_after_a_release_nothing_changed_is_no_break(copy):
    git(copy, "tag", "v0.1.0")
    assert lint(copy).returncode == 0


def test_a_field_without_a_comment_is_named(copy):
    with (copy / "protos/astromesh/common/v1/chat.proto").open("a") as proto:
        proto.write(
            "// Bare has a field that nobody explains.\nmessage Bare {\n  string x = 1;\n}\n"
        )
    done = lint(copy)
    assert done.returncode != 0
    assert 'Field "x" should have a non-empty comment' in done.stdout
