"""Run all benchmarks, each in a process of its own, and print the table that docs/reference/performance.md shows.

``--smoke`` only shows that the scripts run. ``--write-docs`` puts the table into docs/reference/performance.md; with
``--from`` it is made of results that ``--json`` kept, one column for each Python.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
from harness import Figure, Results, print_results, write_json

FOLDER = Path(__file__).parent
PAGE = FOLDER.parent / "docs" / "reference" / "performance.md"
SCRIPTS = (
    *("floor", "effects", "logged", "replay", "families", "codec", "imports", "session", "strands"),
    *("runtime_steps", "runtime_appends", "runtime_resume", "runtime_waits", "runtime_loops", "runtime_parked"),
)
BEGIN, END = "<!-- table: begin (benchmarks/run.py --write-docs) -->", "<!-- table: end -->"


def measured(script: str, *, smoke: bool) -> Results:
    """What *script* finds, in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "results.json"
        command = [sys.executable, str(FOLDER / f"{script}.py"), "--json", str(target)]
        subprocess.run([*command, "--smoke"] if smoke else command, check=True, stdout=subprocess.DEVNULL)
        return msgspec.json.decode(target.read_bytes(), type=Results)


def read(files: Iterable[Path]) -> list[Results]:
    """What ``--json`` kept in *files*."""
    return [results for file in files for results in msgspec.json.decode(file.read_bytes(), type=list[Results])]


def table(results: Sequence[Results]) -> str:
    """The figures as Markdown: those with a target first, a column for each Python."""
    pythons = list(dict.fromkeys(one.python for one in results))
    rows: dict[str, dict[str, Figure]] = {}
    for one in results:
        for figure in one.figures:
            rows.setdefault(figure.name, {})[one.python] = figure
    asked = {name: row for name, row in rows.items() if any(figure.target is not None for figure in row.values())}
    told = {name: row for name, row in rows.items() if name not in asked}
    lines = [line(["what", "at most", *pythons]), line(["---"] * (len(pythons) + 2))]
    for name, row in asked.items():
        target = next(figure.target for figure in row.values() if figure.target is not None)
        lines.append(line([name, f"{target:g}", *(cell(row.get(python)) for python in pythons)]))
    lines += ["", line(["for comparison, nothing is asked", *pythons]), line(["---"] * (len(pythons) + 1))]
    lines += [line([name, *(cell(row.get(python)) for python in pythons)]) for name, row in told.items()]
    return "\n".join(lines)


def line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def cell(figure: Figure | None) -> str:
    if figure is None:
        return ""
    if figure.ratio is None:
        return figure.note or f"{(figure.each or 0) / 1000:,.0f} µs"
    verdict = {None: "", True: ", met", False: ", **not met**"}[figure.met]
    return f"{figure.ratio:.2f} ({figure.low:.2f} to {figure.high:.2f}){verdict}"


def write_page(text: str) -> None:
    """Put the table *text* into the page, between its markers."""
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not rest or END not in rest:
        message = f"{PAGE} has no markers for the table: {BEGIN} and {END}"
        raise SystemExit(message)
    PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Run all benchmarks.")
    parser.add_argument("--json", metavar="FILE", help="keep the figures there; - is standard output")
    parser.add_argument("--smoke", action="store_true", help="tiny counts, which only show that the scripts run")
    parser.add_argument("--write-docs", action="store_true", help="put that table into docs/reference/performance.md")
    parser.add_argument(
        "--from", dest="files", metavar="FILE", nargs="+", type=Path, help="measure nothing: use what --json kept"
    )
    arguments = parser.parse_args()
    files: list[Path] | None = arguments.files
    target: str | None = arguments.json
    results: list[Results] = [] if files is None else read(files)
    for script in SCRIPTS if files is None else ():
        results.append(measured(script, smoke=arguments.smoke))
        print_results(results[-1], sys.stderr)
    if target is not None:
        write_json(target, results)
    if target != "-":
        print(table(results))
    if arguments.write_docs:
        if any(one.smoke for one in results):
            message = "figures of --smoke mean nothing, and are not for the docs"
            raise SystemExit(message)
        write_page(table(results))


if __name__ == "__main__":
    main()
