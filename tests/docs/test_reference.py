"""docs/reference/: complete, and today's."""

import re
import runpy

import skuld_async
from skuld_async import SkuldError, durable, testing

from .pages import ROOT

REFERENCE = ROOT / "docs" / "reference"
API = {page.name: page.read_text(encoding="utf-8") for page in sorted((REFERENCE / "api").glob("*.md"))}
PUBLIC = sorted(
    [
        *(f"skuld_async.{name}" for name in skuld_async.__all__),
        *(f"skuld_async.durable.{name}" for name in durable.__all__),
        *(f"skuld_async.testing.{name}" for name in testing.__all__),
        "skuld_async.contrib.itsdangerous.SignedTokens",
        "skuld_async.stores.file.FileStore",
        "skuld_async.stores.memory.MemoryStore",
        "skuld_async.stores.postgres.PostgresStore",
        "skuld_async.stores.sqlite.SQLiteStore",
        "skuld_async.testing.stores.StoreConformance",
    ]
)
NOT_IMPORTED = ["skuld_async.log.options.Options"]
"""What has no public name, and stands in the reference because the public ones take it."""


def directives(text: str) -> list[str]:
    """What a page of the API describes from its docstring."""
    return re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE)


def first_cells(text: str) -> list[str]:
    """The name that each row of the tables in *text* begins with."""
    return re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)


def test_each_public_name_is_described_once() -> None:
    """The pages of the API hold each name of both `__all__` exactly once."""
    described = [name for text in API.values() for name in directives(text)]

    assert sorted(described) == sorted([*PUBLIC, *NOT_IMPORTED])


def test_the_overview_leads_to_each_public_name() -> None:
    """Each public name has one row, which leads to its description."""
    text = (REFERENCE / "index.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[`(\w+)`\]\(api/([\w.]+)#([\w.]+)\) \|", text, re.MULTILINE)

    assert sorted(target for _, _, target in rows) == PUBLIC
    assert [name for name, page, target in rows if target.rpartition(".")[2] != name or target not in API[page]] == []


def test_the_page_of_errors_says_of_each_when_it_is_raised() -> None:
    """Each public error has its row; the bases that are never raised themselves are named in the text."""
    text = (REFERENCE / "errors.md").read_text(encoding="utf-8")
    public = {name: getattr(home, name) for home in (durable, skuld_async) for name in home.__all__}
    errors = [name for name, one in public.items() if isinstance(one, type) and issubclass(one, Exception)]
    bases = ["AnswerError", "DeploymentError", "MisuseError", "RunError", "SkuldError", "StoreError"]

    assert all(issubclass(public[name], SkuldError) for name in errors)
    assert sorted([*first_cells(text), *bases]) == sorted(errors)
    assert [name for name in bases if f"`{name}`" not in text] == []


def test_the_stored_schema_is_that_of_todays_log() -> None:
    """`python docs/reference/make_schema.py` would change nothing."""
    script = runpy.run_path(str(REFERENCE / "make_schema.py"))

    assert script["SCHEMA"].read_bytes() == script["document"]()
