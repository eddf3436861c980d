"""Breaks the library on purpose, one line at a time: each promise has a mutant that its test must catch.

``python tests/mutants/run.py [area ...] [--only NAME] [--jobs N] [--list]``

Each ``<area>.toml`` beside this file holds mutants::

    [[mutant]]
    name = "sticky-signals-forgotten"
    promise = "5.8"
    file = "skuld_async/_pump.py"
    before = "exact text, which stands once in that file"
    after = "the broken text"
    tests = ["tests/kernel/test_signals.py::test_what_stopped_a_strand_stays"]

and, where it breaks something on some Pythons only, ``since = "3.12"`` or ``before_python = "3.12"``. The promise is a
number of the design, or the name of what makes it.

The package is copied to a temporary folder, one mutant is applied there, and its tests run against the copy. A mutant
is caught where they fail (or hang), and survives where they pass. Survivors, stale ``before`` texts and tests that fail
without any mutant are errors: the exit code is 1 then.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = "skuld_async"
SECONDS = 120
"""After which the tests of one mutant are ended: a mutant that hangs is caught."""


@dataclass(frozen=True)
class Mutant:
    """One break of the library."""

    area: str
    name: str
    promise: str
    file: str
    before: str
    after: str
    tests: list[str]
    since: str = "3.0"
    before_python: str = "4.0"

    @property
    def is_for_this_python(self) -> bool:
        """Whether it breaks anything here."""
        since, before = (tuple(map(int, version.split("."))) for version in (self.since, self.before_python))
        return since <= sys.version_info[:2] < before

    @property
    def place(self) -> tuple[bool, list[int], str]:
        """Where its promise stands in the list: numbers of the design first, then what has none."""
        numbers = re.findall(r"[0-9]+", self.promise)
        return not self.promise[0].isdigit(), [int(number) for number in numbers], self.promise

    def problem(self) -> str | None:
        """Why it cannot be applied, if so."""
        path = ROOT / self.file
        if not path.is_file():
            return f"stale: there is no {self.file}"
        found = path.read_text(encoding="utf-8").count(self.before)
        if found != 1:
            return f"stale: `before` stands {found} times in {self.file}"
        return "it changes nothing" if self.before == self.after else None


def mutants_in(areas: Sequence[str]) -> list[Mutant]:
    """The mutants of some areas, of all if none is named."""
    folder = Path(__file__).parent
    files = [folder / f"{area}.toml" for area in areas] or sorted(folder.glob("*.toml"))
    found = [(file.stem, tomllib.loads(file.read_text(encoding="utf-8"))) for file in files]
    return [Mutant(area=area, **mutant) for area, content in found for mutant in content.get("mutant", [])]


def run_tests(folder: Path, tests: Sequence[str], *, first_failure: bool) -> tuple[int, str]:
    """Exit code of pytest, and its last lines, for *tests* against the package in *folder*; code 1 where they hang."""
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "timeout=30"]
    command += ["-x"] if first_failure else []
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            [*command, *tests], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return 1, "timed out"
    return done.returncode, "\n".join(done.stdout.splitlines()[-20:])


def copy_to(folder: Path) -> None:
    """Copy the package into *folder*, and see to it that it is the copy which is tested."""
    shutil.copytree(ROOT / PACKAGE, folder / PACKAGE)
    found = subprocess.run(
        [sys.executable, "-P", "-c", f"import {PACKAGE}; print({PACKAGE}.__file__)"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    if not Path(found.stdout.strip()).is_relative_to(folder):
        message = f"{found.stdout.strip()} is imported instead of the copy in {folder}"
        raise RuntimeError(message)


def verdict(mutant: Mutant, original: Path) -> str | None:
    """None where *mutant* is caught, else what is wrong with it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(original / PACKAGE, folder / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
        broken = folder / mutant.file
        broken.write_text(broken.read_text(encoding="utf-8").replace(mutant.before, mutant.after), encoding="utf-8")
        code, output = run_tests(folder, mutant.tests, first_failure=True)
    if code == 1:
        return None
    return "SURVIVED" if code == 0 else f"its tests could not run (pytest ended with {code}):\n{output}"


def check(mutants: Sequence[Mutant], jobs: int) -> list[str]:
    """Everything that is wrong, as lines to print."""
    stale = [(mutant, problem) for mutant in mutants if (problem := mutant.problem()) is not None]
    wrong = [f"{mutant.area}/{mutant.name}: {problem}" for mutant, problem in stale]
    names = [mutant.name for mutant in mutants]
    wrong += [f"{name}: two mutants have this name" for name in sorted({one for one in names if names.count(one) > 1})]
    usable = [mutant for mutant in mutants if mutant.problem() is None and mutant.is_for_this_python]
    with tempfile.TemporaryDirectory() as name:
        original = Path(name)
        copy_to(original)
        tests = sorted({test for mutant in usable for test in mutant.tests})
        code, output = run_tests(original, tests, first_failure=False) if tests else (0, "")
        if code != 0:
            return [*wrong, f"without any mutant the tests do not pass:\n{output}"]
        with ThreadPoolExecutor(jobs) as pool:
            verdicts = pool.map(verdict, usable, [original] * len(usable))
            for mutant, problem in zip(usable, verdicts, strict=True):
                print(f"{'caught  ' if problem is None else 'NOT OK  '} {mutant.promise:14} {mutant.name}", flush=True)
                if problem is not None:
                    wrong.append(f"{mutant.area}/{mutant.name}: {problem}")
    return wrong


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("areas", nargs="*", help="names of the TOML files, without .toml; all if none is given")
    parser.add_argument("--only", help="the mutants whose name contains this")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="mutants at a time")
    parser.add_argument("--list", action="store_true", help="print promise, mutant and tests, and run nothing")
    arguments = parser.parse_args()
    mutants = [one for one in mutants_in(arguments.areas) if arguments.only is None or arguments.only in one.name]
    if arguments.list:
        for mutant in sorted(mutants, key=lambda one: one.place):
            print(f"{mutant.promise:14} {mutant.name:50} {', '.join(mutant.tests)}")
        return 0
    wrong = check(mutants, arguments.jobs)
    print(f"{len(mutants)} mutants, {len(wrong)} problems", *wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
