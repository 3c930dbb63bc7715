"""Records and points in SQLite, with their vectors and the weights of their words."""

import sqlite3
from array import array
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from servers.domain.rag import Where
from servers.kernel.vectors import words
from servers.kernel.vectors.ports import Found, Point, Record, Scope, Space, unchanged, values_of

MIGRATIONS = (
    """
    CREATE TABLE space (model TEXT NOT NULL, dimension INTEGER NOT NULL);
    CREATE TABLE changes (n INTEGER NOT NULL);
    INSERT INTO changes VALUES (0);
    CREATE TABLE record (
        number INTEGER PRIMARY KEY, tenant TEXT NOT NULL, id TEXT NOT NULL, title TEXT NOT NULL,
        uri TEXT NOT NULL, content_hash TEXT NOT NULL, points INTEGER NOT NULL,
        metadata TEXT NOT NULL, acl TEXT NOT NULL, updated_at REAL NOT NULL, UNIQUE (tenant, id));
    CREATE TABLE point (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        record INTEGER NOT NULL REFERENCES record ON DELETE CASCADE,
        position INTEGER NOT NULL, start INTEGER NOT NULL, end INTEGER NOT NULL,
        text TEXT NOT NULL, vector BLOB NOT NULL);
    CREATE INDEX point_record ON point (record);
    CREATE VIRTUAL TABLE word USING fts5 (
        text, content = 'point', content_rowid = 'number', tokenize = 'unicode61');
    CREATE TRIGGER point_new AFTER INSERT ON point BEGIN
        INSERT INTO word (rowid, text) VALUES (new.number, new.text);
    END;
    CREATE TRIGGER point_gone AFTER DELETE ON point BEGIN
        INSERT INTO word (word, rowid, text) VALUES ('delete', old.number, old.text);
    END;
    """,
    # Words as `servers.kernel.vectors.words` has them; `unread` is what was there before.
    """
    DROP TRIGGER point_new;
    DROP TRIGGER point_gone;
    DROP TABLE word;
    CREATE TABLE word (
        word INTEGER NOT NULL, point INTEGER NOT NULL, weight REAL NOT NULL,
        PRIMARY KEY (word, point)) WITHOUT ROWID;
    CREATE TABLE unread AS SELECT number FROM point;
    """,
    """
    ALTER TABLE record ADD COLUMN expires_at REAL; -- seconds since the epoch
    CREATE INDEX record_expires ON record (expires_at) WHERE expires_at IS NOT NULL;
    """,
)

_RECORD = (
    "r.id, r.title, r.uri, r.content_hash, r.points, r.metadata, r.acl, r.updated_at, r.expires_at"
)
_POINT = f"p.position, p.text, p.start, p.end, {_RECORD}"


def space(connection: sqlite3.Connection) -> Space | None:
    found = connection.execute("SELECT model, dimension FROM space").fetchone()
    return Space(*found) if found else None


def remember(connection: sqlite3.Connection, space: Space) -> None:
    connection.execute("INSERT INTO space VALUES (?, ?)", (space.model, space.dimension))


def change(connection: sqlite3.Connection) -> int:
    """How many changes there have been."""
    return int(connection.execute("SELECT n FROM changes").fetchone()[0])


def numbers(connection: sqlite3.Connection) -> list[int]:
    return [number for (number,) in connection.execute("SELECT number FROM point")]


def vectors(connection: sqlite3.Connection, numbers: Sequence[int]) -> list[tuple[int, bytes]]:
    sql = "SELECT number, vector FROM point WHERE number IN (SELECT value FROM json_each(?))"
    return connection.execute(sql, (_list(numbers),)).fetchall()


def replace(
    connection: sqlite3.Connection,
    tenant: str,
    new: Record,
    points: Sequence[Point],
    over: Record | None = None,
) -> tuple[list[int], list[int]] | None:
    """Returns the numbers of the points that are gone, and of the new ones; None: `over` is not
    there any more."""
    if over and not unchanged(record(connection, Scope(tenant), over.id), over):
        return None
    gone = delete(connection, tenant, [new.id])
    row = connection.execute(
        "INSERT INTO record (tenant, id, title, uri, content_hash, points, metadata, acl, "
        "updated_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(tenant, new.id, new.title, new.uri, new.content_hash, len(points)),
            *(_json(new.metadata), _json(new.acl), new.updated_at, new.expires_at),
        ),
    ).lastrowid
    added = []
    for each in points:
        sql = (
            "INSERT INTO point (record, position, start, end, text, vector) "
            "VALUES (?, ?, ?, ?, ?, ?)"
        )
        values = (row, each.index, each.start, each.end, each.text, each.vector.tobytes())
        added.append(int(connection.execute(sql, values).lastrowid or 0))
    _keep_words(connection, zip(added, (each.text for each in points), strict=True))
    connection.execute("UPDATE changes SET n = n + 1")
    return gone, added


def delete(connection: sqlite3.Connection, tenant: str, names: Iterable[str]) -> list[int]:
    """Returns the numbers of the points that are gone."""
    gone = [number for name in names for number in _delete(connection, tenant, name)]
    if gone:
        connection.execute("UPDATE changes SET n = n + 1")
    return gone


def sweep(connection: sqlite3.Connection, now: float, most: int) -> tuple[int, list[int]]:
    """Returns how many records were over, and the numbers of their points."""
    sql = "SELECT tenant, id FROM record WHERE expires_at <= ? LIMIT ?"
    found = connection.execute(sql, (now, most)).fetchall()
    return len(found), [n for tenant, name in found for n in delete(connection, tenant, [name])]


def _delete(connection: sqlite3.Connection, tenant: str, record: str) -> list[int]:
    sql = (
        "SELECT number, text FROM point WHERE record = "
        "(SELECT number FROM record WHERE tenant = ? AND id = ?)"
    )
    texts = connection.execute(sql, (tenant, record)).fetchall()
    pairs = [row[:2] for row in _weights(texts)]
    connection.executemany("DELETE FROM word WHERE word = ? AND point = ?", pairs)
    connection.execute("DELETE FROM record WHERE tenant = ? AND id = ?", (tenant, record))
    return [number for number, _ in texts]


def record(connection: sqlite3.Connection, scope: Scope, name: str) -> Record | None:
    condition, values = _condition(scope, {})
    sql = f"SELECT {_RECORD} FROM record r WHERE {condition} AND r.id = ?"
    found = connection.execute(sql, (*values, name)).fetchone()
    return _record(found) if found else None


def records(
    connection: sqlite3.Connection, scope: Scope, after: str, limit: int, where: Where
) -> list[Record]:
    condition, values = _condition(scope, where)
    sql = f"SELECT {_RECORD} FROM record r WHERE {condition} AND r.id > ? ORDER BY r.id LIMIT ?"
    return [_record(row) for row in connection.execute(sql, (*values, after, limit))]


def seen(connection: sqlite3.Connection, scope: Scope, where: Where) -> "array[int]":
    """The numbers of all points that a query may find."""
    condition, values = _condition(scope, where)
    sql = f"SELECT p.number FROM record r JOIN point p ON p.record = r.number WHERE {condition}"
    return array("q", (number for (number,) in connection.execute(sql, values)))


def over(connection: sqlite3.Connection, tenant: str, now: float) -> list[int]:
    """The numbers of the points of records that are over, and not swept yet."""
    sql = (
        "SELECT p.number FROM record r JOIN point p ON p.record = r.number "
        "WHERE r.expires_at <= ? AND r.tenant = ?"
    )
    return [number for (number,) in connection.execute(sql, (now, tenant))]


def found(
    connection: sqlite3.Connection,
    near: Sequence[tuple[int, float]],
    with_vectors: bool = False,
) -> list[Found]:
    sql = (
        f"SELECT p.number, {_POINT} FROM point p JOIN record r ON r.number = p.record "
        "WHERE p.number IN (SELECT value FROM json_each(?))"
    )
    rows = {row[0]: row[1:] for row in connection.execute(sql, (_list([n for n, _ in near]),))}
    kept = dict(vectors(connection, list(rows))) if with_vectors else {}
    return [
        _found(rows[number], similarity, kept.get(number))
        for number, similarity in near
        if number in rows
    ]


def read_words(connection: sqlite3.Connection, most: int) -> int:
    """Of points that an older version wrote. Returns how many; 0: none are left."""
    # By its rowid: to look for a number would read the whole table each time.
    sql = "SELECT rowid, number FROM unread ORDER BY rowid LIMIT ?"
    unread = connection.execute(sql, (most,)).fetchall()
    if not unread:
        return 0
    sql = "SELECT number, text FROM point WHERE number IN (SELECT value FROM json_each(?))"
    asked = _list([number for _, number in unread])
    _keep_words(connection, connection.execute(sql, (asked,)).fetchall())
    connection.execute("DELETE FROM unread WHERE rowid <= ?", (unread[-1][0],))
    return len(unread)


def _keep_words(connection: sqlite3.Connection, texts: Iterable[tuple[int, str]]) -> None:
    connection.executemany("INSERT INTO word VALUES (?, ?, ?)", _weights(texts))


def _weights(texts: Iterable[tuple[int, str]]) -> list[tuple[int, int, float]]:
    """Word, point and weight; in the table's order, as its pages are then found faster."""
    rows = []
    for point, text in texts:
        of = words.numbered(words.weights(text))
        rows += [(word, point, weight) for word, weight in of.items()]
    return sorted(rows)


def knows(connection: sqlite3.Connection, tenant: str, key: str) -> bool:
    sql = "SELECT 1 FROM record r, json_each(r.metadata) m WHERE r.tenant = ? AND m.key = ? LIMIT 1"
    return connection.execute(sql, (tenant, key)).fetchone() is not None


def count(connection: sqlite3.Connection, tenant: str) -> int:
    sql = "SELECT coalesce(sum(points), 0) FROM record WHERE tenant = ?"
    return int(connection.execute(sql, (tenant,)).fetchone()[0])


def _condition(scope: Scope, where: Where) -> tuple[str, list[Any]]:
    """What is in scope, as SQL on the table `record r`."""
    parts: list[str] = ["r.tenant = ?"]
    values: list[Any] = [scope.tenant]
    if scope.principal is not None:
        parts.append("(r.acl = '[]' OR EXISTS (SELECT 1 FROM json_each(r.acl) WHERE value = ?))")
        values.append(scope.principal)
    if scope.now is not None:
        parts.append("(r.expires_at IS NULL OR r.expires_at > ?)")
        values.append(scope.now)
    for key, wanted in values_of(where):
        # Types count: json_each tells a truth value from 1.
        parts.append(
            "EXISTS (SELECT 1 FROM json_each(r.metadata) m, json_each(?) w WHERE m.key = ? "
            "AND m.value = w.value AND (m.type IN ('true', 'false')) = "
            "(w.type IN ('true', 'false')))"
        )
        values += [_json(wanted), key]
    return " AND ".join(parts), values


def _record(row: Sequence[Any]) -> Record:
    name, title, uri, content_hash, points, metadata, acl, *times = row
    seen_by = tuple(orjson.loads(acl))
    return Record(name, title, uri, content_hash, points, orjson.loads(metadata), seen_by, *times)


def _found(row: Sequence[Any], similarity: float, packed: bytes | None) -> Found:
    index, text, start, end, *rest = row
    vector = None if packed is None else array("f", packed)
    return Found(_record(rest), index, text, start, end, similarity, vector)


def _json(value: Any) -> str:
    return orjson.dumps(dict(value) if hasattr(value, "keys") else list(value)).decode()


def _list(numbers: Sequence[int]) -> str:
    return orjson.dumps(list(numbers)).decode()
