"""spec.runs of runtime.yaml: where runs are kept, and for how long."""

from pathlib import Path

import pytest

from servers.config import load_config
from servers.config.runtime import RunSettings
from servers.kernel.errors import InvalidInput

RUNTIME = "apiVersion: astromesh/v1\nkind: RuntimeConfig\nmetadata: {name: r}\nspec: {runs: "


def runs(folder: Path, text: str) -> RunSettings:
    (folder / "runtime.yaml").write_text(RUNTIME + text + "}\n")
    return load_config(folder, folder, {"PASSWORD": "hunter2"}).runtime.runs


def test_are_in_sqlite_and_for_ever_where_nothing_is_said(tmp_path):
    assert runs(tmp_path, "{}") == RunSettings(
        backend="sqlite", dsn="", lease_seconds=15.0, ttl=None, compact_after=None
    )


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_are_in_postgresql_where_it_is_named(tmp_path, scheme):
    found = runs(
        tmp_path,
        f"{{backend: postgres, dsn: '{scheme}://me:${{PASSWORD}}@h:7/d', lease_seconds: 5}}",
    )
    assert (found.dsn, found.lease_seconds) == (f"{scheme}://me:hunter2@h:7/d", 5.0)
    assert "hunter2" not in repr(found)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql:///d?host=/run/postgresql",
        "postgresql://me@h1:5432,h2:5433/d?target_session_attrs=primary",
        "postgresql://me:hunter2@[::1]:5432/d",
    ],
)
def test_are_in_a_postgresql_wherever_it_is(tmp_path, dsn):
    assert runs(tmp_path, f"{{backend: postgres, dsn: '{dsn}'}}").dsn == dsn


@pytest.mark.parametrize(
    "dsn", ["h:7", "http://me:hunter2@h/d", "postgresql://me:hunter2@h:x/d", "mysql://h/d"]
)
def test_are_not_where_an_address_makes_no_sense(tmp_path, dsn):
    with pytest.raises(InvalidInput, match=r"spec\.runs\.dsn: expected postgresql://") as caught:
        runs(tmp_path, f"{{backend: postgres, dsn: '{dsn}'}}")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{backend: postgres}", r"spec\.runs: .*add dsn: \$\{DATABASE_URL\}"),
        ("{backend: postgres, dsn: '${NOT_SET:-}'}", r"spec\.runs: .*add dsn"),
        ("{dsn: 'postgresql://h/d'}", r"spec\.runs: .*add backend: postgres"),
        ("{backend: redis}", r"spec\.runs\.backend: .*known are sqlite, postgres"),
        ("{ttl: 60, compact_after: 60}", r"spec\.runs: compact_after .*less than ttl"),
        ("{ttl: 0}", r"spec\.runs\.ttl"),
        ("{compact_after: -1}", r"spec\.runs\.compact_after"),
        ("{lease_seconds: 0.5}", r"spec\.runs\.lease_seconds"),
        ("{lease_seconds: 4000}", r"spec\.runs\.lease_seconds"),
        ("{lease: 5}", r"spec\.runs\.lease: .*lease_seconds"),
    ],
)
def test_mistakes_are_named_with_the_fix(tmp_path, text, said):
    with pytest.raises(InvalidInput, match=said):
        runs(tmp_path, text)
