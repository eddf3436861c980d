"""What holds for the project as a whole: its public names, its files, its dependencies."""

import ast
import pydoc
import re
import tomllib
from pathlib import Path

import pytest

import skuld_async

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "skuld_async"


def public_names(tree: ast.Module) -> list[str]:
    """The list that `__all__` is set to."""
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name("__all__")], value=value):
                return [str(name) for name in ast.literal_eval(value)]
            case _:
                pass
    message = "skuld_async/__init__.py sets no __all__"
    raise AssertionError(message)


def test_public_names_are_those_re_exported_and_sorted() -> None:
    """`__all__` is sorted, and names exactly what type checkers see as `X as X`, each at the home it is taken from."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    block = next(statement for statement in tree.body if isinstance(statement, ast.If))
    seen = {
        alias.name: f".{statement.module}"
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
        if alias.name == alias.asname
    }

    assert public_names(tree) == sorted(seen)
    assert skuld_async.__all__ == sorted(seen)
    assert seen == skuld_async._HOMES
    assert [name for name in skuld_async.__all__ if not hasattr(skuld_async, name)] == []
    assert dir(skuld_async) == skuld_async.__all__


@pytest.mark.parametrize("name", skuld_async.__all__)
def test_help_is_there_for_each_public_name(name: str) -> None:
    """`help(...)` of each public name can be shown: the annotations of what it shows are there at run time."""
    documentation = pydoc.render_doc(getattr(skuld_async, name))

    assert name in documentation or name in ("Effectful", "Outcome")  # aliases are shown as what they stand for


def test_no_file_of_the_package_is_over_400_lines() -> None:
    """One concept a file: what needs more room is two concepts."""
    files = sorted(PACKAGE.rglob("*.py"))
    lines = {str(file.relative_to(ROOT)): len(file.read_text(encoding="utf-8").splitlines()) for file in files}

    assert files
    assert {file: count for file, count in lines.items() if count > 400} == {}


def test_the_core_needs_three_packages() -> None:
    """anyio, msgspec and typing-extensions; everything else is an extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = [re.split(r"[^\w.-]", requirement, maxsplit=1)[0] for requirement in project["dependencies"]]

    assert sorted(names) == ["anyio", "msgspec", "typing-extensions"]
