"""Builds documents, and questions whose answer is known, from manual pages.

    python -m bench.known_item [--out build/bench/known-item] [--documents 0] [--questions 300]

Known-item search: each question is the line in which a page says what it is for, and the page is
the answer. That line is cut out, with all of the section NAME and wherever else the page repeats
it, so that it isn't found by itself. Pages that say the same of themselves answer together. The
questions are therefore short and in the words of the pages' authors, not of people who search.

The pages are those of Debian's packages `manpages` and `manpages-dev`, rendered to HTML by that
of `mandoc`; apt-get downloads them, and nothing is installed. The same packages, seed and numbers
give the same files: OUT/documents/*, OUT/questions.jsonl (as `astromesh rag eval` reads it) and
OUT/about.json. `--documents 0` takes all.
"""

import argparse
import gzip
import hashlib
import json
import random
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape, unescape
from pathlib import Path

from bench.processes import ROOT

PACKAGES = ("manpages", "manpages-dev", "mandoc")
HERE = ROOT / "build" / "bench" / "known-item"
SEED = 1
_LEAST_WORDS = 3  # of a question
_TAG = re.compile(r"<[^>]+>")
_NAME = re.compile(r'<section class="Sh">\s*<h1 [^>]*id="NAME".*?</section>', re.DOTALL)
_MARGIN = re.compile(r'<table class="(?:head|foot)">.*?</table>', re.DOTALL)
_DASH = re.compile(r"\s[-\u2013\u2014]\s")


@dataclass(frozen=True, slots=True)
class Page:
    id: str  # the document's: section/name.html
    html: str
    says: str  # what it is for, in one line that is not in `html`


@dataclass(frozen=True, slots=True)
class KnownItems:
    documents: Path
    questions: Path


def built(out: Path = HERE, documents: int = 0, questions: int = 300) -> KnownItems:
    """Raises SystemExit where the packages can't be had."""
    found = KnownItems(out / "documents", out / "questions.jsonl")
    wanted = {"documents": documents, "questions": questions, "seed": SEED}
    about = out / "about.json"
    if about.exists() and json.loads(about.read_text())["wanted"] == wanted:
        return found
    out.mkdir(parents=True, exist_ok=True)
    versions = _fetched(out / "packages")
    pages = _sample(list(_pages(out / "packages" / "files")), documents)
    shutil.rmtree(found.documents, ignore_errors=True)
    for page in pages:
        path = found.documents / page.id
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page.html, encoding="utf-8")
    lines = [json.dumps(each) for each in _questions(pages, questions)]
    found.questions.write_text("\n".join(lines) + "\n", encoding="utf-8")
    digest = hashlib.sha256(found.questions.read_bytes()).hexdigest()
    counts = {"documents": len(pages), "questions": len(lines), "questions_sha256": digest}
    about.write_text(json.dumps({"wanted": wanted, "packages": versions, **counts}, indent=2))
    return found


def _fetched(folder: Path) -> dict[str, str]:
    """The packages unpacked below `folder`, and their versions."""
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob("*.deb")):
        try:
            command = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *PACKAGES]
            subprocess.run(command, cwd=folder, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise SystemExit(
                f"the packages {', '.join(PACKAGES)} can't be had ({error}): this needs Debian or "
                "a relative of it, and 'apt-get update' once"
            ) from None
    versions = {}
    for package in sorted(folder.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", package, folder / "files"], check=True)
        name, version, *_ = package.name.split("_")
        versions[name] = version
    return versions


def _pages(files: Path) -> Iterator[Page]:
    """Those with a text of their own that say what they are for."""
    man, mandoc = files / "usr/share/man", files / "usr/bin/mandoc"
    for path in sorted(man.glob("man*/*.gz")):
        source = gzip.decompress(path.read_bytes())
        if path.is_symlink() or source.lstrip().startswith(b".so "):
            continue  # another name of a page
        command = [mandoc, "-T", "html", "-O", "fragment"]
        done = subprocess.run(command, input=source, capture_output=True, check=False)
        name = path.name.removesuffix(".gz")
        if page := page_of(f"{path.parent.name}/{name}.html", done.stdout.decode()):
            yield page


def page_of(name: str, html: str) -> Page | None:
    section = _NAME.search(html)
    if section is None:
        return None
    line = " ".join(unescape(_TAG.sub(" ", section[0])).split())
    _, *says = _DASH.split(line, maxsplit=1)
    if not says or len(says[0].split()) < _LEAST_WORDS:
        return None
    body = _without(_MARGIN.sub("", _NAME.sub("", html)), says[0])
    title = escape(Path(name).stem)
    return Page(name, f"<title>{title}</title>\n{body}", says[0])


def _without(html: str, says: str) -> str:
    """Also where it is broken into lines or set in several fonts."""
    gap = r"(?:\s|<[^>]+>)+"
    words = gap.join(re.escape(escape(word, quote=False)) for word in says.split())
    return re.sub(words, " ", html, flags=re.IGNORECASE)


def _sample(pages: list[Page], most: int) -> list[Page]:
    if not most or most >= len(pages):
        return pages
    return sorted(random.Random(SEED).sample(pages, most), key=lambda page: page.id)


def _questions(pages: Sequence[Page], most: int) -> list[dict[str, object]]:
    answers: defaultdict[str, list[str]] = defaultdict(list)
    for page in pages:
        answers[page.says].append(page.id)
    asked = sorted(answers)
    if most and most < len(asked):
        asked = sorted(random.Random(SEED).sample(asked, most))
    return [{"query": says, "relevant": answers[says]} for says in asked]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.known_item", description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--documents", type=int, default=0)
    parser.add_argument("--questions", type=int, default=300)
    options = parser.parse_args(arguments)
    built(options.out, options.documents, options.questions)
    print((options.out / "about.json").read_text())


if __name__ == "__main__":
    main()
