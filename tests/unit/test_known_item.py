"""Questions that are made of documents must not be found by their own words."""

from bench.known_item import page_of

HEAD = '<table class="head"><tr><td>cat(1)</td></tr></table>\n<div class="manual-text">\n'
NAME = '<section class="Sh">\n<h1 class="Sh" id="NAME"><a>NAME</a></h1>\n<p>{}</p>\n</section>\n'
REST = (
    "<section><p>It writes. cat, to <b>concatenate\n"
    "   files &amp;</b> <i>print</i> them.</p></section>"
)


def made(line: str, rest: str = REST):
    return page_of("man1/cat.1.html", HEAD + NAME.format(line) + rest)


def test_the_question_is_what_the_page_says_it_is_for():
    assert made("cat - concatenate files &amp; print").says == "concatenate files & print"


def test_what_the_question_says_is_cut_out_of_the_page():
    page = made("cat - Concatenate files &amp; print")
    assert page.html.startswith("<title>cat.1</title>")
    assert "It writes. cat, to <b> </i> them." in page.html
    assert "NAME" not in page.html
    assert "cat(1)" not in page.html


def test_pages_that_say_nothing_of_themselves_ask_nothing():
    assert made("cat") is None
    assert made("cat - print") is None
    assert page_of("man1/cat.1.html", REST) is None
