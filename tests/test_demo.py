"""The demo in docs/examples/approval, run as a person would run it: real processes, nothing left behind."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[1] / "docs" / "examples" / "approval" / "run_all.py"

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")


@pytest.mark.timeout(300)
def test_the_demo_tells_a_true_story_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """Every claim of the story holds, among them: one validation over two processes, one booking for each key."""
    done = subprocess.run(
        [sys.executable, str(DEMO)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env=_with_temporary(tmp_path),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "NOT TRUE" not in done.stdout
    assert "Traceback" not in done.stdout
    assert done.stdout.endswith("All claims hold.\n")
    for line in (
        "ok: validation was not repeated",
        "Service: validate 1, execute 1, bookings 1",
        "Service: validate 1, execute 2, bookings 1",
        "Refused: req-43 is not bought.",
        "cbabbage is not a manager who may approve purchases.",
        "That does not answer the question, which stays open for approved or rejected",
        "the lost receipt is found",
        "half.json is damaged or not a log",
        "req-48.json was written by another version of the workflow",
    ):
        assert line in done.stdout
    services = re.findall(r"^service: process (\d+) ", done.stdout, re.MULTILINE)
    assert len(services) == 3
    assert not any(_is_alive(int(pid)) for pid in services)
    assert list(tmp_path.iterdir()) == []


def _as_in_a_terminal() -> None:
    """Let SIGINT stop the process: in the background of a shell it is ignored, and that is inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@posix
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_service_ends_with_the_demo_however_it_is_stopped(how: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C and a polite kill stop it in order; `kill -9` closes its standard input, which stops it as well."""
    with subprocess.Popen(
        [sys.executable, str(DEMO)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=_with_temporary(tmp_path),
        preexec_fn=_as_in_a_terminal,  # noqa: PLW1509 - this process has no other threads
    ) as demo:
        assert demo.stdout is not None
        try:
            first = next(line for line in demo.stdout if line.startswith("service: "))
            port = int(first.rpartition(":")[2])
            assert _serves(port), first
        finally:
            demo.send_signal(how)
        assert demo.wait(timeout=30) != 0
        deadline = time.monotonic() + 30
        while _serves(port):
            assert time.monotonic() < deadline, "the service outlived the demo"
            time.sleep(0.05)


def _with_temporary(directory: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(directory)}


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _serves(port: int) -> bool:
    # Not by process id: where nobody reaps orphans, a service that has ended keeps its id.
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True
