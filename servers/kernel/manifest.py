"""The envelope that every YAML resource shares, and how one is read.

A manifest is brought to one spelling, its variables are expanded, what this version can't
do is refused, and the rest is validated. All that is wrong is reported at once, each with
file, line and field.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError, model_validator

from servers.kernel.canonical import canonical, redacted
from servers.kernel.errors import InvalidInput, Violation
from servers.kernel.explain import MISSING, described, explained, nearest
from servers.kernel.fields import Name
from servers.kernel.later import Later, refusals
from servers.kernel.paths import Path, Wrong, dotted, starts
from servers.kernel.spelling import Spelling
from servers.kernel.variables import Expansion
from servers.kernel.yaml_text import REASON, Document, read_yaml

API_VERSION = "astromesh/v1"


class Strict(BaseModel):
    """A typo in a manifest is an error, and a loaded manifest never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # Keys that `respell` takes away: named beside the fields when a key is unknown.
    also: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, written: Any) -> Any:
        """`tools:` with nothing behind it is the same as no `tools:`."""
        if not isinstance(written, dict):
            return written
        return {key: value for key, value in written.items() if value is not None}


class Metadata(Strict):
    name: Name
    version: str = ""
    namespace: str = ""
    labels: dict[str, str] = {}  # pydantic copies defaults
    annotations: dict[str, str] = {}


class Manifest(Strict):
    """Subclass this with a `kind` literal and a `spec`."""

    later: ClassVar[Sequence[Later]] = ()

    api_version: Literal["astromesh/v1"]
    kind: str
    metadata: Metadata

    # Where variables were used, and the text before: shown to others instead of their values.
    _variables: Mapping[Path, str] = PrivateAttr(default_factory=dict)

    @classmethod
    def respell(cls, spelling: Spelling) -> None:
        """Bring other accepted spellings of the spec to the models' own. For overriding."""

    def inconsistencies(self) -> Iterable[Wrong]:
        """What is wrong although each value is of its type. For overriding."""
        return ()

    def canonical(self) -> dict[str, Any]:
        """The JSON tree of the resource: set keys only, one spelling each, secrets included."""
        return canonical(self)

    def public(self) -> dict[str, Any]:
        """`canonical` for other eyes: secrets are ``***``, variables not expanded."""
        return redacted(self, self._variables)


M = TypeVar("M", bound=Manifest)


def kind_of(document: Document) -> str:
    """What the document says it is, or an empty text."""
    found = document.value.get("kind") if isinstance(document.value, dict) else None
    return found if isinstance(found, str) else ""


def parse(kind: type[M], document: Document, env: Mapping[str, str] | None = None) -> M:
    """The manifest in a document. Without `env` variables stay as they are written.

    Raises InvalidInput (MANIFEST_INVALID) with every violation.
    """
    _check_envelope(kind, document)
    spelling = Spelling(document.value)
    spelling.rename("", {"apiVersion": "api_version"})
    kind.respell(spelling)
    expansion = Expansion(env or {})
    value = spelling.value if env is None else expansion.expand(spelling.value)
    refused = list(refusals(value, kind.later))
    manifest, wrong = _validated(kind, value)
    wrong.extend(manifest.inconsistencies() if manifest else ())
    wrong = [each for each in wrong if not any(starts(each.path, r.part) for r in refused)]
    found = [*expansion.missing, *(each.wrong for each in refused), *wrong]
    found = [*spelling.conflicts, *(Wrong(spelling.written(path), says) for path, says in found)]
    if manifest is None or found:
        raise invalid(document, found)
    manifest._variables = expansion.sources
    return manifest


def load(kind: type[M], text: str | bytes, origin: str, env: Mapping[str, str]) -> tuple[M, ...]:
    """All manifests of a file that holds one kind only."""
    return tuple(parse(kind, document, env) for document in read_yaml(text, origin))


def invalid(document: Document, found: Iterable[Wrong]) -> InvalidInput:
    """The error for what was found: every violation, and the first one as the message."""
    # From top to bottom; a key that is missing may be the one that is misspelt.
    wrong = sorted(found, key=lambda each: (document.line(each.path) or 0, each.says == MISSING))
    violations = tuple(Violation(dotted(path), says) for path, says in wrong)
    first = ": ".join(part for part in (violations[0].field, violations[0].description) if part)
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    line = document.line(wrong[0].path)
    where = f"{document.origin}:{line}" if line else document.origin
    return InvalidInput(
        f"{where}: {first}{more}" if document.origin else f"{first}{more}",
        reason=REASON,
        violations=violations,
    )


def _validated(kind: type[M], value: Any) -> tuple[M | None, list[Wrong]]:
    try:
        return kind.model_validate(value), []
    except ValidationError as error:
        return None, explained(kind, error)


def _check_envelope(kind: type[Manifest], document: Document) -> None:
    """With the wrong version or kind nothing else that could be said would be right."""
    value = document.value
    if not isinstance(value, dict):
        keys = "apiVersion, kind, metadata and spec"
        says = f"expected a mapping with {keys}, found {described(value)}"
        raise invalid(document, [Wrong((), says)])
    key = "api_version" if "api_version" in value else "apiVersion"
    expected = {key: API_VERSION, "kind": kind.model_fields["kind"].annotation.__args__[0]}  # type: ignore[union-attr]
    found = [
        Wrong((name,), _differs(value.get(name), wanted))
        for name, wanted in expected.items()
        if value.get(name) != wanted
    ]
    if found:
        raise invalid(document, found)


def _differs(found: Any, wanted: str) -> str:
    if found is None:
        return f"is missing; expected {wanted!r}"
    shown = repr(found[:60]) if isinstance(found, str) else described(found)
    hint = nearest(found, [wanted]) if isinstance(found, str) else ""
    return f"expected {wanted!r}, found {shown}" + (hint if "mean" in hint else "")
