"""Every link between the pages leads somewhere."""

import re

import pytest

from tests.docs.tour import ROOT

PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "envoy").glob("*.md")]
LINK = re.compile(r"\]\((?!https?:)([^)#]+)[^)]*\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_its_links_lead_somewhere(page):
    assert [to for to in LINK.findall(page.read_text()) if not (page.parent / to).exists()] == []
