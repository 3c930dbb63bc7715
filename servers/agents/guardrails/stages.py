"""One rule at work on one text that comes in pieces."""

from typing import Protocol

from servers.agents.guardrails.spans import Scanner


class Stage(Protocol):
    @property
    def count(self) -> int:
        """How often the rule applied so far."""
        ...

    @property
    def blocked(self) -> bool:
        """From then on nothing comes out."""
        ...

    def feed(self, piece: str, final: bool) -> str:
        """What may be let go now. `final`: nothing comes after this piece."""
        ...


class Spans:
    """Redacts what a scanner finds, or blocks from the first find on."""

    def __init__(self, scanner: Scanner, blocks: bool) -> None:
        self._scanner = scanner
        self._blocks = blocks
        self._text = ""  # what is held, behind what the scanner may look back at
        self._begin = 0
        self._covered = 0  # so far what was found has been replaced
        self.count = 0
        self.blocked = False

    def feed(self, piece: str, final: bool) -> str:
        text = self._text + piece
        scan = self._scanner.scan(text, self._begin, final)
        out, at = [], max(self._begin, self._covered)
        for span in scan.spans:
            if span.end <= at:
                continue
            self.count += 1
            out.append(text[at : span.start])
            if self._blocks:
                self.blocked, self._text = True, ""
                return "".join(out)
            out.append(span.replacement)
            at = span.end
        out.append(text[at : scan.held])
        looked_back_at = max(scan.held - self._scanner.context, 0)
        self._text, self._begin = text[looked_back_at:], scan.held - looked_back_at
        self._covered = max(at, scan.held) - looked_back_at
        return "".join(out)


class Watching:
    """Counts what another would do, and lets everything go at once."""

    blocked = False

    def __init__(self, other: Stage) -> None:
        self._other = other

    @property
    def count(self) -> int:
        return self._other.count

    def feed(self, piece: str, final: bool) -> str:
        self._other.feed(piece, final)
        return piece


class Cutting:
    """Drops what goes beyond a length."""

    blocked = False

    def __init__(self, most: int) -> None:
        self._room = most
        self.count = 0

    def feed(self, piece: str, final: bool) -> str:
        kept = piece[: self._room]
        self._room -= len(kept)
        if len(kept) < len(piece):
            self.count = 1
        return kept


class Limiting:
    """Blocks a text beyond a length. Before its end nobody knows, so all of it is held."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._pieces: list[str] = []
        self._length = 0
        self.count = 0
        self.blocked = False

    def feed(self, piece: str, final: bool) -> str:
        self._length += len(piece)
        if self._length > self._most:
            self.count, self.blocked = 1, True
            self._pieces.clear()
            return ""
        self._pieces.append(piece)
        if not final:
            return ""
        whole = "".join(self._pieces)
        self._pieces.clear()
        return whole
