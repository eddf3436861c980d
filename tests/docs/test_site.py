"""The documentation site: what its navigation and its glossary promise. `nox -s docs` builds it."""

import re

from .pages import PAGES, ROOT

DOCS = ROOT / "docs"
NAVIGATION = (DOCS / "site" / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2].partition("\n\n")[0]


def test_each_page_has_one_place_in_the_navigation() -> None:
    """Each page of docs/ is in the navigation once, and each place of the navigation has its page."""
    places = re.findall(r"[\w/-]+\.md$", NAVIGATION, re.MULTILINE)

    assert sorted(places) == sorted(page.relative_to(DOCS).as_posix() for page in PAGES if page.is_relative_to(DOCS))


def test_each_word_of_the_glossary_leads_to_where_it_is_explained() -> None:
    """A row has one or more words, a meaning, and a link; no word stands there twice."""
    text = (DOCS / "glossary.md").read_text(encoding="utf-8").partition("## Words of other libraries")[0]
    rows = re.findall(r"^\| (\*\*.+) \| .+ \| (.+) \|$", text, re.MULTILINE)
    words = [word for first, _ in rows for word in re.findall(r"\*\*(.+?)\*\*", first)]

    assert [first for first, more in rows if not re.fullmatch(r"\[.+\]\(.+\)", more)] == []
    assert sorted(words) == sorted(set(words))


def test_the_glossary_has_the_words_of_the_design() -> None:
    """Effect, computation, handler, interceptor, pump, strand, request, log, entry and the others."""
    words = "effect computation handler interceptor pump strand request log entry started executed discarded cold hot"
    text = (DOCS / "glossary.md").read_text(encoding="utf-8")

    assert [word for word in [*words.split(), "question", "wait", "mark", "run"] if f"**{word}**" not in text] == []
