"""Points as Chroma keeps them.

It compares plain values only, so that lists (who may see a record, what it can be filtered by)
are keys of their own: `acl:@alice`, `mark:["lang","de"]`, `field:lang`. Its document is a text's
words between spaces, as Chroma compares characters; the text is a key, too.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from servers.domain.rag import Where
from servers.kernel.vectors import payloads, words
from servers.kernel.vectors.heads import fits
from servers.kernel.vectors.payloads import Head
from servers.kernel.vectors.ports import Found, Point, Record, Scope
from servers.kernel.vectors.word_table import Weights

_LISTS = {"acl": "acl", "marks": "mark", "fields": "field"}  # of a payload -> keys in Chroma


def id_of(version: str, index: int) -> str:
    return f"{version}/{index}"


def ids_of(heads: Sequence[Head]) -> list[str]:
    """Of all their points."""
    return [id_of(version, index) for record, version in heads for index in range(record.points)]


def document(point: Point, kept_as_words: bool) -> str:
    return f" {' '.join(words.words(point.text))} " if kept_as_words else point.text


def weights(document: str) -> Weights:
    return words.numbered(words.weighed(document.split()))


def payload(tenant: str, record: Record, version: str, points: int) -> dict[str, Any]:
    """What all points of a record say."""
    return payloads.of_record(tenant, record, points) | {"version": version}


def metadata(said: Mapping[str, Any], point: Point, kept_as_words: bool) -> dict[str, Any]:
    own = payloads.of_point(point)
    if not kept_as_words:  # the document is the text
        del own["text"]
    return flat(said) | own


def found_from(metadata: Mapping[str, Any], document: str, similarity: float, vector: Any) -> Found:
    payload = {"text": document} | deep(metadata) | {payloads.VECTOR: vector}
    return payloads.found_from(payload, similarity)


def in_scope(scope: Scope, where: Where, metadata: Mapping[str, Any]) -> bool:
    """Whether a point says so itself."""
    mine: bool = metadata["tenant"] == scope.tenant
    return mine and fits(scope, where, payloads.record_from(deep(metadata)))


def flat(payload: Mapping[str, Any]) -> dict[str, Any]:
    plain = {key: value for key, value in payload.items() if key not in _LISTS}
    plain |= {"ends": True} if "expires_at" in payload else {}
    for key, prefix in _LISTS.items():
        plain |= {f"{prefix}:{each}": True for each in payload[key]}
    return plain


def deep(flat: Mapping[str, Any]) -> dict[str, Any]:
    acl = [key.removeprefix("acl:") for key in flat if key.startswith("acl:")]
    return {**flat, "acl": acl}


def all_of(conditions: Sequence[Any]) -> Any:
    return conditions[0] if len(conditions) == 1 else {"$and": list(conditions)}
