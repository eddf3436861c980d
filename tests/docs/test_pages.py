"""README.md and docs/**/*.md: the code runs and prints what the page shows, the links lead somewhere."""

import ast
import gc
import re
import sys
from pathlib import Path

import pytest

from skuld_async.testing.plugin import AlwaysCold

from .pages import PAGES, ROOT, Page, blocks, name_of

RUNNING = [page for page in PAGES if any(block.language == "python" for block in blocks(page))]
_LINK = re.compile(r"\]\(([^)#\s]*)(#[^)\s]*)?\)")
_DESCRIBED = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@pytest.mark.parametrize("page", RUNNING, ids=name_of)
async def test_the_code_of_a_page_runs_and_prints_what_the_page_shows(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Every Python block runs, top to bottom, in one namespace; what a page shows as output is its output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    fixtures: dict[str, AlwaysCold] = {}
    if any("always_cold" in block.text for block in blocks(page)):  # tests that use it run in a second process, too
        fixtures["always_cold"] = request.getfixturevalue("always_cold")
    with Page(page, tmp_path, fixtures) as opened:
        await opened.run()
    gc.collect()  # classes of this run would be found by name in the next one


def test_the_commands_of_the_readme_are_nox_sessions() -> None:
    """`nox -s demo` and `nox -s tests` do all the set-up on a machine with Python and venv."""
    shell = "\n".join(block.text for block in blocks(ROOT / "README.md") if block.language == "sh")
    named = re.findall(r"nox -s (\S+)", shell)
    sessions = nox_sessions()

    assert [name for name in named if name not in sessions] == []
    for name in ("demo", "tests"):
        assert f"python3 -m venv .venv && .venv/bin/pip install nox && .venv/bin/nox -s {name}\n" in shell


def nox_sessions() -> set[str]:
    """The functions that noxfile.py makes sessions of, under their names."""
    functions = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8")).body
    return {
        function.name
        for function in functions
        if isinstance(function, ast.FunctionDef)
        for decorator in function.decorator_list
        if ast.unparse(decorator) == "nox.session"
    }


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_links_of_a_page_lead_to_a_file_and_a_heading(page: Path) -> None:
    """A link into the project leads to a file that exists, and to a heading that it has."""
    broken: list[str] = []
    for found in _LINK.finditer(_prose(page)):
        target, anchor = found[1], found[2]
        if "://" in target:
            continue
        file = (page.parent / target).resolve() if target else page
        if not file.exists() or (anchor and anchor[1:] not in _anchors(file)):
            broken.append(found[0])

    assert broken == []


def _prose(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and mkdocs make them, and of the names that it describes."""
    headings = _HEADING.findall(_prose(page))
    return {*_DESCRIBED.findall(_prose(page))} | {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    }
