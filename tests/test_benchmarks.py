"""The benchmarks run, and none of the targets is left out. How fast anything is, is no test's business."""

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

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
}


@cache
def smoke() -> Any:
    """What all the scripts give, with tiny counts."""
    command = [sys.executable, str(ROOT / "benchmarks" / "run.py"), "--smoke", "--json", "-"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, timeout=50).stdout)


def test_each_script_answers_its_question_in_figures() -> None:
    """`benchmarks/run.py --smoke --json -` gives, for each script, question, Python and figures."""
    scripts = {file.stem for file in (ROOT / "benchmarks").glob("*.py")} - {"harness", "run"}
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
