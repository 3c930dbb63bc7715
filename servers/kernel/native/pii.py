"""What the compiled `pii_scan` means: finds addresses, numbers of phones, cards and accounts.

Every beginning is looked at once and reads a bounded number of characters. A beginning that
wanted to read past the end may become something else when more text comes: that is how a
stream knows what to hold. native_cpp/include/astromesh/pii.hpp is this code in the same order.
"""

from collections.abc import Iterator
from typing import TypeAlias

from servers.kernel.native.pii_letters import (
    ALNUM,
    ASCII,
    BEGINNINGS,
    DASHES,
    DIGITS,
    IBAN_SIZES,
    LETTERS,
    LOCAL,
    PLAIN,
    SEPARATORS,
)
from servers.kernel.native.pii_numbers import SHAPES, Group, Shape, passes_luhn

# Their order settles which one a text is that is several.
PII_KINDS = ("email", "iban", "credit_card", "ssn", "ip", "phone")
ALL_PII = (1 << len(PII_KINDS)) - 1
EMAIL, IBAN, CREDIT_CARD, SSN, IP, PHONE = range(len(PII_KINDS))

Span: TypeAlias = tuple[int, int, int]  # start, end, index of the kind

_MOST_DIGITS, _MOST_LOCAL, _MOST_DOMAIN = 19, 64, 253
LONGEST = 256  # characters from the beginning of a chain to that of the last one in it


def pii_scan(
    text: str, begin: int = 0, final: bool = True, kinds: int = ALL_PII
) -> tuple[list[Span], int]:
    """The spans (start, end, kind) in characters, by position, and where the text is `held`.

    `kinds` has a bit for each of PII_KINDS. What lies before `begin` is only looked back at: two
    characters are enough. Candidates that share characters are one span: all of them together,
    of the kind of the longest, of equals the earliest, of those the first of PII_KINDS.

    Without `final` more text may come: nothing that it could change begins before `held`. What is
    scanned again from there, together with what came, gives the other spans of the whole, but for
    what the last one covers beyond `held` already. At most some hundred characters are held.
    """
    begin = min(max(begin, 0), len(text))
    return _Scanner(text, begin, kinds).scan(final)


class _Scanner:
    def __init__(self, text: str, begin: int, kinds: int) -> None:
        self._text = text
        self._begin = begin
        self._kinds = kinds
        self._touched = False
        self._groups: list[Group] = []
        self._candidates: list[Span] = []

    def scan(self, final: bool) -> tuple[list[Span], int]:
        held = len(self._text)
        for match in BEGINNINGS.finditer(self._text, self._begin):
            start = i = match.start()
            self._touched = False
            if self._text[i] == "@":
                start = self._email(i)
            else:
                self._begins(i)
            if self._touched:
                held = min(held, start)
        if self._wanted(EMAIL):
            held = min(held, self._local_part(len(self._text)))
        return self._merged(len(self._text) if final else held)

    def _wanted(self, kind: int) -> bool:
        return bool(self._kinds >> kind & 1)

    def _peek(self, i: int) -> str:
        if i < len(self._text):
            return self._text[i]
        self._touched = True
        return ""

    def _before(self, i: int, steps: int) -> str:
        return self._text[i - steps] if i >= steps else ""

    def _found(self, start: int, end: int, kind: int) -> None:
        self._candidates.append((start, end, kind))

    def _begins(self, i: int) -> None:
        first = self._text[i]
        if first in DIGITS:
            self._read_groups(i)
            for kind, look in (
                (CREDIT_CARD, self._credit_card),
                (SSN, self._ssn),
                (IP, self._ip),
                (PHONE, self._national_phone),
            ):
                if self._wanted(kind):
                    look(i)
        elif first in "+(":
            if self._wanted(PHONE):
                (self._international_phone if first == "+" else self._phone_in_brackets)(i)
        elif self._wanted(IBAN):
            self._iban(i)

    # -- numbers ---------------------------------------------------------------------------

    def _read_groups(self, i: int) -> None:
        self._groups = []
        digits, gap, separator = 0, 0, ""
        while True:
            at = i
            while digits <= _MOST_DIGITS and self._peek(i) in DIGITS:
                i, digits = i + 1, digits + 1
            if digits > _MOST_DIGITS:
                return
            self._groups.append(Group(at, i, digits, gap, separator))
            gap, separator = 0, self._peek(i)
            while gap < 4 and self._peek(i) in SEPARATORS:
                i, gap = i + 1, gap + 1
            if gap in (0, 4) or self._peek(i) not in DIGITS:
                return

    def _follows_point(self, i: int) -> bool:
        return self._before(i, 1) == "." and self._before(i, 2) in DIGITS

    def _goes_on_after(self, to: int, mark: str) -> bool:
        return self._peek(to) == mark and self._peek(to + 1) in DIGITS

    def _ends(self, to: int) -> bool:
        return self._peek(to) not in ALNUM

    def _ends_phone(self, to: int) -> bool:
        return self._ends(to) and not self._goes_on_after(to, ":")

    def _credit_card(self, i: int) -> None:
        if self._text[i] == "0" or self._follows_point(i):
            return
        end = 0
        for k, group in enumerate(self._groups):
            if k > 0 and (not group.plain or self._groups[k - 1].size < 4):
                break
            is_time = group.digits == 13 and self._text[i] == "1"  # in milliseconds
            if group.digits >= 13 and not is_time and self._ends(group.to):
                end = group.to if passes_luhn(self._text[i : group.to]) else end
        if end:
            self._found(i, end, CREDIT_CARD)

    def _ssn(self, i: int) -> None:
        groups = self._groups[:3]
        if tuple(group.size for group in groups) != (3, 2, 4):
            return
        if not (groups[1].plain and groups[2].plain):
            return
        if (groups[1].separator in DASHES) != (groups[2].separator in DASHES):
            return
        area, group, serial = map(self._number, groups)
        if area in (0, 666) or area >= 900 or group == 0 or serial == 0:
            return
        to = groups[2].to
        if self._before(i, 1) in DASHES and self._before(i, 2) in DIGITS:
            return
        if self._ends(to) and not (self._peek(to) in DASHES and self._peek(to + 1) in DIGITS):
            self._found(i, to, SSN)

    def _number(self, group: Group) -> int:
        return int(self._text[group.at : group.to])

    def _ip(self, i: int) -> None:
        groups = self._groups[:4]
        if self._follows_point(i) or len(groups) < 4:
            return
        if any(group.size > 3 or self._number(group) > 255 for group in groups):
            return
        if any(group.gap != 1 or group.separator != "." for group in groups[1:]):
            return
        if self._ends(groups[3].to) and not self._goes_on_after(groups[3].to, "."):
            self._found(i, groups[3].to, IP)

    # -- phones ----------------------------------------------------------------------------

    def _last_of(self, low: int, high: int, more: int = 0) -> int:
        """The last group with which the number has so many digits, `more` among them, and ends."""
        ends = [
            group.to
            for group in self._groups
            if low <= group.digits + more <= high and self._ends_phone(group.to)
        ]
        return ends[-1] if ends else 0

    def _phone(self, i: int, end: int) -> None:
        if end:
            self._found(i, end, PHONE)

    def _international_phone(self, i: int) -> None:
        first = i + 2 if self._peek(i + 1) == "(" else i + 1
        if self._before(i, 1) == "+" or self._peek(first) not in DIGITS - {"0"}:
            return
        self._read_groups(first)
        self._phone(i, self._last_of(8, 15))

    def _phone_in_brackets(self, i: int) -> None:
        after = i + 1
        while after - i <= 6 and self._peek(after) in DIGITS:
            after += 1
        area = after - i - 1
        if not 2 <= area <= 5 or self._peek(after) != ")":
            return
        after += 1
        for _ in range(2):
            after += self._peek(after) in SEPARATORS
        if self._peek(after) not in DIGITS:
            return
        self._read_groups(after)
        self._phone(i, self._last_of(9, 12, area))

    def _national_phone(self, i: int) -> None:
        if not self._groups:
            return
        first = self._text[i]
        if first == "0":
            second, third = self._peek(i + 1), self._peek(i + 2)
            if second == "0" and third in DIGITS - {"0"}:
                self._phone(i, self._last_of(10, 17))
            elif second in DIGITS - {"0"} and not self._is_date(i):
                self._phone(i, self._last_of(9, 12))
        size, to = self._groups[0].size, self._groups[0].to
        is_local = size == 10 and first >= "2"
        is_long = size == 11 and first == "1" and self._text[i + 1] >= "2"
        is_one = (is_local or is_long) and not self._follows_point(i)
        if is_one and self._ends_phone(to) and not self._goes_on_after(to, "."):
            self._phone(i, to)
        for shape in SHAPES:
            self._of_shape(i, shape)

    def _of_shape(self, i: int, shape: Shape) -> None:
        count = len(shape.sizes)
        groups = self._groups[:count]
        if tuple(group.size for group in groups) != shape.sizes:
            return
        for group in groups[1:]:
            is_dot = shape.dots and group.gap == 1 and group.separator == "."
            if not group.plain and not is_dot:
                return
        to = groups[-1].to
        if self._text[i] not in shape.first or not self._ends_phone(to):
            return
        if groups[-1].digits == 9:  # 612 345 678 may be a part of a larger number
            if len(self._groups) > count and self._groups[count].plain:
                return
            if self._before(i, 1) in PLAIN and self._before(i, 2) in DIGITS:
                return
        self._phone(i, to)

    def _is_date(self, i: int) -> bool:
        """01.02.2026, 05/06/26, and the rest of a date or a time that began before."""
        last, follows_digit = self._before(i, 1), self._before(i, 2) in DIGITS
        if last == ":" and follows_digit:
            return True
        groups = self._groups
        if len(groups) < 2 or groups[0].size != 2:
            return False
        is_mark = last in {".", "/"} or last in DASHES
        if is_mark and follows_digit and groups[1].gap == 1 and groups[1].separator == last:
            return True
        if len(groups) < 3 or groups[1].size != 2:
            return False
        return groups[2].size == 4 or groups[1].separator == groups[2].separator == "/"

    # -- words -----------------------------------------------------------------------------

    def _iban(self, i: int) -> None:
        if self._peek(i + 1) not in ASCII:
            return
        if self._peek(i + 2) not in DIGITS or self._peek(i + 3) not in DIGITS:
            return
        size = IBAN_SIZES.get(self._text[i : i + 2].upper(), 0)
        after, account = i + 4, ""
        while len(account) < size - 4:
            after += self._peek(after) in PLAIN
            char = self._peek(after)
            if char not in DIGITS and char not in ASCII:
                return
            account += char
            after += 1
        digits = "".join(str(int(char, 36)) for char in account + self._text[i : i + 4])
        if size and self._ends(after) and int(digits) % 97 == 1:
            self._found(i, after, IBAN)

    def _local_part(self, end: int) -> int:
        """Where the local part of an address would begin that ends here."""
        start = end
        while start > self._begin and end - start < _MOST_LOCAL and self._text[start - 1] in LOCAL:
            start -= 1
        return start

    def _email(self, at: int) -> int:
        """Gives where the address begins."""
        if not self._wanted(EMAIL):
            return at
        start = self._local_part(at)
        while start < at and self._text[start] not in ALNUM and self._text[start] != "_":
            start += 1
        if start == at or self._peek(at + 1) not in ALNUM:
            return start
        if end := self._domain_end(at):
            self._found(start, end, EMAIL)
        return start

    def _domain_end(self, at: int) -> int:
        """The last place where what follows the @ ends in a point and letters; 0 for none."""
        end, after = 0, at + 1
        while after - at <= _MOST_DOMAIN:
            char = self._peek(after)
            if char in ALNUM or char == "-":
                after += 1
            elif char == "." and self._peek(after + 1) in ALNUM:
                letters = after + 1
                while letters - at <= _MOST_DOMAIN and self._peek(letters) in LETTERS:
                    letters += 1
                if letters - after > 2:
                    end = letters
                after = max(letters, after + 1)
            else:
                break
        return end

    # -- the answer ------------------------------------------------------------------------

    def _merged(self, held: int) -> tuple[list[Span], int]:
        spans: list[Span] = []
        covered = 0
        for start, end, kind in _chains(sorted(self._candidates, key=lambda c: (c[0], c[2]))):
            if end > held and start + LONGEST > held:  # more may belong to it
                return spans, min(held, start)
            if end > covered:
                spans.append((max(start, covered), end, kind))
            covered = max(covered, end)
        return spans, held


def _chains(candidates: list[Span]) -> Iterator[Span]:
    """Candidates that share characters are one: all of them, and of the longest's kind. A chain
    of them is cut where one begins LONGEST behind the first, or a stream would hold it for ever."""
    start = end = longest = kind = -1
    for first, last, what in candidates:
        if first >= end or first - start >= LONGEST:
            if kind >= 0:
                yield start, end, kind
            start, end, longest, kind = first, last, last - first, what
            continue
        end = max(end, last)
        if last - first > longest:
            longest, kind = last - first, what
    if kind >= 0:
        yield start, end, kind
