"""JMESPath over JSON, bounded so that a short expression can't fill the memory.

JMESPath has no loops, but it can copy: ``[@,@]|[@,@]|...`` doubles its document at every
step. Three bounds together keep both time and size small: how far an expression could
multiply its document (read off the expression), how many steps it takes, and how
long any list or string gets on the way (``to_string`` of itself doubles its quotes).
"""

from math import prod
from typing import Any

import jmespath
import orjson
from jmespath.exceptions import JMESPathError
from jmespath.functions import Functions, signature
from jmespath.visitor import Options, TreeInterpreter

from servers.kernel.errors import InvalidInput
from servers.tools.declare import tool

MAX_DOCUMENT = 1_000_000  # characters
MAX_EXPRESSION = 500  # characters
MAX_GROWN = 20_000_000  # characters that the expression could make of the document
MAX_STEPS = 200_000
MAX_ITEMS = 200_000  # of a list; of a string: MAX_DOCUMENT


@tool(idempotent=True, timeout=10.0)
def json_query(document: str, expression: str) -> str:
    """Pick values out of a JSON document with a JMESPath expression.

    For example `people[?age > `30`].name` or `length(items)`. The result is JSON; `null`
    means that nothing matched.

    Args:
        document: the JSON document, as text
        expression: the JMESPath expression
    """
    if len(document) > MAX_DOCUMENT or len(expression) > MAX_EXPRESSION:
        raise _too_much(f"{MAX_DOCUMENT} characters of document, {MAX_EXPRESSION} of expression")
    try:
        value, query = orjson.loads(document), jmespath.compile(expression).parsed
        if _growth(query) * max(len(document), len(expression)) > MAX_GROWN:
            raise _too_much("the expression repeats the document too often")
        return orjson.dumps(_Bounded().visit(query, value)).decode()
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"the document is not JSON: {error}") from None
    except JMESPathError as error:
        raise InvalidInput(f"the expression is not usable: {error}") from None


def _growth(node: Any) -> int:
    """How many copies of its document an expression could return, at most."""
    grown = [_growth(child) for child in node["children"] if isinstance(child, dict)]
    several = node["type"] in ("multi_select_list", "multi_select_dict")
    return max(1, sum(grown)) if several else prod(grown)


class _Functions(Functions):
    @signature({"types": ["string"]}, {"types": ["array-string"]})
    def _func_join(self, separator: str, array: list[str]) -> str:
        if len(separator) * len(array) > MAX_DOCUMENT:
            raise _too_much("the joined text")
        return separator.join(array)


class _Bounded(TreeInterpreter):
    def __init__(self) -> None:
        super().__init__(Options(custom_functions=_Functions()))
        self._steps = 0

    def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
        self._steps += 1
        value = super().visit(node, *args, **kwargs)
        too_long = (isinstance(value, list) and len(value) > MAX_ITEMS) or (
            isinstance(value, str) and len(value) > MAX_DOCUMENT
        )
        if too_long or self._steps > MAX_STEPS:
            raise _too_much("an intermediate result, or the number of steps")
        return value


def _too_much(what: str) -> InvalidInput:
    return InvalidInput(f"too much for one query: {what}", reason="QUERY_TOO_LARGE")
