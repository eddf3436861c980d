"""What the scripts share: measurements that stand next to each other, figures with their targets, the command line.

A ratio is taken inside each repetition, between a case and the base measured right before and right after it, and the
median of the ratios is reported: on a shared machine absolute times wander, ratios much less. Time is processor time
of the thread, so that waiting for a processor is not counted. The garbage collector runs as it does for users; it is
asked to collect before each measurement, so that none pays for its neighbour's garbage.
"""

from __future__ import annotations

import argparse
import gc
import platform
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

import anyio
import msgspec

Case = Callable[[], Awaitable[int]]
"""One measurement; gives how many effects, entries or calls it made."""


class Figure(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the table."""

    name: str
    ratio: float | None = None
    """Median over the repetitions; None where a time or a size is told and nothing is compared."""
    low: float | None = None
    """The lowest repetition ..."""
    high: float | None = None
    """... and the highest."""
    target: float | None = None
    """The ratio that is asked for; None where none is."""
    each: float | None = None
    """Median nanoseconds for one effect, entry or call."""
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None where there is none."""
        return None if self.target is None or self.ratio is None else self.ratio <= self.target

    @property
    def verdict(self) -> str:
        """The same in words."""
        return {None: "", True: "met", False: "not met"}[self.met]


class Results(msgspec.Struct, frozen=True):
    """What one script found."""

    script: str
    question: str
    python: str
    smoke: bool
    figures: list[Figure]


class Sizes(msgspec.Struct, frozen=True):
    """How much is measured."""

    smoke: bool = False

    @property
    def repetitions(self) -> int:
        """How often each case is measured."""
        return 1 if self.smoke else 11

    def count(self, full: int) -> int:
        """*full*, or few."""
        return min(full, 100) if self.smoke else full


async def compare(
    base: Case, cases: Mapping[str, Case], repetitions: int, targets: Mapping[str, float]
) -> list[Figure]:
    """Measure each case, one by one, between two measurements of *base*.

    Args:
        base: What one is compared with.
        cases: What is measured, by name.
        repetitions: How often; one that does not count comes before.
        targets: The ratios that are asked for, by the same names.

    Returns:
        A figure for each case.
    """
    for case in [base, *cases.values()]:
        await timed(case)
    times: dict[str, list[float]] = {name: [] for name in cases}
    ratios: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(repetitions):
        before = await timed(base)
        for name, case in cases.items():
            measured = await timed(case)
            after = await timed(base)
            times[name].append(measured)
            ratios[name].append(2 * measured / (before + after))
            before = after
    return [figure(name, ratios[name], targets.get(name), statistics.median(times[name])) for name in cases]


def figure(name: str, ratios: Sequence[float], target: float | None = None, each: float | None = None) -> Figure:
    """A figure from the ratios of the repetitions."""
    return Figure(name, statistics.median(ratios), min(ratios), max(ratios), target, each)


async def timed(case: Case) -> float:
    """Nanoseconds of processor time for one effect, entry or call."""
    gc.collect()
    started = time.thread_time_ns()
    count = await case()
    return (time.thread_time_ns() - started) / count


def main(script: str, question: str, measure: Callable[[Sizes], Awaitable[list[Figure]]]) -> None:
    """The command line of a script: ``--smoke`` for tiny counts, ``--json FILE`` for machines.

    Args:
        script: Its path.
        question: What it answers.
        measure: Gives the figures.
    """
    parser = argparse.ArgumentParser(description=question)
    parser.add_argument("--json", metavar="FILE", help="write the figures there; - is standard output")
    parser.add_argument("--smoke", action="store_true", help="tiny counts, which only show that the script runs")
    arguments = parser.parse_args()
    smoke: bool = arguments.smoke
    target: str | None = arguments.json
    figures = anyio.run(measure, Sizes(smoke))
    results = Results(Path(script).stem, question, python_version(), smoke, figures)
    if target != "-":
        print_results(results)
    if target is not None:
        write_json(target, results)


def python_version() -> str:
    """The interpreter, as ``CPython 3.11.7``."""
    return f"{platform.python_implementation()} {platform.python_version()}"


def write_json(target: str, results: Results | Iterable[Results]) -> None:
    """Write *results*, indented, to a file, or to standard output for ``-``."""
    data = msgspec.json.format(msgspec.json.encode(results), indent=2) + b"\n"
    if target == "-":
        sys.stdout.buffer.write(data)
    else:
        Path(target).write_bytes(data)


def print_results(results: Results, file: TextIO | None = None) -> None:
    """The figures for a person, to *file*, by default standard output."""
    smoke = "; smoke: the figures mean nothing" if results.smoke else ""
    print(f"{results.question} ({results.python}{smoke})", file=file)
    for one in results.figures:
        ratio = "" if one.ratio is None else f"{one.ratio:.2f} x"
        spread = "" if one.low is None or one.high is None else f"({one.low:.2f} to {one.high:.2f})"
        each = "" if one.each is None else f"{one.each:,.0f} ns"
        target = "" if one.target is None else f"at most {one.target:g}: {one.verdict}"
        print(f"  {one.name:44} {ratio:>9}  {spread:18} {each:>14}  {target:22}{one.note}".rstrip(), file=file)
