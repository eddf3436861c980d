"""The benchmarks run, and none of the targets is left out. How fast anything is, is no test's business."""

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(120)

ROOT = Path(__file__).parents[1]
TARGETS = {
    "effect, sync handler": 1.5,
    "effect, async handler": 2,
    "`await effect`": 2.5,
    "logged local effect, one of 1,000": 4,
    "logged local effect, one of 1,000,000": 4,
    "replay, local effects, JSON": 4,
    "replay, local effects, MessagePack": 4,
    "sub-computation, returns at once, async generator": 6,
    "to_json": 1.5,
    "from_json": 1.5,
    "to_msgpack": 1.5,
    "from_msgpack": 1.5,
    "import skuld_async": 1.3,
    "Parallel.all of 1,000, logged": 2.5,
    "replay of 100 strands, local effects": 1,
    "replay of 100 strands, port calls": 1,
    "steps of one run, SQLite, full": 1.25,
    "steps of one run, SQLite, normal": 1.25,
    "steps of one run, PostgreSQL": 1.25,
    "steps of 50 runs, SQLite, full": 2.5,
    "steps of 50 runs, PostgreSQL": 2.5,
    "steps of 500 runs, SQLite, full": 2.5,
    "steps of 500 runs, PostgreSQL": 2.5,
    "appends for a Port call, SQLite": 1,
    "appends for a Port call, PostgreSQL": 1,
    "appends with 10 local effects around each call, and with none, SQLite": 1,
    "cold resume of 1,000 entries, SQLite": 3,
    "cold resume of 1,000 entries, in 10 ms": 1,
    "200 round trips, in memory while they wait, SQLite": 2.5,
    "200 round trips, put away while they wait, SQLite": 2.5,
    "200 round trips, put away while they wait, PostgreSQL": 2.5,
    "turn 1,000 and turn 10, bounded window, time": 1.2,
    "turn 1,000 and turn 10, bounded window, bytes of the log": 1.2,
    "memory of a run that was put away, and of one that is held": 0.01,
}
SHARED = {"harness", "run", "runtime_parts", "baselines_sqlite", "baselines_postgres"}
"""What is no question, but what the scripts share."""


@cache
def smoke() -> Any:
    """What all the scripts give, with tiny counts."""
    command = [sys.executable, str(ROOT / "benchmarks" / "run.py"), "--smoke", "--json", "-"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, timeout=110).stdout)


def test_each_script_answers_its_question_in_figures() -> None:
    """`benchmarks/run.py --smoke --json -` gives, for each script, question, Python and figures."""
    scripts = {file.stem for file in (ROOT / "benchmarks").glob("*.py")} - SHARED
    results = smoke()

    assert {one["script"] for one in results} == scripts
    for one in results:
        assert one["question"].endswith("?")
        assert re.fullmatch(r"\w+ 3\.\d+\.\d+\S*", one["python"])
        assert one["smoke"] is True
        assert one["figures"]
        for figure in one["figures"]:
            assert figure["name"]
            assert {"ratio", "each", "note"} & set(figure)
            if "ratio" in figure:
                assert 0 < figure["low"] <= figure["ratio"] <= figure["high"]


def test_each_target_stands_beside_its_figure() -> None:
    """What is asked of the speed is measured, and stands beside what was found."""
    measured = {figure["name"]: figure.get("target") for one in smoke() for figure in one["figures"]}

    assert {name: measured.get(name) for name in TARGETS} == TARGETS


def test_the_page_shows_each_figure_that_has_a_target() -> None:
    """docs/reference/performance.md holds the table, with its verdicts, met or not."""
    page = (ROOT / "docs" / "reference" / "performance.md").read_text(encoding="utf-8")
    rows = {row.split(" | ")[0].removeprefix("| "): row for row in page.splitlines() if row.startswith("| ")}
    asked = [figure["name"] for one in smoke() for figure in one["figures"] if "target" in figure]

    assert [name for name in asked if name not in rows] == []
    assert [name for name in asked if "met" not in rows[name]] == []
