"""Folders of documents, read to be taken in."""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from servers.cli.pairs import pairs
from servers.cli.text import clean, counted
from servers.domain.rag import Document
from servers.kernel.errors import InvalidInput
from servers.kernel.vectors.ports import is_storable
from servers.rag.adapters.readers import ENDINGS, MOST_BYTES


@dataclass(frozen=True, slots=True)
class Folder:
    """Files of a kind that can be read, below a folder; or one file, of whatever kind."""

    path: Path
    uri: str = ""
    meta: Sequence[str] = ()
    acl: Sequence[str] = ()

    def files(self) -> list[Path]:
        if self.path.is_file():
            return [self.path]
        return sorted(filter(self._is_meant, self.path.rglob("*")))

    def passed_over(self, taken: Sequence[Path]) -> Counter[str]:
        """Of files that are of no kind that can be read, how many have which ending."""
        if self.path.is_file():
            return Counter()
        files = set(filter(self._is_seen, self.path.rglob("*"))).difference(taken)
        return Counter(each.suffix or "no ending" for each in files)

    def _is_meant(self, path: Path) -> bool:
        return path.suffix.lower() in ENDINGS and self._is_seen(path)

    def _is_seen(self, path: Path) -> bool:
        hidden = any(part.startswith(".") for part in path.relative_to(self.path).parts)
        return not hidden and path.is_file()

    def document(self, path: Path) -> Document:
        """Raises OSError, and InvalidInput for what is too large to be sent."""
        base = self.path.parent if self.path.is_file() else self.path
        name = path.relative_to(base).as_posix()
        if not is_storable(name):
            raise InvalidInput("its name is not in UTF-8: give it another one")
        if (size := path.stat().st_size) > MOST_BYTES:
            raise InvalidInput(
                f"{size >> 20} MiB are too many: at most {MOST_BYTES >> 20} are taken; divide it"
            )
        uri = f"{self.uri.rstrip('/')}/{quote(name)}" if self.uri else ""
        metadata = dict(pairs(self.meta))
        return Document(name, path.read_bytes(), uri=uri, metadata=metadata, acl=tuple(self.acl))

    async def read(self, files: Sequence[Path]) -> AsyncIterator[tuple[Document | None, str]]:
        """Each as a document, or why it is none."""
        for path in files:
            try:
                yield await asyncio.to_thread(self.document, path), ""
            except (OSError, InvalidInput) as error:
                yield None, f"{clean(str(path))}: {error}"


async def files_of(folder: Folder) -> list[Path]:
    """Raises InvalidInput for what is wrong before anything is sent."""
    files = await asyncio.to_thread(folder.files)
    if not files:
        raise InvalidInput(
            f"there is no document in {str(folder.path)!r}; what can be read ends in "
            + ", ".join(ENDINGS)
        )
    list(pairs(folder.meta))
    return files


async def tell_passed_over(folder: Folder, files: Sequence[Path]) -> None:
    over = await asyncio.to_thread(folder.passed_over, files)
    if over:
        kinds = ", ".join(f"{number} {clean(ending)}" for ending, number in over.most_common(8))
        passed = f"{counted(over.total(), 'file')} of other kinds passed over"
        print(f"{passed} ({kinds})", file=sys.stderr)
