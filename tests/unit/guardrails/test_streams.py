"""What a stream lets go is what the whole text would have been, and never more."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servers.agents.guardrails.contents import width
from servers.domain.runs import Direction
from tests.unit.guardrails.ruling import rule, rules

OUT = Direction.OUTPUT
TOPICS = ["drugs", "self-harm", "the secret plan", "毒品", "plan b", "café"]
KEYWORDS = ["bomb", "ombre", "a.b", "STRASSE", "secret plan"]
PATTERNS = [
    r"sk-[a-z0-9]{2,6}",
    r"\bid\d{1,3}\b",
    r"^so",
    r"(?m)end$",
    r"x(?i:y)\pL?",
    r"[[:digit:]]%",
]
UNBOUNDED = [r"\d+", r"<.*>", r"q[^u]+u$"]
WRITTEN = [
    rule("pii_detection", "{}"),
    rule("pii_detection", "{}", entities=["email", "ip"]),
    rule("topic_filter", "{}", topics=TOPICS),
    rule("content_filter", "{}", keywords=KEYWORDS),
    rule("content_filter", "{}", keywords=KEYWORDS, patterns=PATTERNS),
    rule("content_filter", "{}", patterns=PATTERNS),
    rule("content_filter", "{}", patterns=UNBOUNDED),
    rule("max_length", "{}", max_chars=7),
    rule("max_length", "{}", max_chars=40),
]


def acting(*actions: str) -> st.SearchStrategy:
    return st.builds(
        lambda written, action: written.model_copy(update={"action": action}),
        st.sampled_from(WRITTEN),
        st.sampled_from(actions),
    )


FRAGMENTS = [
    *TOPICS,
    *KEYWORDS,
    *("ada@example.com", "10.0.0.1", "+1 (555) 123-4567", "4111 1111 1111 1111", "123-45-6789"),
    *("DE89 3704 0044 0532 0130 00", "sk-ab12", "id12", "so", "end", "xY", "5%", "<a>", "qou"),
    *("bom", "self", "the secret", "sk-", "Drugs", "cafe\u0301", "\u0301", "straße", "plan"),
    *" \n.,-_@1a",
]
pieces = st.one_of(
    st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=2), max_size=12),
    # Chains: what is found in them shares characters with what is found next.
    st.lists(
        st.sampled_from(["bombre", "bom", "ombre", "4111 1111 1111 1111 ", "1", " "]),
        min_size=30,
        max_size=150,
    ),
)


def split(text: str, data: st.DataObject) -> list[str]:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def streamed(found, parts):
    guard = found.stream(OUT)
    out = [*map(guard.feed, parts), guard.close()]
    return out, guard


class TestAStream:
    @given(pieces, st.lists(acting("redact", "warn"), min_size=1, max_size=4), st.data())
    @settings(max_examples=600)
    def test_gives_what_the_whole_gives_however_it_is_split(self, some, written, data):
        text, found = "".join(some), rules(*written)
        whole = found.check(text, OUT)
        for parts in (split(text, data), list(text)):
            out, guard = streamed(found, parts)
            assert "".join(out) == whole.text
            assert guard.reports == whole.reports
            assert guard.block is None

    @given(pieces, st.lists(acting("redact", "warn", "block"), min_size=1, max_size=4), st.data())
    @settings(max_examples=600)
    def test_is_blocked_where_the_whole_is(self, some, written, data):
        text, found = "".join(some), rules(*written)
        whole = found.check(text, OUT)
        for parts in (split(text, data), list(text)):
            out, guard = streamed(found, parts)
            assert bool(guard.block) == bool(whole.block)
            if not guard.block:
                assert ("".join(out), guard.reports) == (whole.text, whole.reports)

    @given(pieces, acting("block"), st.data())
    @settings(max_examples=400)
    def test_gives_nothing_of_what_is_blocked_nor_of_what_follows(self, some, blocking, data):
        text = "".join(some)
        redacting = rules(blocking.model_copy(update={"action": "redact"}))
        marked = redacting.check(text, OUT)
        before = text  # the longest beginning that stays as it was
        while not marked.text.startswith(before):
            before = before[:-1]
        for parts in (split(text, data), list(text)):
            out, guard = streamed(rules(blocking), parts)
            assert text.startswith("".join(out))
            if guard.block:
                assert len("".join(out)) <= len(before)

    def test_is_silent_once_it_is_blocked(self):
        guard = rules(rule("topic_filter", topics=["drugs"])).stream(OUT)
        assert [guard.feed("a "), guard.feed("drugs "), guard.feed("b"), guard.close()] == [
            "a ",
            "",
            "",
            "",
        ]


class TestWhatAStreamHolds:
    @pytest.mark.parametrize(
        ("written", "out"),
        [
            (rule("pii_detection"), ["Hello ", "there, ", "all ", "of ", "you"]),
            (
                rule("topic_filter", "redact", topics=TOPICS),
                ["Hello ", "there, ", "all ", "of ", "you"],
            ),
            (
                rule("content_filter", "redact", keywords=["bomb"]),
                ["Hello ", "there, ", "all ", "of ", "you"],
            ),
            (rule("pii_detection", "warn"), ["Hello ", "there, ", "all ", "of ", "you"]),
            (rule("max_length", max_chars=8), ["Hello ", "th", "", "", ""]),
            (
                rule("max_length", "block", max_chars=80),
                ["", "", "", "", "Hello there, all of you"],
            ),
            (
                rule("content_filter", "redact", patterns=["a.*b"]),
                ["", "", "", "", "Hello there, all of you"],
            ),
            (
                rule("content_filter", "redact", patterns=["ab?c"]),
                ["He", "llo the", "re, ", "all", " of you"],
            ),
        ],
        ids=lambda each: getattr(each, "type", ""),
    )
    def test_is_no_more_than_the_rule_needs(self, written, out):
        sent = ["Hello ", "there, ", "all ", "of ", "you"]
        got, _ = streamed(rules(written), sent)
        assert [*got[:4], got[4] + got[5]] == out

    def test_a_keyword_waits_from_its_first_letter(self):
        guard = rules(rule("content_filter", "redact", keywords=["key"])).stream(OUT)
        sent = "a keykeel"
        got = ["a", " ", "", "", "[REDACTED]", "", "", "kee", "l"]
        assert [guard.feed(char) for char in sent] == got

    def test_a_phrase_waits_from_its_first_word(self):
        guard = rules(rule("topic_filter", "redact", topics=["the secret plan"])).stream(OUT)
        sent = ["The ", "secret ", "is ", "the ", "secret ", "plan", "."]
        assert [guard.feed(piece) for piece in sent] == [
            "",
            "",
            "The secret is ",
            "",
            "",
            "",
            "[REDACTED].",
        ]

    @pytest.mark.parametrize(
        ("written", "link"),
        [
            (rule("pii_detection"), "4111 1111 1111 1111 "),
            (rule("content_filter", "redact", keywords=["ab", "ba"]), "ab"),
            (rule("topic_filter", "redact", topics=["a b", "b a"]), "a b "),
        ],
        ids=lambda each: getattr(each, "type", ""),
    )
    def test_stays_small_in_a_chain_of_finds(self, written, link):
        guard = rules(written).stream(OUT)
        longest = silent = 0
        for _ in range(2_000):
            silent = 0 if guard.feed(link) else silent + len(link)
            longest = max(longest, silent)
        assert longest < 700

    def test_stays_small_in_a_long_text(self):
        """A million characters, and never more than some hundred of them wait."""
        guard = rules(rule("pii_detection"), rule("topic_filter", topics=TOPICS)).stream(OUT)
        fed = let_go = 0
        for _ in range(20_000):
            piece = "It is 12.5 % of 1,200 or so, 7 by 9; see a-b_c. "
            fed += len(piece)
            let_go += len(guard.feed(piece))
            assert fed - let_go < 320
        assert fed == let_go + len(guard.close())


class TestTheWidthOfAPattern:
    @pytest.mark.parametrize(
        ("pattern", "most"),
        [
            ("abc", 3),
            ("a{1,3}b?", 4),
            (r"\bfoo\b|barbaz", 6),
            (r"\pL{2}", 2),
            (r"\p{Greek}x", 2),
            ("[[:alpha:]]{3}", 3),
            (r"\\p{3}", 4),
            (r"[\p{L}\d]{1,4}\z", 4),
        ],
    )
    def test_is_what_it_can_match_and_one_that_it_looks_at(self, pattern, most):
        assert width(pattern) == most + 1

    @pytest.mark.parametrize(
        "pattern", ["a+", "a*b", ".*", "x{2,}", r"\Qa\E", "a{,5}", "[a&&b]", "(?U)a"]
    )
    def test_is_unknown_where_there_is_none_or_python_reads_otherwise(self, pattern):
        assert width(pattern) is None
