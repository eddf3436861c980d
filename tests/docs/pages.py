"""Reads and runs the pages of the documentation.

What a fenced block means:

===========  =========================================================================================================
``python``   runs in the page's namespace, top to bottom; `await` is allowed at top level. One whose first line is
             ``# name.py`` is a file: it is written, and run where a console block or an import names it.
``text``     what the page printed since the last such block; ``…`` stands for anything within a line
``console``  lines after ``$ python`` are run in the page's folder, and what follows is what they print
``json``     the content of a JSON file in the page's folder; the string ``…`` stands for any value
others       are not run
===========  =========================================================================================================

Functions named ``test_...`` run as tests, with the fixture ``always_cold``.
"""

import ast
import contextlib
import importlib
import inspect
import io
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Self, TypeAlias

import anyio

JSON: TypeAlias = "dict[str, JSON] | list[JSON] | str | float | bool | None"

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

_FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"# ([\w-]+\.py)\n")


@dataclass(frozen=True)
class Block:
    """A fenced block, and the line of the page on which its text starts."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of *page*."""
    text = page.read_text(encoding="utf-8")
    return [Block(found[1], found[2], text.count("\n", 0, found.start(2)) + 1) for found in _FENCE.finditer(text)]


def name_of(page: Path) -> str:
    """The page as a reader names it."""
    return page.relative_to(ROOT).as_posix()


def matches(expected: str, printed: str) -> bool:
    """Whether *printed* is *expected*, where … stands for anything within a line."""
    pattern = ".*".join(re.escape(part) for part in expected.rstrip().split("…"))
    return re.fullmatch(pattern, printed.rstrip()) is not None


def same(expected: JSON, found: JSON) -> bool:
    """Whether the JSON *found* is *expected*, where the string … stands for any value."""
    if expected == "…":
        return True
    if isinstance(expected, dict) and isinstance(found, dict):
        return expected.keys() == found.keys() and all(same(expected[key], found[key]) for key in expected)
    if isinstance(expected, list) and isinstance(found, list):
        return len(expected) == len(found) and all(map(same, expected, found))
    return bool(expected == found)


def module_name(page: Path) -> str:
    """What logs call the page's code: its stem, unless a file of the page or a module of Python's has that name."""
    name = page.stem.replace("-", "_")
    files = {found[1] for block in blocks(page) if (found := _FILE.match(block.text))}
    return f"{name}_page" if f"{name}.py" in files or name in sys.stdlib_module_names else name


class Page:
    """One run of a page, in a folder of its own."""

    def __init__(self, path: Path, folder: Path, fixtures: dict[str, Any]) -> None:
        self.path = path
        self.folder = folder
        self.fixtures = fixtures
        self.module = ModuleType(module_name(path))
        self.files: set[str] = set()
        self.printed = io.StringIO()

    def __enter__(self) -> Self:
        # Structs and computations evaluate their annotations in the module that they name.
        sys.modules[self.module.__name__] = self.module
        return self

    def __exit__(self, *_: object) -> None:
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if module is self.module or (file is not None and Path(file).parent == self.folder):
                del sys.modules[name]

    async def run(self) -> None:
        """Run each block, then the tests that the page defines."""
        for block in blocks(self.path):
            at = f"{name_of(self.path)}:{block.line}"
            if block.language == "python":
                await self.python(block)
            elif block.language == "console":
                await self.console(block, at)
            elif block.language == "text":
                printed = self.take()
                assert matches(block.text, printed), f"{at}: printed\n{printed}"
            elif block.language == "json":
                found = [json.loads(file.read_bytes()) for file in self.folder.glob("*.json")]
                assert any(same(json.loads(block.text), one) for one in found), f"{at}: {found}"
        for name in sorted(self.files):
            with self.printing():
                module = importlib.import_module(name.removesuffix(".py"))
            await self.tests(vars(module))
        await self.tests(vars(self.module))
        assert self.take() == "", f"{name_of(self.path)}: printed what no block shows"

    def take(self) -> str:
        """What was printed since the last time."""
        printed, self.printed = self.printed.getvalue(), io.StringIO()
        return printed

    def printing(self) -> contextlib.AbstractContextManager[Any]:
        """Keep what is printed."""
        return contextlib.redirect_stdout(self.printed)

    async def python(self, block: Block) -> None:
        """Run a block, or write it where it is a file."""
        file = _FILE.match(block.text)
        if file is not None:
            (self.folder / file[1]).write_text(block.text, encoding="utf-8")
            self.files.add(file[1])
            importlib.invalidate_caches()
            return
        with self.printing():
            ran = eval(compiled(block, self.path), vars(self.module))  # noqa: S307 - the documentation's own code
            if inspect.isawaitable(ran):
                await ran

    async def console(self, block: Block, at: str) -> None:
        """Run the commands of a block that start with ``python``."""
        for command, expected in transcript(block.text):
            words = shlex.split(command)
            if words[0] != "python":
                continue
            self.files -= set(words)
            done = await anyio.run_process(
                [sys.executable, *words[1:]], cwd=self.folder, check=False, stderr=subprocess.STDOUT
            )
            printed = done.stdout.decode()
            assert matches(expected, printed), f"{at}: {command} printed\n{printed}"

    async def tests(self, namespace: dict[str, Any]) -> None:
        """Run the tests in *namespace*."""
        for name, test in list(namespace.items()):
            if name.startswith("test_") and callable(test):
                await self.call(test)

    async def call(self, test: Callable[..., Any]) -> None:
        """Run one test with the fixtures that it names."""
        ran = test(**{name: self.fixtures[name] for name in inspect.signature(test).parameters})
        if inspect.isawaitable(ran):
            await ran


def compiled(block: Block, page: Path) -> CodeType:
    """The code of a block, at its lines of the page."""
    padded = "\n" * (block.line - 1) + block.text
    code: CodeType = compile(padded, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    return code


def transcript(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a console block, each with what it prints."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        yield command, expected
