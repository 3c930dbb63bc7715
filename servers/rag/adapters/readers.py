"""Reads files of several kinds into text. Blocking: to be called in threads."""

import csv
import io
import re
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from servers.kernel.errors import InvalidInput, NotReady
from servers.rag.ports import Contents

MOST_BYTES = 64 << 20  # of a file
MOST_CHARACTERS = 16 << 20  # of its text
_MOST_PAGES = 5_000
_DEEPEST = 200  # of what stands in what, in JSON
_MOST_UNPACKED = 256 << 20  # bytes, of a DOCX

TEXT, MARKDOWN, HTML = "text/plain", "text/markdown", "text/html"
PDF, CSV, JSON = "application/pdf", "text/csv", "application/json"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"

ENDINGS = {
    ".txt": TEXT,
    ".text": TEXT,
    ".log": TEXT,
    ".rst": TEXT,
    ".md": MARKDOWN,
    ".markdown": MARKDOWN,
    ".html": HTML,
    ".htm": HTML,
    ".pdf": PDF,
    ".docx": DOCX,
    ".csv": CSV,
    ".json": JSON,
    ".jsonl": JSON,
    ".ndjson": JSON,
}

_HEADING = re.compile(r"^#{1,2} +(.+?) *#*$", re.MULTILINE)
_GAPS = re.compile(r"[ \t]*\n\s*\n\s*")
_UNSEEN = ("script", "style", "noscript", "template", "svg")
_BLOCKS = "p, h1, h2, h3, h4, h5, h6, li, tr, blockquote, pre, section, article, div"


def media_type_of(name: str) -> str:
    """By the ending of a file's name; plain text where that says nothing."""
    _, dot, ending = name.rpartition(".")
    return ENDINGS.get(f".{ending.lower()}", TEXT) if dot else TEXT


def read(content: bytes, media_type: str) -> Contents:
    """Satisfies `ports.Reader`."""
    if len(content) > MOST_BYTES:
        raise _too_large(f"it has more than {MOST_BYTES >> 20} MiB")
    plain = media_type.partition(";")[0].strip().lower()
    if plain not in _READERS:
        known = ", ".join(_READERS)
        raise _unreadable(f"nothing reads {media_type!r}; there are readers for {known}")
    try:
        contents = _READERS[plain](content)
    except ModuleNotFoundError as missing:
        raise NotReady(
            f"files of type {plain} need the package {missing.name!r}: "
            "pip install 'astromesh-grpc[rag]'",
            reason="EXTRA_MISSING",
            extra="rag",
            module=missing.name or "",
        ) from missing
    if len(contents.text) > MOST_CHARACTERS:
        raise _too_large(f"its text has more than {MOST_CHARACTERS} characters")
    return Contents(_storable(contents.text), _storable(contents.title).strip()[:500])


def _plain(content: bytes) -> Contents:
    return Contents(_decoded(content))


def _markdown(content: bytes) -> Contents:
    """As it is written: models read Markdown, and spans are then those of the file."""
    text = _decoded(content)
    heading = _HEADING.search(text)
    return Contents(text, heading[1] if heading else "")


def _html(content: bytes) -> Contents:
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser(_decoded(content))
    tree.strip_tags([*_UNSEEN])
    title = tree.css_first("title")
    for block in tree.css(_BLOCKS):
        block.insert_after("\n\n")
    for line in tree.css("br"):
        line.replace_with("\n")
    text = tree.body.text() if tree.body else ""
    return Contents(_GAPS.sub("\n\n", text).strip(), title.text() if title else "")


def _pdf(content: bytes) -> Contents:
    from pypdf import PdfReader

    return _guarded("PDF", lambda: _pages(PdfReader(io.BytesIO(content))))


def _pages(reader: Any) -> Contents:
    if reader.is_encrypted and not reader.decrypt(""):
        raise _unreadable("the PDF needs a password")
    if len(reader.pages) > _MOST_PAGES:
        raise _too_large(f"it has more than {_MOST_PAGES} pages")
    parts, length = [], 0
    for page in reader.pages:
        parts.append(page.extract_text())
        length += len(parts[-1])
        if length > MOST_CHARACTERS:
            raise _too_large(f"its text has more than {MOST_CHARACTERS} characters")
    title = reader.metadata.title if reader.metadata else None
    return Contents("\n\n".join(parts), str(title or ""))


def _docx(content: bytes) -> Contents:
    from docx import Document

    return _guarded("DOCX", lambda: _paragraphs(content, Document))


def _paragraphs(content: bytes, open_document: Callable[..., Any]) -> Contents:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(each.file_size for each in archive.infolist()) > _MOST_UNPACKED:
            raise _too_large(f"unpacked it is larger than {_MOST_UNPACKED >> 20} MiB")
    document = open_document(io.BytesIO(content))
    return Contents("\n\n".join(_parts_of(document)), document.core_properties.title or "")


def _parts_of(document: Any) -> Iterator[str]:
    """Paragraphs and tables in their order."""
    for each in document.iter_inner_content():
        if hasattr(each, "rows"):
            yield "\n".join(" | ".join(cell.text for cell in row.cells) for row in each.rows)
        elif each.text.strip():
            yield each.text


def _csv(content: bytes) -> Contents:
    """Each row with the names of its columns, so that a chunk says what its values are."""
    text = _decoded(content)
    try:
        dialect = csv.Sniffer().sniff(text[:8192], delimiters=",;\t|")
    except csv.Error:
        dialect = csv.excel
    try:
        rows = csv.reader(io.StringIO(text, newline=""), dialect)
        names = next(rows, [])
        lines = (_row(names, row) for row in rows)
        return Contents("\n\n".join(each for each in lines if each))
    except csv.Error as error:
        raise _unreadable(f"no CSV: {error}") from error


def _row(names: list[str], row: list[str]) -> str:
    named = zip(names + [""] * (len(row) - len(names)), row, strict=False)
    return "\n".join(f"{name}: {value}" if name else value for name, value in named if value)


def _json(content: bytes) -> Contents:
    """A line for each value, with the path to it. JSON lines are read, too."""
    text = _decoded(content)
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        try:
            value = [orjson.loads(line) for line in text.split("\n") if line.strip()]
        except orjson.JSONDecodeError:
            raise _unreadable(f"no JSON: {error}") from error
    title = value.get("title") if isinstance(value, dict) else None
    groups = value if isinstance(value, list) else [value]
    texts = ("\n".join(_lines(each, "")) for each in groups)
    return Contents("\n\n".join(texts), title if isinstance(title, str) else "")


def _lines(value: Any, path: str, depth: int = 0) -> Iterator[str]:
    if depth > _DEEPEST:
        raise _unreadable(f"it is nested more than {_DEEPEST} deep")
    match value:
        case dict():
            for key, each in value.items():
                yield from _lines(each, f"{path}.{key}" if path else key, depth + 1)
        case list():
            for index, each in enumerate(value):
                yield from _lines(each, f"{path}[{index}]", depth + 1)
        case None:
            return
        case str():
            yield f"{path}: {value}" if path else value
        case _:
            shown = orjson.dumps(value).decode()
            yield f"{path}: {shown}" if path else shown


_READERS: dict[str, Callable[[bytes], Contents]] = {
    TEXT: _plain,
    MARKDOWN: _markdown,
    HTML: _html,
    PDF: _pdf,
    DOCX: _docx,
    CSV: _csv,
    JSON: _json,
}


def _decoded(content: bytes) -> str:
    """UTF-8, or UTF-16 with its mark; line ends as one character."""
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise _unreadable(
            f"it is no text in UTF-8 (byte {error.start} is {content[error.start]:#04x}); "
            "convert it, or name its media_type"
        ) from error
    if "\0" in text:
        raise _unreadable("it holds NUL bytes, so it is no text; name its media_type")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _guarded(kind: str, work: Callable[[], Contents]) -> Contents:
    """What libraries raise for broken files is of many kinds."""
    try:
        return work()
    except (InvalidInput, ModuleNotFoundError, MemoryError):
        raise
    except Exception as error:
        why = str(error)[:200] or type(error).__name__
        raise _unreadable(f"broken {kind}, is the file whole? {why}") from error


def _storable(text: str) -> str:
    """Without what no database takes: NUL, and halves of surrogate pairs."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def _unreadable(why: str) -> InvalidInput:
    return InvalidInput(f"can't be read: {why}", reason="DOCUMENT_UNREADABLE")


def _too_large(why: str) -> InvalidInput:
    return InvalidInput(f"is too large: {why}; divide it", reason="DOCUMENT_TOO_LARGE")
