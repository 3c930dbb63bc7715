"""Field types of manifests: strict, with one exception for values of variables.

``port: ${PORT}`` is text after expansion and still means a number; ``port: "80"`` is a
mistake worth telling.
"""

from math import isfinite
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from servers.kernel.variables import Expanded

HIDDEN = "***"


class SecretMark:
    """Marks a field whose value must not leave the process. Of a URL only the password."""


def _number(value: Any) -> Any:
    if isinstance(value, Expanded):
        for kind in (int, float):
            try:
                return kind(value)
            except ValueError:
                continue
    return value


def _flag(value: Any) -> Any:
    if isinstance(value, Expanded):
        return {"true": True, "false": False}.get(value.lower(), value)
    return value


def _json(value: dict[str, Any]) -> dict[str, Any]:
    """One form for what came from YAML and through a protobuf Struct, which has floats only."""

    def plain(item: Any) -> Any:
        match item:
            case dict():
                return {str(key): plain(each) for key, each in item.items()}
            case list() | tuple():
                return [plain(each) for each in item]
            case float() if not isfinite(item):
                raise ValueError("JSON has no infinity and no NaN")
            case float() if item.is_integer() and abs(item) < 2**53:
                return int(item)
            case None | str() | bool() | int() | float():
                return item
        raise ValueError(f"{type(item).__name__} is not JSON")

    return {str(key): plain(each) for key, each in value.items()}


_NAME = r"^[a-z][a-z0-9-]{0,62}$"
_TOOL_NAME = r"^[a-zA-Z_][a-zA-Z0-9_-]{0,63}$"
_FUNCTION_PATH = r"^([A-Za-z_][\w.]*:[A-Za-z_][\w.]*)?$"
PATTERNS = {  # in words
    _NAME: "a lower-case letter, then lower-case letters, digits or '-', at most 63 in all",
    _TOOL_NAME: "letters, digits, '_' or '-', not beginning with a digit, at most 64",
    _FUNCTION_PATH: "'module:function'",
}

Name = Annotated[str, Field(pattern=_NAME)]
ToolName = Annotated[str, Field(pattern=_TOOL_NAME)]
FunctionPath = Annotated[str, Field(pattern=_FUNCTION_PATH)]
Whole = Annotated[int, BeforeValidator(_number), Field(strict=True, le=2**31 - 1, ge=-(2**31))]
Count = Annotated[int, BeforeValidator(_number), Field(strict=True, ge=1, le=2**31 - 1)]
Large = Annotated[int, BeforeValidator(_number), Field(strict=True, ge=1, le=10**15)]
Number = Annotated[float, BeforeValidator(_number), Field(strict=True, allow_inf_nan=False)]
Share = Annotated[Number, Field(ge=0, le=1)]
Seconds = Annotated[Number, Field(gt=0)]
Flag = Annotated[bool, BeforeValidator(_flag), Field(strict=True)]
Secret = Annotated[str, Field(repr=False), SecretMark()]
FreeJson = Annotated[dict[str, Any], AfterValidator(_json)]
