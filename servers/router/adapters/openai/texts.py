"""Embeddings in OpenAI's form, which all that serve its API share.

As base64 they have half the bytes and are read in a fourth of the time. Not every server that
calls itself compatible has that form, so that the adapter says which one to ask for; either is
understood.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import orjson

from servers.domain.chat import Usage
from servers.kernel.errors import InvalidInput
from servers.router.adapters.failures import garbage, in_stream
from servers.router.adapters.http import Call, Http, loads
from servers.router.adapters.streaming import MISSHAPEN
from servers.router.adapters.texts.answers import as_many, in_order, vector
from servers.router.adapters.texts.batches import Batch, answers, batches, estimated, joined
from servers.router.ports import EmbedAsk, Embedded, ProviderDown

Encoding = Literal["base64", "float"]

# OpenAI takes 2048 texts, but answers of 8 MB are read without holding up anybody for long.
_MOST = {"base64": 512, "float": 128}
_CHARACTERS = 300_000  # OpenAI takes as many tokens, and few texts have more than one a character
_TOO_LONG = "too large to process"  # llama.cpp's words


async def embed(
    http: Http, ask: EmbedAsk, call_of: Callable[[bytes], Call], encoding: Encoding
) -> Embedded:
    """`call_of` makes the call out of its body."""
    asked = call_of(b"")

    async def send(part: Batch) -> Embedded:
        call = call_of(request(ask, part.texts, encoding))
        with the_text_s_fault():
            body = await http.fetch(call, ask.timeouts)
        return embedded(loads(body, call), part, call)

    parts = batches(ask.texts, _MOST[encoding], _CHARACTERS)
    return joined(await answers(parts, send, asked.base, ask.timeouts))


def request(ask: EmbedAsk, texts: tuple[str, ...], encoding: Encoding) -> bytes:
    body: dict[str, Any] = {"model": ask.model, "input": texts}
    if encoding != "float":  # the default, and the only one that some know
        body["encoding_format"] = encoding
    if ask.dimensions is not None:
        body["dimensions"] = ask.dimensions
    return orjson.dumps(body)


def embedded(answer: Any, part: Batch, call: Call) -> Embedded:
    if isinstance(answer, Mapping) and answer.get("error"):
        raise in_stream(call.base, answer, call.api_key)
    try:
        rows = as_many(answer["data"], len(part.texts), "embeddings", call)
        vectors = tuple(vector(row["embedding"]) for row in in_order(rows))
        used = usage(answer.get("usage"), part.texts)
        return Embedded(vectors, used, str(answer.get("model") or ""))
    except MISSHAPEN:
        raise garbage(call.base, "answered no embeddings") from None


def usage(counted: Mapping[str, Any] | None, texts: tuple[str, ...]) -> Usage:
    """Some count the prompt, some only all together, which is the same here."""
    counted = counted or {}
    tokens = counted.get("prompt_tokens") or counted.get("total_tokens")
    return Usage(int(tokens)) if tokens else estimated(texts)


@contextmanager
def the_text_s_fault() -> Iterator[None]:
    """llama.cpp says of a text that is too long for its batch that itself has failed (500)."""
    try:
        yield
    except ProviderDown as error:
        if _TOO_LONG in error.message:
            raise InvalidInput(error.message, reason="PROVIDER_REFUSED") from None
        raise
