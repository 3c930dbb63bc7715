"""How fast are texts cut, next to LangChain, semchunk, chonkie and semantic-text-splitter?

Manual pages in many languages, 1,000 characters a chunk, by characters, in turns. Ours and
LangChain's have to be the same chunks, which is checked. The others cut elsewhere and are shown
where they are installed.

    python -m bench.chunking [--rounds 7]
"""

import argparse
import pydoc_data.topics
from collections.abc import Sequence

from bench.documents import manual_pages
from bench.report import table, write
from bench.rounds import Variant, package, rounds, speedup
from servers.kernel import chunking, native

SIZE = 1000


def variants(texts: Sequence[str], overlap: int) -> dict[str, Variant]:
    found: dict[str, Variant] = {
        "recursive, spans": lambda: [native.recursive_chunks(t, SIZE, overlap) for t in texts],
        "recursive": lambda: [chunking.recursive(t, SIZE, overlap) for t in texts],
        "sentence": lambda: [chunking.sentence(t, SIZE, overlap) for t in texts],
    }
    if langchain := package("langchain_text_splitters"):
        splitter = langchain.RecursiveCharacterTextSplitter(chunk_size=SIZE, chunk_overlap=overlap)
        for text in texts:
            exact = [text[a:b] for [(a, b)] in native.recursive_chunks(text, SIZE, overlap)]
            assert exact == splitter.split_text(text)
        found["LangChain"] = lambda: [splitter.split_text(t) for t in texts]
    if semchunk := package("semchunk"):
        chunker = semchunk.chunkerify(len, SIZE)
        found["semchunk"] = lambda: [chunker(t, overlap=overlap or None) for t in texts]
    if chonkie := package("chonkie"):
        recursive = chonkie.RecursiveChunker(tokenizer="character", chunk_size=SIZE)
        fast = chonkie.FastChunker(chunk_size=SIZE)
        found["chonkie recursive"] = lambda: [recursive(t) for t in texts]
        found["chonkie fast (bytes)"] = lambda: [fast(t) for t in texts]
    if other := package("semantic_text_splitter"):
        rust = other.TextSplitter(SIZE, overlap)
        found["semantic-text-splitter"] = lambda: [rust.chunks(t) for t in texts]
    return found


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args(argv)
    sets = {
        "manual pages": list(manual_pages(300).values()),
        "Python's documentation": list(pydoc_data.topics.topics.values()),
        "no lines at all": ["\n".join(pydoc_data.topics.topics.values()).replace("\n", " ")],
    }
    told, kept = [], []
    for name, texts in sets.items():
        size = sum(map(len, texts))
        for overlap in (0, 200):
            taken = rounds(variants(texts, overlap), options.rounds)
            kept.append({"texts": name, "characters": size, "overlap": overlap, "seconds": taken})
            for variant, seconds in taken.items():
                told.append(
                    [
                        f"{name}, {size / 1e6:.1f} MB, overlap {overlap}",
                        variant,
                        f"{size / min(seconds) / 1e6:,.1f}",
                        speedup(taken, "recursive", variant),
                    ]
                )
    table(
        f"chunks of {SIZE} characters, compiled: {native.COMPILED}",
        ["texts", "", "million characters/s", "`recursive` is x times as fast"],
        told,
    )
    write("chunking", kept)


if __name__ == "__main__":
    main()
