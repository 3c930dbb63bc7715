"""Real documents in many languages: the manual pages of this machine."""

import gzip
from pathlib import Path

MAN = Path("/usr/share/man")


def manual_pages(most: int) -> dict[str, str]:
    """Up to `most` pages by their path, as evenly over the languages as there are some."""
    folders: dict[str, list[Path]] = {}
    for path in sorted(MAN.glob("**/*.gz")):
        language = path.relative_to(MAN).parts[0]
        folders.setdefault("en" if language.startswith("man") else language, []).append(path)
    pages: dict[str, str] = {}
    left = {language: iter(paths) for language, paths in folders.items()}
    while left and len(pages) < most:
        for language in list(left):
            path = next(left[language], None)
            if path is None:
                del left[language]
            elif len(pages) < most and len(text := _text(path)) > 500:
                pages[str(path.relative_to(MAN))] = text
    return pages


def _text(path: Path) -> str:
    try:
        return gzip.decompress(path.read_bytes()).decode()
    except (OSError, UnicodeDecodeError):  # a dangling link, an old encoding
        return ""
