"""The command line itself: help, usage, exit codes, without a mesh."""

import subprocess
import sys
from importlib.metadata import version

import pytest

from servers.cli import failures
from servers.cli.app import guarded
from servers.kernel.errors import InvalidInput, NotFound, Violation


def astromesh(*words: str) -> subprocess.CompletedProcess[str]:
    code = "from servers.cli.app import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60
    )


def failing(error: Exception):
    def command() -> None:
        raise error

    return command


class TestTheCommandLine:
    def test_lists_its_commands(self):
        shown = astromesh("--help").stdout
        assert all(word in shown for word in ("up", "run", "chat", "agents", "runs", "doctor"))

    def test_says_which_version_it_is(self):
        assert astromesh("--version").stdout == f"astromesh {version('astromesh-grpc')}\n"

    def test_imports_no_grpc_to_show_its_help(self):
        code = (
            "import sys\nfrom servers.cli import app\n"
            "assert not {'grpc', 'google.protobuf', 'pydantic', 'rich'} & set(sys.modules)"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

    def test_knows_a_usage_error_from_a_failure(self):
        assert astromesh("agents", "frobnicate").returncode == failures.USAGE

    def test_says_in_one_line_that_nobody_is_there(self):
        done = astromesh("agents", "list", "--address", "127.0.0.1:1")
        assert done.returncode == failures.UNREACHABLE
        assert done.stderr.count("\n") == 1
        assert "astromesh up" in done.stderr


class TestAFailure:
    def test_is_one_line_with_code_reason_and_message(self, capsys):
        code = guarded(failing(NotFound("no agent is named 'x'", reason="AGENT_NOT_FOUND")))
        assert code == failures.FAILED
        assert capsys.readouterr().err == (
            "error: NOT_FOUND AGENT_NOT_FOUND: no agent is named 'x'\n"
        )

    def test_stays_one_line_whatever_the_message(self, capsys):
        guarded(failing(NotFound("two\nlines\x1b[2J")))
        assert capsys.readouterr().err == "error: NOT_FOUND: two lines[2J\n"

    def test_names_every_wrong_field(self, capsys):
        wrong = (Violation("spec.a", "is missing"), Violation("spec.b", "is missing"))
        guarded(failing(InvalidInput("x.yaml:1: spec.a: is missing", violations=wrong)))
        assert capsys.readouterr().err.splitlines()[1] == "  spec.b: is missing"

    @pytest.mark.parametrize("error", [BrokenPipeError()])
    def test_is_not_a_reader_that_has_seen_enough(self, error):
        assert guarded(failing(error)) == 0
