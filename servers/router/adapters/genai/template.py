"""Chat templates as their authors mean them: Jinja2, with what the library Transformers adds.

Imports nothing of the mesh: it is for the worker process.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

# What a template may raise on a conversation of a form that it does not expect.
_MISFITS = (TemplateError, TypeError, ValueError, LookupError, ArithmeticError, RecursionError)


class Refusal(Exception):
    """The template can't put this conversation into words."""


class ChatTemplate:
    """Raises jinja2.TemplateError for a text that is no template."""

    def __init__(self, text: str, tokens: Mapping[str, str]) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", _Generation],
        )
        environment.filters["tojson"] = _tojson
        environment.globals |= {"raise_exception": _refuse, "strftime_now": _now, **tokens}
        self._template = environment.from_string(text)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]],
        settings: Mapping[str, Any],
    ) -> str:
        """The prompt, up to where the model goes on. Raises Refusal."""
        said = {"messages": messages, "tools": tools or None, "add_generation_prompt": True}
        try:
            return self._template.render({**settings, **said})
        except _MISFITS as error:
            raise Refusal(str(error)) from None


class _Generation(Extension):
    """`{% generation %}` marks what a model was trained to say; it changes no prompt."""

    tags = {"generation"}  # noqa: RUF012  # as jinja2 declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _now(format: str) -> str:
    return datetime.now().strftime(format)


def _tojson(value: Any, ensure_ascii: bool = False, **how: Any) -> str:
    """Jinja's own would escape it for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, **how)
