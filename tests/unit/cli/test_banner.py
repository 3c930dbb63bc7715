"""What is printed when the mesh is up can be pasted as it is."""

import shlex
from pathlib import Path

from servers.cli.banner import Listening, banner
from servers.domain.agents import AgentRecord

READY = AgentRecord("assistant", "1", {}, "e")
BROKEN = AgentRecord("cloud", "1", {}, "e", ready=False, reason="OPENAI_API_KEY is not set")
WHERE = Listening("127.0.0.1:50051", "http://127.0.0.1:8080", Path(".state"))


def line_with(word: str, text: str) -> list[str]:
    return shlex.split(next(line for line in text.splitlines() if word in line))


def test_it_says_where_everything_listens():
    text = banner(WHERE, [READY], 1.0)
    assert "127.0.0.1:50051" in text
    assert "http://127.0.0.1:8080" in text


def test_it_says_why_an_agent_cannot_run():
    assert "cloud: OPENAI_API_KEY is not set" in banner(WHERE, [READY, BROKEN], 1.0)


def test_the_curl_line_streams_from_a_ready_agent():
    words = line_with("curl -N", banner(WHERE, [BROKEN, READY], 1.0))
    assert words[:3] == ["curl", "-N", "http://127.0.0.1:8080/v1/agents/assistant:stream"]


def test_the_grpcurl_line_names_the_streaming_method():
    words = line_with("-plaintext", banner(WHERE, [READY], 1.0))
    assert words[-2:] == ["127.0.0.1:50051", "astromesh.agents.v1.AgentService/StreamAgent"]


def test_without_envoy_there_is_no_line_for_curl():
    assert "curl -N" not in banner(Listening("127.0.0.1:50051", "", Path(".state")), [READY], 1.0)


def test_without_a_ready_agent_there_is_nothing_to_paste():
    assert "Paste" not in banner(WHERE, [BROKEN], 1.0)
