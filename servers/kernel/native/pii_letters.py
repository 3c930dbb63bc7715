"""The letters of `pii`: which characters stand in addresses and between digits, and how long
the accounts of a country are."""

import re

DIGITS = frozenset("0123456789")
ASCII = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
# Latin, Greek and Cyrillic letters. Scripts without spaces between words end a number.
_MORE = r"\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u0370-\u052f"
_RANGES = ((0xC0, 0xD7), (0xD8, 0xF7), (0xF8, 0x250), (0x370, 0x530))
LETTERS = ASCII.union(*(map(chr, range(low, high)) for low, high in _RANGES))
ALNUM = LETTERS | DIGITS
DASHES = frozenset("-\u2010\u2011\u2012\u2013\u2212")
BLANKS = frozenset(" \u00a0\u2007\u2009\u202f")
PLAIN = DASHES | BLANKS
SEPARATORS = PLAIN | frozenset("./()")
LOCAL = ALNUM | frozenset("._%+-'&")  # in the part of an address before the @

# What a beginning looks like: the rest of the text is passed over.
BEGINNINGS = re.compile(
    rf"@|(?<![0-9A-Za-z{_MORE}])(?:[0-9+(]|[A-Za-z](?=[A-Za-z][0-9]{{2}}|[A-Za-z]?[0-9]?\Z))"
)

# Of the IBAN registry (ISO 13616).
IBAN_SIZES = {
    country: int(size)
    for country, size in re.findall(
        "(..)(..)",
        "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BI27BR29BY28CH21CR22CY28CZ24DE22DJ27DK18DO28EE20EG29"
        "ES24FI18FK18FO18FR27GB22GE22GI23GL18GR27GT28HN28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20"
        "LB28LC32LI21LT20LU20LV21LY25MC27MD24ME22MK19MN20MR27MT31MU30NI28NL18NO15OM23PK24PL28PS29"
        "PT25QA29RO24RS22RU33SA24SC31SD18SE24SI19SK24SM27SO23ST25SV28TL23TN24TR26UA29VA22VG24XK20"
        "YE30",
    )
}
