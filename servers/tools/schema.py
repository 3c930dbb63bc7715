"""From a function's signature and docstring to the JSON Schema a model sees, and back
from a model's JSON to arguments that fit.

pydantic does both, from the same signature, so that they can't disagree.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, get_type_hints

import docstring_parser
from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import CoreSchema, to_json

from servers.domain.chat import Json
from servers.kernel.errors import InvalidInput
from servers.tools.ports import Invocation


class _Untitled(GenerateJsonSchema):
    """A title that repeats the parameter's name only costs tokens."""

    def field_title_should_be_set(self, schema: CoreSchema | Any) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class Signature:
    """How a function is called by a model. `description` is its docstring's prose."""

    description: str
    parameters: Json
    _adapter: TypeAdapter[partial[Any]]
    _injected: tuple[str, ...]  # parameters of type Invocation, which no model sees

    def bind(self, arguments: str, invocation: Invocation) -> partial[Any]:
        """The call, ready to be made. Raises InvalidInput if the arguments don't fit.

        No text at all means no arguments, as several models write it.
        """
        text = arguments.strip().encode("utf-8", "replace") or b"{}"
        if not text.startswith(b"{"):
            raise self._misfit("they must be one JSON object")
        try:
            call = self._adapter.validate_json(text)
        except ValidationError as error:
            raise self._misfit("; ".join(_sentences(error))) from None
        return partial(call, **dict.fromkeys(self._injected, invocation))

    def _misfit(self, what: str) -> InvalidInput:
        schema = to_json(self.parameters).decode()
        return InvalidInput(
            f"the arguments don't fit: {what}. Expected JSON Schema: {schema}",
            reason="TOOL_ARGUMENTS_INVALID",
        )


def signature_of(function: Callable[..., Any]) -> Signature:
    """Read a function. Raises InvalidInput where no JSON object could call it."""
    injected = _injected(function)
    recorder: Any = _recorder(function, injected)  # pydantic takes functions, its types don't
    try:
        adapter: TypeAdapter[partial[Any]] = TypeAdapter(recorder)
        schema = adapter.json_schema(schema_generator=_Untitled)
    except PydanticUserError as error:
        raise _unusable(function, str(error.message).partition(". ")[0]) from error
    doc = docstring_parser.parse(inspect.getdoc(function) or "")
    described = {p.arg_name: p.description for p in doc.params if p.description}
    description = "\n\n".join(filter(None, (doc.short_description, doc.long_description)))
    return Signature(description, _with_descriptions(schema, described), adapter, injected)


def _recorder(function: Callable[..., Any], injected: tuple[str, ...]) -> Callable[..., Any]:
    """A function with the visible part of the signature that returns the call it was given."""

    def record(*args: Any, **kwargs: Any) -> partial[Any]:
        return partial(function, *args, **kwargs)

    shape, hints = inspect.signature(function), _hints(function)
    visible = [p for name, p in shape.parameters.items() if name not in injected]
    for parameter in visible:
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
            raise _unusable(function, f"{parameter.name!r} can't be given by name")
    record.__name__ = _name(function)
    record.__annotations__ = {p.name: hints[p.name] for p in visible if p.name in hints}
    record.__signature__ = shape.replace(  # type: ignore[attr-defined]  # what inspect reads
        parameters=[p.replace(annotation=hints.get(p.name, p.empty)) for p in visible],
        return_annotation=shape.empty,
    )
    return record


def _injected(function: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(name for name, kind in _hints(function).items() if kind is Invocation)


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    target = function if inspect.isroutine(function) else type(function).__call__
    try:
        hints = get_type_hints(target, include_extras=True)
    except NameError as unknown:
        raise _unusable(function, f"the annotation {unknown.name!r} is unknown") from unknown
    return {name: kind for name, kind in hints.items() if name != "return"}


def _with_descriptions(schema: dict[str, Any], described: Mapping[str, str]) -> Json:
    properties = {
        name: {"description": described[name], **body} if name in described else body
        for name, body in schema.get("properties", {}).items()
    }
    return {**schema, "properties": properties}


def _sentences(error: ValidationError) -> list[str]:
    return [
        ".".join(map(str, detail["loc"])) + ": " * bool(detail["loc"]) + detail["msg"]
        for detail in error.errors(include_url=False, include_input=False, include_context=False)
    ]


def _unusable(function: Callable[..., Any], why: str) -> InvalidInput:
    return InvalidInput(
        f"the function {_name(function)!r} can't be a tool: {why}", reason="TOOL_UNUSABLE"
    )


def _name(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", type(function).__name__))
