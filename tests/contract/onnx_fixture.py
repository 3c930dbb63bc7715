"""A provider on a model folder, closed when the test is done with it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from servers.domain.chat import Role, Sampling, says
from servers.router.adapters.genai.chat import OnnxChat
from servers.router.ports import Ask

# A template without a place for tools.
PLAIN = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}<|assistant|>"


@asynccontextmanager
async def opened(folder: Path, **options) -> AsyncIterator[OnnxChat]:
    provider = OnnxChat(str(folder), **options)
    try:
        yield provider
    finally:
        await provider.aclose()


def ask(word: str, **more) -> Ask:
    """What is no setting of the sampling belongs to the ask itself."""
    sampling = {name: more.pop(name) for name in list(more) if hasattr(Sampling(), name)}
    wanted = {"messages": (says(Role.USER, word),), "sampling": Sampling(**sampling), **more}
    return Ask(**{"model": "tiny", **wanted})
