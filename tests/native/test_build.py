"""The build: the C++ by itself under sanitizers, and the whole without a compiler."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NO_COMPILER = {**os.environ, "CXX": "/nowhere/c++"}


def cmake(*arguments: str | Path, env: dict[str, str] | None = None) -> str:
    tool = Path(sys.executable).with_name("cmake")
    done = subprocess.run([tool, *arguments], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.native
@pytest.mark.timeout(600)  # compilers take their time beside other work
def test_the_algorithms_keep_their_promises_under_sanitizers(tmp_path):
    if shutil.which("c++") is None:
        pytest.skip("needs a C++ compiler")
    cmake("-S", ROOT / "native_cpp/tests", "-B", tmp_path)
    cmake("--build", tmp_path, "--parallel", "2")
    cmake("-E", "chdir", tmp_path, "ctest", "--output-on-failure", "--no-tests=error")


class TestWithoutACompiler:
    @pytest.mark.native
    def test_the_build_succeeds_and_says_what_is_missing(self, tmp_path):
        said = cmake("-S", ROOT, "-B", tmp_path, env=NO_COMPILER)
        assert "no working C++ compiler (install g++ or clang)" in " ".join(said.split())

    @pytest.mark.native
    def test_a_release_build_fails(self, tmp_path):
        with pytest.raises(AssertionError, match="ASTROMESH_REQUIRE_NATIVE is on"):
            cmake("-S", ROOT, "-B", tmp_path, "-DASTROMESH_REQUIRE_NATIVE=ON", env=NO_COMPILER)

    def test_the_reference_is_used(self):
        """In a process that can't import the compiled module."""
        program = (
            "import sys; sys.modules['servers.kernel.native._speedups'] = None\n"
            "from servers.kernel import native\n"
            "print(native.COMPILED, native.rank([1, 0], [[0, 1], [2, 0]], 1))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
        )
        assert done.stdout.split(maxsplit=1) == ["False", "[(1, 1.0)]\n"]
