"""A chat as one text, for models that know no messages."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import orjson
from jinja2 import TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from servers.domain.chat import Message
from servers.kernel.errors import InvalidInput, NotReady

# A transcript that breaks off where the model is to go on.
PLAIN = """\
{%- for message in messages %}{{ message.role }}: {{ message.content }}
{% endfor %}assistant:"""


class ChatTemplate:
    """A Jinja2 template in the manner of Hugging Face's `chat_template`: it sees `messages`
    (`role`, `content`), `add_generation_prompt`, `bos_token` and `eos_token`."""

    def __init__(self, source: str = "", bos_token: str = "", eos_token: str = "") -> None:
        """`source` is the template, or the name of a file with it; empty: a plain transcript."""
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}
        sandbox = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        sandbox.filters["tojson"] = lambda value: orjson.dumps(value).decode()
        sandbox.globals["raise_exception"] = _refuse
        try:
            self._template = sandbox.from_string(_text(source))
        except TemplateSyntaxError as wrong:
            raise _unusable(f"line {wrong.lineno}: {wrong.message}") from wrong

    def render(self, messages: Sequence[Message]) -> str:
        said = [{"role": each.role.value, "content": each.text} for each in messages]
        try:
            return self._template.render(
                messages=said, add_generation_prompt=True, tools=None, **self._tokens
            )
        except _RefusedError as refused:
            raise InvalidInput(
                f"the model's chat template refuses the messages: {refused}",
                reason="PROVIDER_REFUSED",
            ) from refused
        except Exception as wrong:  # a template may fail in every way in which code may
            raise _unusable(f"{type(wrong).__name__}: {wrong}") from wrong


class _RefusedError(Exception):
    """What a template says by raise_exception: its model can't be told such a chat."""


def _refuse(why: Any) -> NoReturn:
    raise _RefusedError(why)


def _text(source: str) -> str:
    if not source:
        return PLAIN
    if "\n" in source or "{%" in source or "{{" in source:
        return source
    try:
        return Path(source).read_text(encoding="utf-8")
    except (OSError, ValueError) as missing:
        raise _unusable(f"{source!r} is neither a template nor a file: {missing}") from missing


def _unusable(why: str) -> NotReady:
    return NotReady(f"the option 'chat_template': {why}", reason="PROMPT_FAILED")
