"""Arithmetic for models, which are bad at it.

Safe by construction rather than by a clock: the expression is short, every number in it
stays below 4096 bits, and there are no loops, so no expression takes long.
"""

import ast
import math
import operator
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeAlias

from simpleeval import SimpleEval

from servers.kernel.errors import InvalidInput
from servers.tools.declare import tool

Number: TypeAlias = int | float

MAX_CHARACTERS = 1000
MAX_BITS = 4096  # of a whole number, about 1200 digits


def _bits(number: Number) -> int:
    return number.bit_length() if isinstance(number, int) else 0


def _power(base: Number, exponent: Number) -> Any:
    both_whole = isinstance(base, int) and isinstance(exponent, int)
    if both_whole and exponent > 0 and _bits(base) * exponent > MAX_BITS + exponent:
        raise ValueError(f"the power has more than {MAX_BITS} bits")
    result = base**exponent
    if isinstance(result, complex):
        raise ValueError("the power is not a real number")
    return result


def _factorial(n: int) -> int:
    if n > 500:
        raise ValueError("factorial takes numbers up to 500")
    return math.factorial(n)


def _round(number: Number, digits: int = 0) -> Number:
    # round(5, -10**9) would compute 10**(10**9)
    if not -400 <= digits <= 400:
        raise ValueError("round takes -400 to 400 digits")
    return round(number, digits) if digits else round(number)


def _bounded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Numbers in, a number of bearable size out."""

    @wraps(function)
    def bounded(*operands: Any) -> Any:
        if not all(isinstance(each, int | float) for each in operands):
            raise TypeError("only numbers can be calculated with")
        result = function(*operands)
        if _bits(result) > MAX_BITS:
            raise ValueError(f"the number has more than {MAX_BITS} bits")
        return result

    return bounded


_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_MATH = (
    *(math.sqrt, math.cbrt, math.exp, math.log, math.log2, math.log10),
    *(math.sin, math.cos, math.tan, math.asin, math.acos, math.atan, math.atan2, math.hypot),
    *(math.degrees, math.radians, math.floor, math.ceil, math.trunc, math.gcd),
)
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{function.__name__: function for function in (abs, min, max, *_MATH)},
    "round": _round,
    "factorial": _factorial,
    "pow": _power,
}
_NAMES = {"pi": math.pi, "e": math.e, "tau": math.tau}
_NODES = (ast.Expr, ast.Constant, ast.Name, ast.BinOp, ast.UnaryOp, ast.Call)


@tool(idempotent=True, timeout=5.0)
def calculator(expression: str) -> str:
    """Calculate an arithmetic expression, for example `2 * (3 + 4) ** 2` or `sqrt(2) / pi`.

    Operators: + - * / // % **. Functions: abs, min, max, round, pow, factorial, sqrt, cbrt,
    exp, log(x, base), log2, log10, sin, cos, tan, asin, acos, atan, atan2, hypot, degrees,
    radians, floor, ceil, trunc, gcd. Constants: pi, e, tau. Angles are in radians.

    Args:
        expression: the expression, 1000 characters at most
    """
    if len(expression) > MAX_CHARACTERS:
        raise InvalidInput(f"the expression is longer than {MAX_CHARACTERS} characters")
    evaluator = SimpleEval(
        operators={node: _bounded(function) for node, function in _OPERATORS.items()},
        functions={name: _bounded(function) for name, function in _FUNCTIONS.items()},
        names=_NAMES,
    )
    evaluator.nodes = {node: evaluator.nodes[node] for node in _NODES}
    return _written(_bounded(operator.pos)(evaluator.eval(expression.strip())))


def _written(number: Number) -> str:
    """15 significant digits: 0.1 + 0.2 is 0.3 to everyone who asks a calculator."""
    if isinstance(number, int):
        return str(number)
    if not math.isfinite(number):
        raise OverflowError("the result is too large")
    return format(number, ".15g")
