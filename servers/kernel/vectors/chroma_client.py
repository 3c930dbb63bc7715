"""Chroma's client, of a folder or a server, and what goes wrong with it in our words."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import chromadb
import httpx
from chromadb.config import Settings
from chromadb.errors import ChromaError, InternalError, NotFoundError

from servers.kernel.errors import InvalidInput, Unavailable
from servers.kernel.vectors.collection import Collection

_PATIENCE = 60.0  # seconds for one answer
_SETTINGS: dict[str, Any] = {"anonymized_telemetry": False}


def sessions(client: Any) -> list[httpx.Client]:
    servers = client._server, client._admin_client._server
    return [each._session for each in servers if hasattr(each, "_session")]


def close(client: Any) -> None:
    # Its connections, which Chroma itself leaves open.
    opened = sessions(client)
    client.close()
    for session in opened:
        session.close()


def client_of(collection: Collection) -> Any:
    """Blocks. The server's client is that for threads, too: of the one for asyncio all in a
    process share their headers, and would send one server's key to another."""
    if not collection.address:
        collection.folder.mkdir(parents=True, exist_ok=True)
        return chromadb.PersistentClient(str(collection.folder), settings=Settings(**_SETTINGS))
    parts = urlsplit(collection.address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInput("vector_store.url: expected http://HOST:PORT")
    secure, key = parts.scheme == "https", collection.api_key
    client = chromadb.HttpClient(
        host=parts.hostname,
        port=parts.port or (443 if secure else 8000),
        ssl=secure,
        headers={"Authorization": f"Bearer {key}"} if key else None,
        settings=Settings(**_SETTINGS),
    )
    for session in sessions(client):
        session.timeout = httpx.Timeout(_PATIENCE)  # Chroma sets none: threads would wait for ever
    return client


async def called(
    where: str,
    threads: ThreadPoolExecutor,
    function: Callable[..., Any],
    /,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """In a thread, as the library blocks. `where`: for messages."""
    loop = asyncio.get_running_loop()
    with _named(where):
        async with asyncio.timeout(_PATIENCE):
            return await loop.run_in_executor(threads, partial(function, *args, **kwargs))


class PointGone(Exception):
    """A point that was asked for by its id isn't there any more."""


def _unusable(where: str, error: Exception) -> Unavailable:
    return Unavailable(
        f"{where} can't be used: {str(error)[:300]}", reason="STORE_UNAVAILABLE", retry_after=1.0
    )


@contextmanager
def _named(where: str) -> Iterator[None]:
    try:
        yield
    except NotFoundError:
        raise
    except InternalError as error:
        if "finding id" in str(error):
            raise PointGone from error
        raise _unusable(where, error) from error
    except (ChromaError, httpx.HTTPError, OSError) as error:
        raise _unusable(where, error) from error
    except ValueError as error:  # of its client, where nobody answers
        if "connect" not in str(error).lower():
            raise
        raise Unavailable(
            f"{where} can't be reached: {error}", reason="STORE_UNAVAILABLE", retry_after=1.0
        ) from error
