"""Counts are those of OpenAI's own tokenizer, on real texts; cuts end where tokens do."""

import gzip
import hashlib
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import quicktok
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from servers.kernel import tokens
from servers.kernel.native import letter_kinds

NAMES = ("o200k_base", "cl100k_base")
# Many languages have their page here, on Debian; a few texts always.
PAGES = sorted(Path("/usr/share/man").glob("*/man[158]/*.gz"))[::5][:1000]
TEXTS = [
    "",
    "Hello, world!",
    "Die Würde des Menschen ist unantastbar.",
    "我能吞下玻璃而不伤身体。",
    "أنا قادر على أكل الزجاج و هذا لا يؤلمني.",
    "def f(x):\n    return {'a': [x, x + 1]}\n\n\n",
    "<|endoftext|><|im_start|> special tokens are text",
    "👩‍👩‍👧‍👦🦜 e\u0301 \u00a0\u2003 \r\n\t 12345678901234567890",
    "a" * 3000,
    " " * 500 + "x",
    "half a character: \ud83e, and another \udd9c",
]
# Where the regular expressions of the two have their corners.
CORNERS = [
    *"aAbBé1½Ⅷ_-/'\n\r\t \u00a0\u0301\u01c5\u02b0語\u2028🦜\u0e31\x00\x85",
    "  ",
    "\n\n",
    "\r\n",
]
CORNERS += [
    "'s",
    "'S",
    "'\u017f",
    "'ll",
    "'Ve",
    "'re",
    "'T",
    " The",
    "Ing",
    "word",
    "123",
    "...",
    "//",
]


def theirs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tiktoken.Encoding:
    """The real one, offline: it verifies the vocabulary's checksum itself."""
    spec = find_spec("bpe_openai")
    assert spec
    assert spec.origin
    packed = Path(spec.origin).parent / "data" / f"{name}.tiktoken.gz"
    url = f"https://openaipublic.blob.core.windows.net/encodings/{name}.tiktoken"
    (tmp_path / hashlib.sha1(url.encode()).hexdigest()).write_bytes(
        gzip.decompress(packed.read_bytes())
    )
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    return tiktoken.get_encoding(name)


@pytest.fixture(params=NAMES)
def encoding(request: pytest.FixtureRequest) -> tokens.Encoding:
    found = tokens.encoding(request.param)
    if not found:
        pytest.skip("needs the extra `tokens`")
    return found


class TestACount:
    def test_is_tiktoken_s(self, encoding, tmp_path, monkeypatch):
        real = theirs(encoding.name, tmp_path, monkeypatch)
        pages = [gzip.decompress(page.read_bytes()).decode("utf-8", "replace") for page in PAGES]
        for text in (*TEXTS, *pages):
            assert encoding.count(text) == len(real.encode_ordinary(text)), text[:80]

    def test_is_tiktoken_s_on_any_text(self, encoding, tmp_path, monkeypatch):
        real = theirs(encoding.name, tmp_path, monkeypatch)

        @given(st.text(max_size=80) | st.lists(st.sampled_from(CORNERS)).map("".join))
        @settings(max_examples=500)
        def check(text: str) -> None:
            assert encoding.count(text) == len(real.encode_ordinary(text))

        check()


@pytest.mark.parametrize(
    ("kind", "pattern"),
    [
        (letter_kinds.SPACE, r"[\s&&[^\r\n]]"),
        (letter_kinds.LINE, r"[\r\n]"),
        (letter_kinds.NUMBER, r"\p{N}"),
        (letter_kinds.UPPER, r"[\p{Lu}\p{Lt}]"),
        (letter_kinds.LOWER, r"\p{Ll}"),
        (letter_kinds.BOTH, r"[\p{Lm}\p{Lo}]"),
        (letter_kinds.MARK, r"\p{M}"),
    ],
)
def test_characters_are_of_the_kinds_that_tiktoken_sees(kind, pattern):
    ranks = {bytes([byte]): byte for byte in range(256)}
    probe = tiktoken.Encoding("probe", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    everything = "".join(chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000)
    seen = bytes(probe.encode_ordinary(everything)).decode()
    assert seen == "".join(chr(c) for c, each in enumerate(letter_kinds.kinds()) if each == kind)


class TestACut:
    @pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
    @pytest.mark.parametrize("most", [0, 1, 2, 7, 10**6])
    def test_is_a_beginning_that_fits(self, encoding, text, most):
        cut = encoding.cut(text, most)
        assert text.startswith(cut)
        assert encoding.count(cut) <= most
        assert (cut == text) == (encoding.count(text) <= most)

    def test_ends_where_a_token_does(self, encoding):
        assert encoding.cut("hello wonderful world", 2) == "hello wonderful"

    def test_has_whole_characters(self, encoding):
        text = "🦜" * 9
        assert all(set(encoding.cut(text, most)) <= {"🦜"} for most in range(20))

    @given(st.text(max_size=60), st.integers(0, 20))
    def test_of_any_encoding_fits(self, text, most):
        for name in ("o200k_base", "qwen3"):  # the second sees composed characters
            found = tokens.encoding(name)
            assert found
            cut = found.cut(text, most)
            assert text.startswith(cut)
            assert found.count(cut) <= most


class TestAnEncoding:
    def test_is_none_without_the_package(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "quicktok", None)
        tokens._packaged.cache_clear()
        assert tokens.encoding("o200k_base") is None
        tokens._packaged.cache_clear()

    def test_with_another_vocabulary_than_the_published_one_is_refused(self):
        loaded = quicktok.get_encoding("cl100k_base")
        with pytest.raises(ValueError, match="the vocabulary is not the published one"):
            tokens._tokens(loaded, published="0" * 64)

    @pytest.mark.parametrize("name", ["o200k_base", "o200k_harmony", "cl100k_base"])
    def test_counts_alike_without_a_compiler(self, name):
        compiled = tokens.encoding(name)
        assert compiled
        packaged = tokens.encoding(name, compiled=False)
        assert packaged
        assert packaged.name == compiled.name == name
        for text in TEXTS:
            assert packaged.count(text) == compiled.count(text)
            assert [packaged.cut(text, n) for n in (1, 7)] == [
                compiled.cut(text, n) for n in (1, 7)
            ]

    def test_may_come_from_a_file(self, tmp_path):
        tokenizers = pytest.importorskip("tokenizers")
        made = tokenizers.Tokenizer(
            tokenizers.models.WordLevel({"one": 0, "two": 1, "?": 2}, unk_token="?")
        )
        made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
        made.enable_truncation(1)
        path = tmp_path / "tokenizer.json"
        made.save(str(path))
        found = tokens.encoding_from(path)
        assert found.count("one two three") == 3
        assert found.cut("one two three", 2) == "one two"
        assert [found.cut("one", most) for most in (0, 1)] == ["", "one"]

    def test_of_a_broken_file_is_refused(self, tmp_path):
        pytest.importorskip("tokenizers")
        path = tmp_path / "tokenizer.json"
        path.write_text("{}")
        with pytest.raises(ValueError, match=r"tokenizer\.json: "):
            tokens.encoding_from(path)


class TestTexts:
    @pytest.mark.parametrize(
        ("budget", "kept"), [(0, []), (2, ["c c"]), (3, ["c c"]), (5, ["b b b", "c c"]), (9, "all")]
    )
    def test_are_trimmed_to_the_newest_that_fit(self, budget, kept):
        texts = ["a", "b b b", "c c"]
        found = tokens.trimmed(texts, budget, lambda text: len(text.split()))
        assert found == (texts if kept == "all" else kept)

    def test_stop_at_the_first_that_does_not_fit(self):
        assert tokens.trimmed(["a", "bbbb", "c"], 3, len) == ["c"]
