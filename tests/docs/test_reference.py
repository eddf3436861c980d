"""docs/reference.md, docs/errors.md, docs/log.schema.json: complete, and today's."""

import re
import runpy

import skuld_async
from skuld_async import SkuldError, testing

from .pages import ROOT

DOCS = ROOT / "docs"


def first_cells(text: str) -> list[str]:
    """The name that each row of the tables in *text* begins with."""
    return re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)


def test_the_reference_lists_exactly_the_public_names() -> None:
    """Each name of `__all__` once, and no other."""
    package, tests = (DOCS / "reference.md").read_text(encoding="utf-8").split("## skuld_async.testing")

    assert sorted(first_cells(package)) == skuld_async.__all__
    assert sorted(first_cells(tests)) == testing.__all__


def test_the_page_of_errors_says_of_each_when_it_is_raised() -> None:
    """Each public error has its row; the bases that are never raised themselves are named in the text."""
    text = (DOCS / "errors.md").read_text(encoding="utf-8")
    errors = [name for name in skuld_async.__all__ if name.endswith("Error")]
    bases = ["AnswerError", "DeploymentError", "MisuseError", "SkuldError"]

    assert all(issubclass(getattr(skuld_async, name), SkuldError) for name in errors)
    assert sorted([*first_cells(text), *bases]) == errors
    assert [name for name in bases if f"`{name}`" not in text] == []


def test_the_stored_schema_is_that_of_todays_log() -> None:
    """`python docs/make_schema.py` would change nothing."""
    script = runpy.run_path(str(DOCS / "make_schema.py"))

    assert script["SCHEMA"].read_bytes() == script["document"]()
