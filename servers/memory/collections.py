"""Which collections of memories there are, by name, and which one is an agent's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from servers.kernel.errors import InvalidInput, NotReady, Violation
from servers.kernel.vectors.embedding import EmbeddingModel
from servers.kernel.vectors.ports import VectorStore
from servers.kernel.vectors.stores import StorePlace, Stores
from servers.memory.places import take_in

DEFAULT: Final = "default"
DUPLICATE: Final = 0.97  # the cosine from which on two texts are taken to say the same


@dataclass(frozen=True, slots=True)
class CollectionPlace:
    """Where a collection is, and of which model its vectors are."""

    place: StorePlace
    model: EmbeddingModel = field(default_factory=EmbeddingModel)
    duplicate_threshold: float = DUPLICATE


_USUAL = CollectionPlace(StorePlace("faiss", "memories"))


class Collections:
    """`shared` are those of runtime.yaml. `stores` opens each when it is first needed."""

    def __init__(self, shared: Mapping[str, CollectionPlace], stores: Stores) -> None:
        self._shared = {DEFAULT: _USUAL, **shared}
        self._own: dict[str, CollectionPlace] = {}  # of agents in files: "agent:NAME"
        self._agents: dict[str, str] = {}  # in files: agent -> name
        self._stores = stores

    def take_files(self, own: Mapping[str, CollectionPlace], agents: Mapping[str, str]) -> None:
        """What agents in files say. Those of before stay known, to be asked for and erased."""
        take_in(self._own, own, lambda collection: collection.place)
        self._agents |= agents

    def name(self, agent: str, collection: str) -> str:
        """Where a request is meant for."""
        return collection or self._agents.get(agent) or DEFAULT

    def names(self) -> tuple[str, ...]:
        return (*self._shared, *self._own)

    def place(self, name: str) -> CollectionPlace:
        """Raises InvalidInput (COLLECTION_NOT_FOUND)."""
        place = self._own.get(name) or self._shared.get(name)
        if place is None:
            known = ", ".join(repr(each) for each in self._shared)
            why = f"there is no {name!r} in spec.memory.collections; known: {known}"
            raise InvalidInput(
                f"collection: {why}",
                reason="COLLECTION_NOT_FOUND",
                violations=(Violation("collection", why),),
                collection=name,
            )
        return place

    def aliases(self, name: str) -> tuple[str, ...]:
        """All names of the same place."""
        place = self.place(name).place
        return tuple(each for each in self.names() if self.place(each).place == place)

    async def store(self, name: str) -> VectorStore:
        """Raises what keeps it from being opened."""
        return await self._stores.at(self.place(name).place)

    def opened(self) -> Sequence[tuple[str, VectorStore]]:
        """What kind of store each is, and the store."""
        return self._stores.opened()

    async def check(self, name: str) -> None:
        """Raises NotReady (EMBEDDING_MISMATCH) where the length of vectors that is configured
        is not that of those it has, and what keeps it from being opened."""
        wanted = self.place(name).model.dimension
        space = await (await self.store(name)).space()
        if space and wanted and wanted != space.dimension:
            raise NotReady(
                f"the collection {name!r} keeps vectors of {space.model!r} with "
                f"{space.dimension} numbers, and {wanted} are configured: name another "
                "collection, or go back to that dimension",
                reason="EMBEDDING_MISMATCH",
                kept=f"{space.model}/{space.dimension}",
                got=f"?/{wanted}",
            )
