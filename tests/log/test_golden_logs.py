"""DESIGN 6.12: the logs in ``tests/logs``, written by earlier code, are read and replay."""

from pathlib import Path

import pytest

from skuld_async import Cancelled, Completed, Failed, Log, Outcome, Suspended, replay, resume
from skuld_async.log.entry import FORMAT

from . import golden

LOGS = Path(__file__).parents[1] / "logs"
FILES = sorted(path for folder in LOGS.glob("format-*") for path in folder.iterdir())


def read(path: Path) -> Log:
    data = path.read_bytes()
    return Log.from_json(data) if path.suffix == ".json" else Log.from_msgpack(data)


def test_each_workflow_has_its_logs_in_both_containers() -> None:
    """6.12 Golden logs: one of each status, with loops, divergence and a rerun, as JSON and as MessagePack."""
    names = {path.stem for path in FILES if path.parent.name == f"format-{FORMAT}"}

    assert names == set(golden.COMPUTATIONS)
    assert {read(path).header.status for path in FILES} == {"suspended", "completed", "failed", "cancelled"}
    for path in FILES:
        assert path.with_suffix(".json").exists()
        assert path.with_suffix(".msgpack").exists()
        assert read(path.with_suffix(".json")).to_json() == read(path.with_suffix(".msgpack")).to_json()


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.name}")
async def test_a_golden_log_replays(path: Path) -> None:
    """6.12 Every release reads every older log; here: replays it, and nobody outside is asked."""
    log = read(path)
    outcome = await replay(golden.COMPUTATIONS[path.stem], log, *golden.handlers(golden.Closed()))

    kinds = {"suspended": Suspended, "completed": Completed, "failed": Failed, "cancelled": Cancelled}
    assert type(outcome) is kinds[log.header.status]
    assert [entry.id for entry in outcome.log.entries] == [entry.id for entry in log.entries]
    assert outcome.log.to_json() == log.to_json()


@pytest.mark.parametrize(
    ("name", "answers", "value"),
    [
        ("order-suspended", ["accept"], "paid 1200 2000 "),
        ("talk-pruned", ["three"], "one,two,three"),
        ("talk-whole", ["three"], "one,two,three"),
        ("changed", ["bye"], "bye"),
        ("moves-suspended", ["two"], "box of "),
    ],
)
@pytest.mark.parametrize("suffix", ["json", "msgpack"])
async def test_a_golden_log_goes_on(name: str, answers: list[str], value: str, suffix: str) -> None:
    """6.12 A run that was suspended by earlier code goes on from its log."""
    log = read(LOGS / f"format-{FORMAT}" / f"{name}.{suffix}")
    outcome: Outcome[str] | None = None
    for answer in answers:
        outcome = await resume(golden.COMPUTATIONS[name], log, *golden.handlers(golden.Warehouse()), answer=answer)
        log = outcome.log

    assert isinstance(outcome, Completed)
    assert outcome.value.startswith(value)
