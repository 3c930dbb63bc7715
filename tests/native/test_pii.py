"""One specification of `pii_scan`, two implementations."""

import time
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from servers.kernel import native
from servers.kernel.native import PII_KINDS, pii

Scan = Callable[..., tuple[list[tuple[int, int, int]], int]]
IMPLEMENTATIONS = {"python": pii.pii_scan} | ({"c++": native.pii_scan} if native.COMPILED else {})
compiled_only = pytest.mark.skipif(not native.COMPILED, reason="built without a C++ compiler")


@pytest.fixture(params=IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)
def scan(request: pytest.FixtureRequest) -> Scan:
    return request.param


def found(scan: Scan, text: str, **how: int) -> list[tuple[str, str]]:
    return [(PII_KINDS[kind], text[start:end]) for start, end, kind in scan(text, **how)[0]]


EMAILS = [
    "ada@example.com",
    "first.last+tag@mail.example.co.uk",
    "o'brien@example.ie",
    "müller@exämple.de",
    "user_1%x@sub-domain.example.museum",
    f"{'a' * 64}@example.com",
]
PHONES = [
    "555-123-4567",
    "(555) 123-4567",
    "555.123.4567",
    "123 456 7890",
    "5551234567",
    "15551234567",
    "1-800-555-0199",
    "+1 (555) 123-4567",
    "+15551234567",
    "+44 20 7946 0958",
    "+44 (0)20 7946 0958",
    "+49 30 123456",
    "+49-171-1234567",
    "+34 612 345 678",
    "+86 138 0013 8000",
    "+52 55 1234 5678",
    "+(1) 555 123 4567",
    "0049 30 123456",
    "030 12345678",
    "(030) 123456",
    "0171/1234567",
    "06 12 34 56 78",
    "06.12.34.56.78",
    "020 7946 0958",
    "0412 345 678",
    "090-1234-5678",
    "(11) 98765-4321",
    "11 98765-4321",
    "55 1234 5678",
    "612 345 678",
    "98765 43210",
    "138 0013 8000",
    "13800138000",
    "555\u2011123\u20114567",  # with hyphens that don't break, as models write them
    "+1\u00a0555\u202f123\u00a04567",
]
CARDS = [
    "4111111111111111",
    "4111 1111 1111 1111",
    "5500-0000-0000-0004",
    "378282246310005",
    "3782 822463 10005",
    "4222222222222",
    "6011000990139424",
    "3530111333300000",
    "6304000000000000000",
    "4111\u00a01111\u00a01111\u00a01111",
]
IBANS = [
    "DE89370400440532013000",
    "DE89 3704 0044 0532 0130 00",
    "GB82 WEST 1234 5698 7654 32",
    "gb82west12345698765432",
    "FR14 2004 1010 0505 0001 3M02 606",
    "NO93 8601 1117 947",
    "MT84MALT011000012345MTLCAST001S",
    "ES91-2100-0418-4502-0005-1332",
]
SSNS = ["123-45-6789", "078 05 1120", "899-99-9999", "123\u201145\u20116789"]
IPS = ["10.0.0.1", "192.168.100.200", "255.255.255.255", "0.0.0.0", "8.8.008.8"]
EVERYTHING = [
    *(("email", each) for each in EMAILS),
    *(("phone", each) for each in PHONES),
    *(("credit_card", each) for each in CARDS),
    *(("iban", each) for each in IBANS),
    *(("ssn", each) for each in SSNS),
    *(("ip", each) for each in IPS),
]


@pytest.mark.parametrize(("kind", "text"), EVERYTHING, ids=lambda each: each)
class TestWhatTellsOfAPerson:
    def test_is_found_by_itself(self, scan, kind, text):
        assert found(scan, text) == [(kind, text)]

    def test_is_found_in_a_sentence(self, scan, kind, text):
        assert found(scan, f"Well: {text}, and so on.") == [(kind, text)]

    def test_is_found_between_quotes(self, scan, kind, text):
        assert found(scan, f'{{"it":"{text}"}}') == [(kind, text)]

    def test_is_found_among_marks_of_markdown(self, scan, kind, text):
        assert found(scan, f"It is **{text}**") == [(kind, text)]

    def test_is_found_where_words_have_no_spaces(self, scan, kind, text):
        assert found(scan, f"联系{text}谢谢") == [(kind, text)]

    def test_is_left_alone_where_it_is_not_asked_for(self, scan, kind, text):
        others = pii.ALL_PII & ~(1 << PII_KINDS.index(kind))
        assert kind not in [name for name, _ in found(scan, text, kinds=others)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-27 22:31:52",
        "27.11.2026 22:31",
        "01.02.2026 10:30:00",
        "05/06/26 and 07/08/26",
        "2026/11/27 12:00",
        "v1.2.3.4 of 2.10.0",
        "1.3.6.1.4.1.311",
        "256.1.1.1",
        "4111111111111112",
        "41111111111111111111",
        "0000 0000 0000 0000",
        "1700000000",  # seconds since the epoch
        "1700000000004",  # milliseconds, and Luhn-valid
        "0.8333333333333339",
        "0.5551234567",
        "1,234,567,890",
        "2500000000.50",
        "123 456",
        "12345",
        "DE89370400440532013001",
        "XX89370400440532013000",
        "DE89",
        "000-12-3456",
        "666-12-3456",
        "900-12-3456",
        "123-00-4567",
        "123-45-0000",
        "123-45 6789",
        "a@b",
        "@example.com",
        "foo@",
        "foo@.com",
        "foo@example.c",
        "price @ 5.00",
        "f47ac10b-58cc-4372-a567-0e02b2c3d479",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "+1",
        "(2020) 1234",
        "SKU5551234567",
        "10 612 345 678",
    ],
    ids=repr,
)
def test_what_only_looks_alike_is_left_alone(scan, text):
    assert found(scan, text) == []


class TestWhatFollows:
    def test_a_point_that_ends_a_sentence_is_no_part_of_an_address(self, scan):
        assert found(scan, "Ask ada@example.com. Or ask") == [("email", "ada@example.com")]

    def test_the_time_after_a_number_is_no_part_of_it(self, scan):
        assert found(scan, "01 23 45 67 89 10:30") == [("phone", "01 23 45 67 89")]

    def test_the_digits_on_the_back_of_a_card_are_no_part_of_it(self, scan):
        assert found(scan, "4111 1111 1111 1111 123") == [("credit_card", "4111 1111 1111 1111")]

    def test_a_number_doesnt_go_on_in_the_next_line(self, scan):
        assert found(scan, "555-123-4567\n555-987-6543") == [
            ("phone", "555-123-4567"),
            ("phone", "555-987-6543"),
        ]


class TestSeveral:
    def test_numbers_between_commas_are_all_found(self, scan):
        text = "5551234567,4111111111111111,10.0.0.1,123-45-6789"
        kinds = [kind for kind, _ in found(scan, text)]
        assert kinds == ["phone", "credit_card", "ip", "ssn"]

    def test_a_number_in_an_address_belongs_to_the_address(self, scan):
        text = "555-123-4567@example.com"
        assert found(scan, text) == [("email", text)]

    def test_what_shares_characters_is_one_span_of_the_longest(self, scan):
        # An international number may have 15 digits: the first four of the card would be its.
        text = "+15551234567 4111 1111 1111 1111"
        assert found(scan, text) == [("credit_card", text)]

    def test_no_part_of_a_second_number_is_left(self, scan):
        assert found(scan, "01 23 45 67 89/06 12 34 56 78") == [
            ("phone", "01 23 45 67 89/06 12 34 56 78")
        ]

    def test_of_two_kinds_of_the_same_characters_the_narrower_counts(self, scan):
        assert found(scan, "078-05-1120") == [("ssn", "078-05-1120")]


class TestALongText:
    """Twice the text is about twice the time, whatever it says."""

    @pytest.mark.parametrize(
        "piece",
        [
            "1 ",
            "0",
            "1",
            "a",
            "a@",
            "@",
            "+",
            "(",
            "1.",
            "((1",
            "a.",
            "DE89 ",
            "4111 ",
            "a@b.c",
            "-",
        ],
        ids=repr,
    )
    def test_is_scanned_in_linear_time(self, scan, piece):
        def seconds(size: int) -> float:
            text = piece * (size // len(piece))
            began = time.thread_time()
            scan(text)
            return time.thread_time() - began

        seconds(1_000)
        small, large = (min(seconds(n) for _ in range(3)) for n in (4_000, 32_000))
        assert large < 8 * 4 * small + 0.01  # quadratic: 64 times


def streamed(scan: Scan, pieces: list[str], kinds: int = pii.ALL_PII) -> list[tuple[int, int, int]]:
    """What a stream finds that keeps only what is held, and two characters before."""
    spans, text, begin, offset, covered = [], "", 0, 0, 0
    for index, piece in enumerate([*pieces, ""]):
        text += piece
        some, held = scan(text, begin, index == len(pieces), kinds)
        for start, end, kind in some:
            if end + offset > covered:
                spans.append((max(start + offset, covered), end + offset, kind))
                covered = end + offset
        drop = max(held - 2, 0)
        text, begin, offset = text[drop:], held - drop, offset + drop
    return spans


FRAGMENTS = [
    *(text for _, text in EVERYTHING),
    *"0123456789abzAZDEé_@+-.,:/() \n\u00a0\u2011谢\U0001d7d9",
    *("DE", "GB82", "00", "111", "4111", "2026", "3000", ".com", "@a.b", "a@b.co", "://", " - "),
]
long_texts = st.lists(
    st.sampled_from(
        ["4111 1111 1111 1111 ", "1", " ", "+49 ", "-", "a@b.co", "555-123-4567 ", "DE"]
    ),
    min_size=20,
    max_size=120,
).map("".join)
texts = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=3), max_size=14).map("".join)
digits_and_marks = st.text(alphabet="0124579 -./()+@aZ:,", max_size=60)


class TestAStream:
    @given(texts | digits_and_marks | long_texts, st.data())
    @settings(max_examples=400)
    def test_finds_what_the_whole_has_however_it_is_split(self, text, data):
        scan = native.pii_scan
        cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert streamed(scan, pieces) == scan(text)[0]
        assert streamed(scan, list(text)) == scan(text)[0]

    @pytest.mark.parametrize(("kind", "text"), EVERYTHING, ids=lambda each: each)
    def test_holds_the_whole_of_it_until_it_ends(self, scan, kind, text):
        for end in range(1, len(text) + 1):
            assert scan("so: " + text[:end], final=False)[1] <= 4, text[:end]

    @pytest.mark.parametrize("text", ["Hello there. ", "你好", "It costs 5 $. ", "a\n"], ids=repr)
    def test_holds_nothing_of_plain_text(self, scan, text):
        assert scan(text, final=False) == ([], len(text))

    def test_holds_no_more_than_the_last_word(self, scan):
        assert scan("Hello the", final=False) == ([], 6)

    def test_holds_no_more_than_an_address_can_be_long(self, scan):
        assert scan("a" * 1000, final=False) == ([], 1000 - 64)

    def test_holds_no_chain_of_numbers_for_ever(self, scan):
        text = "4111 1111 1111 1111 " * 100
        spans, held = scan(text, final=False)
        assert len(text) - held < 600
        assert all(end > start for start, end, _ in spans)
        assert streamed(scan, list(text)) == scan(text)[0]

    def test_leaves_nothing_of_a_chain(self, scan):
        text = "4111 1111 1111 1111 " * 100
        seen = [False] * len(text)
        for start, end, _ in scan(text)[0]:
            assert not any(seen[start:end])
            seen[start:end] = [True] * (end - start)
        assert text.count("4") == sum(
            hit for hit, char in zip(seen, text, strict=True) if char == "4"
        )
        assert not [char for hit, char in zip(seen, text, strict=True) if not hit and char != " "]


@compiled_only
class TestBoth:
    @given(
        texts | digits_and_marks | long_texts | st.text(),
        st.integers(0, 20),
        st.booleans(),
        st.just(pii.ALL_PII) | st.integers(0, pii.ALL_PII),
    )
    @settings(max_examples=1000)
    @example("+15551234567 4111 1111 1111 1111", 0, False, pii.ALL_PII)
    def test_find_the_same_and_hold_the_same(self, text, begin, final, kinds):
        assert native.pii_scan(text, begin, final, kinds) == pii.pii_scan(text, begin, final, kinds)

    def test_find_the_same_in_a_text_that_is_scanned_without_the_lock(self):
        text = " and ".join(each for _, each in EVERYTHING) * 3
        assert len(text) > 2048
        assert native.pii_scan(text) == pii.pii_scan(text)
