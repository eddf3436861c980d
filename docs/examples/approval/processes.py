"""The processes of the demo: the service for as long as it is needed, and each command from start to end."""

import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
READY_WITHIN = 30
"""Seconds that a machine under load may need to start the service."""
ENDS_WITHIN = 60
"""Seconds that any one command may take."""


@dataclass(frozen=True)
class Service:
    """A service that accepts connections."""

    url: str
    pid: int


@contextmanager
def serving(database: Path, *options: str) -> Generator[Service, None, None]:
    """A service over this database, with these options; on every way out, its process has ended.

    It has a session of its own, so Ctrl-C reaches this process alone, which then stops it in order; and it stops by
    itself when its standard input closes, so it does not outlive this process even after `kill -9`.
    """
    process = subprocess.Popen(
        [sys.executable, str(HERE / "service.py"), "--database", str(database), "--stop-at-end-of-input", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield Service(_address(process), process.pid)
    finally:
        _stop(process)


def _address(process: subprocess.Popen[str]) -> str:
    # A service that hangs before it is ready is killed, which ends the wait for its line.
    watchdog = threading.Timer(READY_WITHIN, process.kill)
    watchdog.start()
    try:
        address = process.stdout.readline().strip() if process.stdout else ""
    finally:
        watchdog.cancel()
    if not address:
        problem = f"the service did not start; it ended with {process.wait()}"
        raise RuntimeError(problem)
    return address


def _stop(process: subprocess.Popen[str]) -> None:
    try:
        process.communicate(timeout=10)  # closes its standard input, which asks it to end
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    code: int
    out: str
    err: str


def command(directory: Path, script: str, *arguments: str | Path) -> Finished:
    """Run one of the demo's scripts in this directory, in a process of its own, to its end."""
    line = [sys.executable, str(HERE / script), *map(str, arguments)]
    done = subprocess.run(line, cwd=directory, capture_output=True, text=True, timeout=ENDS_WITHIN, check=False)
    return Finished(done.returncode, done.stdout, done.stderr)
