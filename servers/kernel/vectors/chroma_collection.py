"""A collection in Chroma, and the one beside it in which its writers leave their marks.

Chroma has nothing that tells whether anything has changed. So each process that writes counts its
changes there, in a point of its own, before it acknowledges them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import count
from typing import Any, Final

from chromadb.errors import NotFoundError

from servers.kernel.errors import Unavailable
from servers.kernel.vectors import payloads
from servers.kernel.vectors.chroma_points import all_of, deep
from servers.kernel.vectors.known import Marks
from servers.kernel.vectors.payloads import Head
from servers.kernel.vectors.ports import Space

BATCH: Final = 1000  # points in one request
_MOST_WRITERS: Final = 32  # whose marks are left there


class ChromaCollection:
    """`where`: for messages. `called` works in a thread. `writer` names this process, and no
    other one. `on_found` is told when the collection is found, or found again after it was
    gone."""

    def __init__(
        self,
        client: Any,
        name: str,
        where: str,
        called: Callable[..., Awaitable[Any]],
        writer: str,
        on_found: Callable[[], None],
    ) -> None:
        self.client, self.name, self._where, self._thread = client, name, where, called
        self._writer, self._on_found = writer, on_found
        self._points: Any = None
        self._changes: Any = None
        self._count = count(1)
        self._space: Space | None = None
        self._finding = asyncio.Lock()
        self.has_words = False  # whether documents are words

    async def space(self) -> Space | None:
        async with self._finding:
            if self._space is None:
                try:
                    found = await self._of_client("get_collection", self.name)
                except NotFoundError:
                    return None
                changes = f"{self.name}.changes"  # no collection of ours has a point in its name
                self._changes = await self._of_client("get_or_create_collection", changes)
                self._points = found
                self.has_words = "words" in found.metadata
                self._space = Space(found.metadata["model"], found.metadata["dimension"])
                self._on_found()
        return self._space

    async def make(self, space: Space) -> None:
        await self._of_client(
            "get_or_create_collection",
            self.name,
            metadata={"model": space.model, "dimension": space.dimension, "words": 1},
            configuration={"hnsw": {"space": "cosine", "ef_search": 200}},
        )

    async def _of_client(self, method: str, *args: Any, **kwargs: Any) -> Any:
        function = getattr(self.client, method)
        return await self._thread(function, *args, embedding_function=None, **kwargs)

    async def call(self, method: str, **kwargs: Any) -> Any:
        return await self._called(getattr(self._points, method), **kwargs)

    async def _called(self, function: Callable[..., Any], **kwargs: Any) -> Any:
        try:
            return await self._thread(function, **kwargs)
        except NotFoundError as error:  # of a server that was started without its data, say
            self._space = None  # the next one looks for it again
            raise Unavailable(
                f"collection {self.name!r} is gone from {self._where}: take the documents in again",
                reason="STORE_UNAVAILABLE",
            ) from error

    async def marks(self) -> Marks:
        """Of the other writers."""
        found = await self._called(self._changes.get, include=["metadatas"])
        pairs = zip(found["ids"], found["metadatas"], strict=True)
        return {writer: said["n"] for writer, said in pairs if writer != self._writer}

    async def leave_mark(self) -> None:
        number = next(self._count)
        mark = {"ids": [self._writer], "embeddings": [[1.0]], "metadatas": [{"n": number}]}
        await self._called(self._changes.upsert, **mark)
        if number == 1 and len(others := list(await self.marks())) > _MOST_WRITERS:
            # Most are long gone; who is not has its next number. That one is gone is a change, too.
            await self._called(self._changes.delete, ids=others)

    async def heads(self, tenant: str, more: Sequence[Any] = ()) -> list[Head]:
        """Points 0 of all versions."""
        found = await self.metadatas([{"tenant": tenant}, {"index": 0}, *more])
        return await asyncio.to_thread(_heads_from, found)

    async def metadatas(self, conditions: Sequence[Any]) -> list[Mapping[str, Any]]:
        found = await self.call("get", where=all_of(conditions), include=["metadatas"])
        return list(found["metadatas"])

    async def delete(self, *conditions: Any) -> None:
        await self.call("delete", where=all_of(conditions))


def _heads_from(metadatas: Sequence[Mapping[str, Any]]) -> list[Head]:
    return [payloads.head_from(deep(each)) for each in metadatas]
