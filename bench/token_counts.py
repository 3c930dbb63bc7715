"""How fast are tokens counted, and are the counts those of tiktoken?

1,000 manual pages in many languages, one at a time on one thread, in turns. The vocabularies are
those that quicktok and bpe-openai ship; tiktoken verifies the checksum of what it is given.

    python -m bench.token_counts [--rounds 5]
"""

import argparse
import gzip
import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from bench.documents import manual_pages
from bench.report import table, write
from bench.rounds import package, rounds, speedup
from servers.kernel import tokens

Count = Callable[[str], int]


def real(name: str, folder: str) -> Count | None:
    """tiktoken, with the vocabulary where it would keep it after a download."""
    tiktoken, vocabularies = package("tiktoken"), find_spec("bpe_openai")
    if not (tiktoken and vocabularies and vocabularies.origin):
        return None
    packed = Path(vocabularies.origin).parent / "data" / f"{name}.tiktoken.gz"
    url = f"https://openaipublic.blob.core.windows.net/encodings/{name}.tiktoken"
    kept = Path(folder) / hashlib.sha1(url.encode()).hexdigest()
    kept.write_bytes(gzip.decompress(packed.read_bytes()))
    os.environ["TIKTOKEN_CACHE_DIR"] = folder
    encoding = tiktoken.get_encoding(name)
    return lambda text: len(encoding.encode_ordinary(text))


def counters(name: str, folder: str) -> dict[str, Count]:
    found: dict[str, Count] = {}
    if ours := tokens.encoding(name):
        found["ours"] = ours.count
    if quicktok := package("quicktok"):
        found["quicktok"] = quicktok.get_encoding(name).count
    if counted := real(name, folder):
        found["tiktoken"] = counted
    if rs_bpe := package("rs_bpe.bpe"):
        found["rs-bpe"] = getattr(rs_bpe.openai, name)().count
    if splintr := package("splintr"):
        encode = splintr.Tokenizer.from_pretrained(name).encode
        found["splintr-rs"] = lambda text: len(encode(text))
    if bpe := package("bpe_openai"):
        ordinary = bpe.get_encoding(name).encode_ordinary
        found["bpe-openai"] = lambda text: len(ordinary(text))
    return found


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(argv)
    pages = list(manual_pages(1000).values())
    size = sum(len(page.encode()) for page in pages)
    told, kept = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("o200k_base", "cl100k_base"):
            found = counters(name, folder)
            exact = [found["tiktoken"](page) for page in pages] if "tiktoken" in found else None
            taken = rounds(
                {
                    each: lambda count=count: [count(page) for page in pages]
                    for each, count in found.items()
                },
                options.rounds,
            )
            for each, seconds in taken.items():
                counts = [found[each](page) for page in pages]
                wrong = sum(a != b for a, b in zip(counts, exact or counts, strict=True))
                told.append(
                    [
                        name,
                        each,
                        f"{size / min(seconds) / 1e6:,.1f}",
                        speedup(taken, each, "tiktoken") if exact else "",
                        f"{len(pages) - wrong:,} of {len(pages):,}",
                    ]
                )
            kept.append({"encoding": name, "bytes": size, "seconds": taken})
    table(
        f"{len(pages):,} documents, {size / 1e6:.1f} MB",
        ["encoding", "", "MB/s", "x tiktoken", "same counts"],
        told,
    )
    write("token_counts", kept)


if __name__ == "__main__":
    main()
