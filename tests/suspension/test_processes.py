"""7.7 with real processes: one is ended in the middle of a call, another one goes on from its log."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec import Raw

from skuld_async import Log

WORKER = Path(__file__).with_name("worker.py")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")


def command(folder: Path, backend: str, *answer: str) -> list[str]:
    return [sys.executable, "-X", "dev", "-W", "error", str(WORKER), str(folder), backend, *answer]


def run_to_its_end(folder: Path, backend: str, *answer: str) -> str:
    done = subprocess.run(
        command(folder, backend, *answer), capture_output=True, text=True, timeout=30, check=False, env=dict(os.environ)
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def arrived(folder: Path) -> list[str]:
    return (folder / "arrived.txt").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_a_process_that_is_ended_in_a_call(tmp_path: Path, backend: str, how: signal.Signals) -> None:
    """7.7 SIGTERM and `kill -9` in the middle of a call: the next process performs it again, only it, by its key."""
    assert "Suspended suspended" in run_to_its_end(tmp_path, backend)
    (tmp_path / "hang").touch()
    with subprocess.Popen(
        command(tmp_path, backend, "approved"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as worker:
        try:
            assert worker.stdout is not None
            assert any("in flight" in line for line in worker.stdout)
            worker.send_signal(how)
            said, errors = worker.communicate(timeout=30)
        finally:
            worker.kill()
    assert worker.returncode == (0 if how is signal.SIGTERM else -signal.SIGKILL)
    assert errors == ""
    assert said == ("cancelled by the host\n" if how is signal.SIGTERM else "")
    (tmp_path / "hang").unlink()

    log = Log.from_json((tmp_path / "log.json").read_bytes())
    assert [(entry.id, entry.state) for entry in log.entries] == [
        ("0/1", "executed"),
        ("0/2", "executed"),
        ("0/3", "started"),
    ]
    assert log.header.status == "running"
    other = "trio" if backend == "asyncio" else "asyncio"
    assert "Completed completed" in run_to_its_end(tmp_path, other)
    assert arrived(tmp_path) == ["charge 100 run-1/0/1", "ship o-1 run-1/0/3", "ship o-1 run-1/0/3"]


def test_a_run_that_nobody_disturbs(tmp_path: Path) -> None:
    """The worker itself: one process starts, another one answers, and each call arrives once."""
    assert "Suspended suspended" in run_to_its_end(tmp_path, "asyncio")
    assert "Completed completed" in run_to_its_end(tmp_path, "trio", "approved")
    assert arrived(tmp_path) == ["charge 100 run-1/0/1", "ship o-1 run-1/0/3"]
    log = Log.from_json((tmp_path / "log.json").read_bytes())
    assert log.header.result == Raw(b'"charged, approved, shipped"')
