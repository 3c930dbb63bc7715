"""Which pipelines there are after their files were read again."""

import pytest

from servers.kernel.yaml_text import Document
from servers.rag.catalogue import changed, taken_over
from servers.rag.declared import DeclaredPipeline, pipeline_of


def sound(name, origin="", **spec):
    manifest = {
        "apiVersion": "astromesh/v1",
        "kind": "RAGPipeline",
        "metadata": {"name": name},
        "spec": spec,
    }
    pipeline = pipeline_of(Document(manifest), {}, lambda _: ())
    return DeclaredPipeline(name, origin or f"{name}.rag.yaml", pipeline)


def faulty(name, origin="", reason="wrong"):
    return DeclaredPipeline(name, origin or f"{name}.rag.yaml", reason=reason)


def taken(old, *declared, users=()):
    before = {each.name: each for each in old}
    return taken_over(before, declared, {name: ["helper"] for name in users})


DOCS, MANUAL = sound("docs"), sound("manual")
OTHER = sound("docs", retrieval={"top_k": 9})


class TestAFile:
    def test_that_is_new_brings_its_pipeline(self):
        assert taken([DOCS], DOCS, MANUAL) == {"docs": DOCS, "manual": MANUAL}

    def test_that_changed_changes_it(self):
        assert taken([DOCS], OTHER) == {"docs": OTHER}

    def test_that_is_gone_takes_it_away(self):
        assert taken([DOCS, MANUAL], MANUAL) == {"manual": MANUAL}

    def test_of_another_name_with_the_same_pipeline_changes_nothing_but_where_it_is(self):
        moved = sound("docs", "b.rag.yaml")
        assert taken([DOCS], moved) == {"docs": moved}
        assert changed({"docs": DOCS}, {"docs": moved}) == frozenset()

    def test_that_is_faulty_from_the_beginning_is_listed_with_its_reason(self):
        assert taken([], faulty("docs")) == {"docs": faulty("docs")}


class TestAFileThatBecameFaulty:
    @pytest.mark.parametrize(
        ("was", "now"),
        [
            ("docs", faulty("docs")),
            ("docs", faulty("docs", "other.rag.yaml")),
            ("manual", faulty("docs", "docs.rag.yaml")),  # its name can't be read any more
        ],
        ids=["by its name", "by its name elsewhere", "by its file"],
    )
    def test_leaves_its_pipeline_as_it_was_and_says_why(self, was, now):
        old = sound(was, "docs.rag.yaml")
        (kept,) = taken([old], now).values()
        assert (kept.name, kept.pipeline, kept.reason) == (was, old.pipeline, "wrong")

    def test_again_tells_the_newest_reason(self):
        first = taken([DOCS], faulty("docs", reason="first"))
        (kept,) = taken(first.values(), faulty("docs", reason="second")).values()
        assert (kept.pipeline, kept.reason) == (DOCS.pipeline, "second")

    def test_and_was_repaired_has_no_reason_any_more(self):
        assert taken(taken([DOCS], faulty("docs")).values(), OTHER) == {"docs": OTHER}

    def test_gives_way_to_another_file_with_its_pipeline(self):
        moved = sound("docs", "b.rag.yaml")
        found = taken([DOCS], faulty("docs", "docs.rag.yaml"), moved)
        assert found["docs"] == moved


class TestAPipelineThatAgentsName:
    def test_goes_on_without_its_file_and_says_why(self):
        (kept,) = taken([DOCS], users=["docs"]).values()
        assert kept.pipeline == DOCS.pipeline
        assert "docs.rag.yaml" in kept.reason
        assert "'helper'" in kept.reason

    def test_ends_when_they_name_it_no_more(self):
        assert taken(taken([DOCS], users=["docs"]).values()) == {}

    def test_has_no_reason_when_its_file_is_back(self):
        assert taken(taken([DOCS], users=["docs"]).values(), DOCS) == {"docs": DOCS}

    def test_that_never_worked_ends_with_its_file(self):
        assert taken([faulty("docs")], users=["docs"]) == {}


def test_what_changed_is_what_is_new_or_other_than_before():
    before = {"docs": DOCS, "same": sound("same"), "broken": faulty("broken")}
    after = {"docs": OTHER, "same": sound("same"), "broken": faulty("broken"), "manual": MANUAL}
    assert changed(before, after) == {"docs", "manual"}
