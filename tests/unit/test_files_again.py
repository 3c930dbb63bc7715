"""Files that are read again while the mesh runs: what is taken over, and what is told of it."""

import time

import pytest

from servers.assembly.files import Files
from servers.config import load_config

AGENT = """\
apiVersion: astromesh/v1
kind: Agent
metadata: {name: NAME}
spec: {model: {primary: {provider: ollama, model: m}}, tools: TOOLS}
"""


@pytest.fixture
def write(tmp_path):
    (tmp_path / "agents").mkdir()

    def write(name, tools="[]"):
        path = tmp_path / "agents" / f"{name}.agent.yaml"
        path.write_text(AGENT.replace("NAME", name).replace("TOOLS", tools))

    return write


@pytest.fixture
def read_again(tmp_path):
    """Starts on the files as they are, lets them change, and gives what was declared then."""

    async def read_again(change):
        files, told = Files(load_config(tmp_path, tmp_path / "state", {}), time.time), []
        files.tell_agents(told.append)
        change()
        await files.read_again()
        return {each.name: each for each in told[-1]}

    return read_again


class TestAnAgentWhoseToolsCanNotBeHad:
    @pytest.mark.parametrize(
        ("tools", "says"),
        [
            (
                "[json_query, calculatr]",
                "a.agent.yaml: spec.tools[1].name: no tool is named 'calculatr'; "
                "did you mean 'calculator'?",
            ),
            (
                "[{name: mine, function: 'json:loads'}]",
                "a.agent.yaml: spec.tools[0].name: 'mine' is 'json:dumps' already; "
                "rename one, or start the mesh again",
            ),
            (
                "[{name: new, function: 'json:loads'}]",
                "a.agent.yaml: spec.tools[0].function: functions are read when the mesh starts: "
                "start it again",
            ),
            (
                "[{name: new, function: 'no_such_module:f'}]",
                "a.agent.yaml: spec.tools[0].function: tool 'new': the module 'no_such_module'",
            ),
        ],
    )
    async def test_is_refused_as_at_the_start(self, write, read_again, tools, says):
        write("a", "[{name: mine, function: 'json:dumps'}]")
        declared = await read_again(lambda: write("a", tools))
        assert declared["a"].agent is None
        assert declared["a"].reason.startswith(says)

    async def test_does_not_take_functions_away_that_the_mesh_started_with(self, write, read_again):
        write("a", "[{name: mine, function: 'json:dumps'}]")
        declared = await read_again(lambda: (write("a"), write("b", "[mine]")))
        assert [declared[name].reason for name in "ab"] == ["", ""]


async def test_hidden_files_are_left_alone(write, read_again):
    """Editors keep locks and copies beside the file that they have open."""
    write("a")
    declared = await read_again(lambda: write(".#a", tools="[nonsense"))
    assert list(declared) == ["a"]
