"""Writes zeros over what a SQLite file has and no longer uses.

`secure_delete` is not enough: where SQLite moves a row to another page to make room, the old
page keeps a copy in its unused middle, and what is deleted later is deleted from the new page
alone (1 to 3 of 100 short texts stayed). VACUUM leaves nothing, and writes the whole file anew.

Everything here follows https://www.sqlite.org/fileformat2.html. Only bytes that hold nothing are
written, and only in pages that are in every respect as they should be. A crash leaves some of them
written and others not, and no other byte changed: that a write leaves alone what is beside it,
power loss or not, is what SQLite itself builds on (its "powersafe overwrite").
"""

import os
from collections.abc import Iterator
from errno import EIO
from struct import unpack_from
from typing import Final, TypeAlias

Ranges: TypeAlias = list[tuple[int, int]]  # from, to, within a page

_HEADER: Final = 100  # bytes of the file's own, in its first page
_MAGIC: Final = b"SQLite format 3\x00"
_HEADERS: Final = {2: 12, 5: 12, 10: 8, 13: 8}  # kind of a tree's page -> bytes of its header
# Pages of long values begin with the number of the next one: in a bigger file its first byte
# could be taken for the kind of a tree's page.
_MOST_PAGES: Final = 1 << 24
_AT_ONCE: Final = 256  # pages that are read together


def scrub(file: int, first: int = 1, most: int = _MOST_PAGES) -> int | None:
    """Looks at so many pages. Returns the one to go on with, 0 after the last one. None: the file
    is of a kind that this does not know, and was left as it is.

    Whoever calls holds SQLite's lock for writing, all that was written must be in the file, none of
    it in a log, and no connection may write pages that it has read before.
    """
    header = os.pread(file, _HEADER, 0)
    if not header:
        return 0  # nothing was ever written
    if len(header) < _HEADER or not header.startswith(_MAGIC):
        return None
    (stated,) = unpack_from(">H", header, 16)
    size = 65536 if stated == 1 else stated
    pages = os.fstat(file).st_size // size
    (moving,) = unpack_from(">I", header, 52)
    # Pages that tell where others are look like a tree's; what an extension keeps at the end of
    # each page may be a checksum of all that is before it.
    if pages >= _MOST_PAGES or moving or header[20]:
        return None
    free = _free(file, size, pages, header)
    if free is None:
        return None
    changed = False
    for number, page in _pages(file, size, first, min(pages, first + most - 1)):
        unused = free[number] if number in free else _unused(page, size, number == 1)
        changed |= _zeroed(file, (number - 1) * size, page, unused)
    if changed:
        os.fsync(file)
    return first + most if first + most <= pages else 0


def _pages(file: int, size: int, first: int, last: int) -> Iterator[tuple[int, memoryview]]:
    for start in range(first, last + 1, _AT_ONCE):
        count = min(_AT_ONCE, last + 1 - start)
        some = memoryview(os.pread(file, count * size, (start - 1) * size))
        if len(some) < count * size:
            raise OSError(EIO, "a part of the database could not be read")
        for at in range(count):
            yield start + at, some[at * size : (at + 1) * size]


def _free(file: int, size: int, pages: int, header: bytes) -> dict[int, Ranges] | None:
    """The unused pages, and what of each holds nothing. None: their list is not sound."""
    trunk, count = unpack_from(">II", header, 32)
    free: dict[int, Ranges] = {}
    while trunk:
        if trunk > pages or trunk in free:
            return None
        page = os.pread(file, size, (trunk - 1) * size)
        following, leaves = unpack_from(">II", page)
        end = 8 + 4 * leaves
        if end > size:
            return None
        free[trunk] = [(end, size)]
        free |= {leaf: [(0, size)] for leaf in unpack_from(f">{leaves}I", page, 8)}
        trunk = following
    return free if len(free) == count and all(1 < each <= pages for each in free) else None


def _unused(page: memoryview, usable: int, first: bool) -> Ranges:
    """Of a page of a tree: its middle, and what was freed between its cells. Of others nothing."""
    start = _HEADER if first else 0
    length = _HEADERS.get(page[start])
    if length is None:
        return []
    freed, cells, stated = unpack_from(">HHH", page, start + 1)
    pointers = start + length
    middle, content = pointers + 2 * cells, stated or 65536
    if not middle <= content <= usable:
        return []
    if any(not content <= at < usable for at in unpack_from(f">{cells}H", page, pointers)):
        return []
    ranges, end = [(middle, content)], content
    while freed:
        if not end <= freed <= usable - 4:
            return []
        following, size = unpack_from(">HH", page, freed)
        end = freed + size
        if size < 4 or end > usable:
            return []
        ranges.append((freed + 4, end))
        freed = following
    return ranges


def _zeroed(file: int, offset: int, page: memoryview, unused: Ranges) -> bool:
    changed = False
    for start, end in unused:
        zeros = bytes(end - start)
        if page[start:end] != zeros:
            _write(file, zeros, offset + start)
            changed = True
    return changed


def _write(file: int, zeros: bytes, offset: int) -> None:
    while zeros:
        written = os.pwrite(file, zeros, offset)
        zeros, offset = zeros[written:], offset + written
