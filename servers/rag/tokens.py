"""How many tokens a text has, for chunks that are measured in them (extra `tokens`)."""

from functools import cache
from typing import Any

from servers.kernel.errors import NotReady


def count(text: str) -> int:
    """Tokens of o200k_base, whatever they spell. Raises NotReady (EXTRA_MISSING)."""
    return len(_encoding().encode_ordinary(text))


@cache
def _encoding() -> Any:
    try:
        import quicktok
    except ModuleNotFoundError as missing:
        raise NotReady(
            "chunks in tokens need the package 'quicktok': pip install 'astromesh-grpc[tokens]'",
            reason="EXTRA_MISSING",
            extra="tokens",
            module="quicktok",
        ) from missing
    return quicktok.get_encoding("o200k_base")
