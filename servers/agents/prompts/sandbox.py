"""The Jinja2 environment of prompts: immutable, without surprises, and with a budget.

Jinja2's sandbox keeps templates from reaching Python; this one also keeps them from
taking long or growing large. Loops, calls and concatenations are rewritten to pay from the
budget of the rendering, and filters that can only be used to make things large are left out.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from functools import wraps
from typing import Any

from jinja2 import ChainableUndefined, DictLoader, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from servers.agents.prompts.budget import (
    MAX_TEXT,
    Budget,
    bounded,
    concatenated,
    multiplied,
    powered,
)

BUDGET: ContextVar[Budget] = ContextVar("astromesh_prompt_budget")

_FILTERS = (
    "abs capitalize count d default dictsort e escape first float forceescape groupby int items "
    "last length list lower map max min reject rejectattr reverse round safe select selectattr "
    "sort string striptags sum title tojson trim truncate unique upper urlencode wordcount"
)
_WRITING = ("string", "tojson")  # filters that write a whole value out
_GLOBALS = frozenset({"dict", "namespace", "cycler", "joiner", "range"})
# Methods of text that make it as long as they are told to.
_WIDENING = frozenset({"center", "ljust", "rjust", "zfill", "expandtabs", "format", "format_map"})


class PromptEnvironment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "*", "**", "%"})
    concat = staticmethod(concatenated)

    def __init__(self, templates: Mapping[str, str]) -> None:
        super().__init__(
            undefined=ChainableUndefined, loader=DictLoader(dict(templates)), finalize=bounded
        )
        kept = {name: each for name, each in self.filters.items() if name in _FILTERS.split()}
        self.filters = kept | {name: _measured(kept[name]) for name in _WRITING}
        self.filters |= {"replace": _replace, "join": _join}
        self.filters |= {"_counted": _counted, "_bounded": bounded}
        self.globals = {name: each for name, each in self.globals.items() if name in _GLOBALS}

    def _generate(
        self,
        source: nodes.Template,
        name: str | None,
        filename: str | None,
        defer_init: bool = False,
    ) -> str:
        """Jinja2's hook between parsing and compiling."""
        return super()._generate(_Metered().visit(source), name, filename, defer_init)

    def wrap_str_format(self, value: Any) -> None:
        """Jinja2 would allow `"{:999999999}".format(1)`."""
        if getattr(value, "__name__", "") in _WIDENING and hasattr(value, "__self__"):
            raise SecurityError(f"{value.__name__}() is not available in prompts")

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        BUDGET.get().step()
        owner, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
        if isinstance(owner, str) and name in _WIDENING:
            raise SecurityError(f"{name}() is not available in prompts")
        if isinstance(owner, str) and name == "replace" and len(args) > 1:
            return _replace(owner, *args)
        return bounded(super().call(context, function, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        match operator:
            case "*":
                return bounded(multiplied(left, right))
            case "**":
                return bounded(powered(left, right))
            case "%" if isinstance(left, str):
                raise SecurityError("% is not available for text in prompts")
        return bounded(super().call_binop(context, operator, left, right))


class _Metered(NodeTransformer):
    """Makes loops count and concatenations bounded."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        self.generic_visit(node)
        node.iter = _filtered(node.iter, "_counted")
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Expr:
        self.generic_visit(node)
        return _filtered(node, "_bounded")


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    wrapped = nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)
    wrapped.environment = node.environment
    return wrapped


@pass_context  # so that it is never evaluated while compiling
def _counted(context: Context, items: Iterable[Any]) -> Iterator[Any]:
    return BUDGET.get().counted(items)


def _measured(written: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(written)
    def measured(*args: Any, **kwargs: Any) -> Any:
        for each in args:
            bounded(each)
        return bounded(written(*args, **kwargs))

    return measured


@pass_context
def _join(context: Context, items: Iterable[Any], between: str = "", attribute: Any = None) -> str:
    if attribute is not None:
        items = context.environment.call_filter(
            "map", items, [], {"attribute": attribute}, context=context
        )
    texts = [str(bounded(each)) for each in BUDGET.get().counted(items)]
    if len(texts) * len(str(between)) > MAX_TEXT:
        raise SecurityError(f"a value is longer than {MAX_TEXT} characters")
    return str(between).join([concatenated(texts)] if not between else texts)


def _replace(text: Any, old: Any, new: Any, count: int = -1) -> str:
    text, old, new = str(text), str(old), str(new)
    times = len(text) + 1 if not old else text.count(old)
    if len(text) + times * len(new) > MAX_TEXT:
        raise SecurityError(f"a value is longer than {MAX_TEXT} characters")
    replaced: str = text.replace(old, new, -1 if count is None else count)
    return replaced
