"""Tokens of a prompt: bounds that hold, and counts by real tokenizers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servers.domain.chat import Image, Message, Role, Text, ToolSpec, says
from servers.router.adapters.tokenizers import PackagedTokenizers, encoding_of
from servers.router.routing.counting import Prompt

HELLO = (says(Role.SYSTEM, "You are kind."), says(Role.USER, "Hello, world!"))


def counted(text: str, model: str = "gpt-4.1") -> int:
    return PackagedTokenizers().of(model).count(text)


@given(st.text(max_size=200))
def test_a_prompt_has_more_tokens_likely_than_at_least(text):
    prompt = Prompt((says(Role.USER, text),))
    assert prompt.least <= prompt.likely <= prompt.most


@pytest.mark.parametrize(
    "text",
    [
        "The quick brown fox jumps over the lazy dog. " * 50,
        "Die Würde des Menschen ist unantastbar. " * 50,
        "我能吞下玻璃而不伤身体。" * 50,
        "def f(x):\n    return {'a': [x, x + 1]}\n" * 50,
    ],
    ids=["english", "german", "chinese", "code"],
)
def test_the_bounds_hold_for_texts_that_people_write(text):
    prompt = Prompt((says(Role.USER, text),))
    assert prompt.least <= counted(text) <= prompt.most


def test_tools_are_part_of_a_prompt():
    tool = ToolSpec("weather", "Tells the weather.", {"type": "object"})
    assert Prompt(HELLO, (tool,)).size > Prompt(HELLO).size


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("gpt-4.1-mini", "o200k_base"),
        ("openai/gpt-5", "o200k_base"),
        ("o3", "o200k_base"),
        ("gpt-4-turbo", "cl100k_base"),
        ("gpt-3.5-turbo", "cl100k_base"),
        ("text-embedding-3-small", "cl100k_base"),
        ("meta-llama/Llama-3.1-8B-Instruct", "llama3"),
        ("llama3.1:8b", "llama3"),
        ("Qwen/Qwen3-8B", "qwen3"),
        ("gpt-oss-20b", "o200k_harmony"),
        ("mistral-large", ""),
        ("video3", ""),
    ],
)
def test_the_tokenizer_is_known_by_the_model_s_name(model, encoding):
    assert encoding_of(model) == encoding


def test_counts_are_those_of_the_model_s_tokenizer():
    # As OpenAI's own tokenizer counts them.
    assert counted("Hello, world!") == 4
    assert counted("hello world", "gpt-4") == 2


def test_special_tokens_in_a_text_are_text():
    assert counted("<|endoftext|>") > 1


def test_a_chat_is_counted_as_openai_counts_it():
    # 3 for the reply, and for each message 3, its role and its text.
    count = PackagedTokenizers().of("gpt-4.1").count
    expected = 3 + 2 * 3 + sum(count(m.role.value) + count(m.text) for m in HELLO)
    assert Prompt(HELLO).counted(count) == expected


def test_only_chats_of_text_are_counted_exactly():
    picture = Message(Role.USER, (Text("what?"), Image(data=b"x", media_type="image/png")))
    assert Prompt(HELLO).plain
    assert not Prompt((*HELLO, picture)).plain
    assert not Prompt(HELLO, (ToolSpec("t", "", {}),)).plain
