"""Liveness: who is dead, without asking any wall clock."""

import os
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
from msgspec.structs import replace

from skuld_async.durable.liveness import Census, this_worker
from skuld_async.durable.records import WorkerRecord

LEASE = 8.0
ME = this_worker(["approval"])
AWAY = WorkerRecord(id="away", host="other machine", pid=os.getpid(), born="1", workflows=("approval",), beat=1)

_NEIGHBOUR = """
import sys
from skuld_async.durable.liveness import this_worker
worker = this_worker([])
print(worker.id, worker.host, worker.pid, worker.born, flush=True)
sys.stdin.read()
"""


@contextmanager
def _neighbour() -> Generator[tuple[WorkerRecord, subprocess.Popen[str]]]:
    """A worker in another process of this host."""
    process = subprocess.Popen(
        [sys.executable, "-c", _NEIGHBOUR], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        name, host, pid, born = process.stdout.readline().split()
        yield WorkerRecord(name, host, int(pid), born, (), beat=1), process
        process.kill()


def _looks(census: Census, workers: list[WorkerRecord], begin: float, seconds: float) -> list[float]:
    """Look once in a second; gives the times, after *begin*, at which all of *workers* are dead."""
    every = frozenset(worker.id for worker in workers)
    times = [float(second) for second in range(int(seconds) + 1)]
    return [second for second in times if census.dead(workers, begin + second) == every]


def test_each_worker_has_its_own_id_and_the_same_process() -> None:
    """Two runtimes of one process are two workers with one process, whose start is known."""
    other = this_worker(["approval", "refund"])
    assert other.id != ME.id
    assert (other.host, other.pid, other.born) == (ME.host, os.getpid(), ME.born)
    assert other.workflows == ("approval", "refund")
    assert other.beat == 0
    assert ME.born


def test_a_process_that_is_gone_is_dead_at_once() -> None:
    """A neighbour lives at the first look and, killed, is dead at the next one: before its parent asked for it, too."""
    census = Census(ME, LEASE)
    with _neighbour() as (worker, process):
        assert (worker.host, worker.pid) == (ME.host, process.pid)
        assert census.dead([worker], 0.0) == frozenset()
        process.kill()
        while not census.dead([worker], 0.0):  # nothing tells when a killed process has become a zombie
            time.sleep(0.001)
        assert process.returncode is None
        process.wait()
        assert census.dead([worker], 0.0) == {worker.id}


def test_a_number_that_was_given_again_is_another_process() -> None:
    """A worker with the number of a living process that was born at another time is dead at once."""
    with _neighbour() as (worker, _):
        assert Census(ME, LEASE).dead([worker, replace(worker, id="before", born="1")], 0.0) == {"before"}


def test_a_process_of_another_host_is_judged_by_its_beat_alone() -> None:
    """Neither its number nor its birth means anything here; a beat that stands still for a lease is death."""
    census = Census(ME, LEASE)
    assert _looks(census, [AWAY], 100.0, 20) == [float(second) for second in range(8, 21)]


def test_a_beat_that_grows_is_life() -> None:
    """A worker that beats once in almost a lease lives for ever, and comes to life again if it beats after all."""
    census = Census(ME, LEASE)
    now = 0.0
    for beat in range(1, 20):
        for _ in range(7):
            now += 1
            assert census.dead([replace(AWAY, beat=beat)], now) == frozenset()
    late = replace(AWAY, beat=19)
    assert _looks(census, [late], now, 20)
    assert census.dead([replace(late, beat=20)], now + 20) == frozenset()


def test_another_runtime_of_this_process_lives_by_its_beat() -> None:
    """That this process lives says nothing about the event loop of another runtime in it."""
    other = replace(this_worker([]), beat=1)
    assert _looks(Census(ME, LEASE), [other], 0.0, 9) == [8.0, 9.0]


def test_who_is_forgotten_and_owns_runs_is_dead_at_once() -> None:
    """A worker with beat 0 has no heart: a store names it because runs still belong to it."""
    assert Census(ME, LEASE).dead([WorkerRecord("gone", "", 0, "", ())], 0.0) == {"gone"}


def test_nobody_calls_itself_dead() -> None:
    """A worker whose beats do not reach the store, or that was forgotten, does not take its own runs from itself."""
    census = Census(ME, LEASE)
    assert not any(census.dead([replace(ME, beat=3), replace(ME)], float(second)) for second in range(30))


@pytest.mark.parametrize("gap", [LEASE, 10 * LEASE, 1e9])
def test_a_time_in_which_nobody_looked_kills_nobody(gap: float) -> None:
    """After an outage of the store, or of the process that looks, others have a lease less a quarter to beat again."""
    census = Census(ME, LEASE)
    assert census.dead([AWAY], 0.0) == frozenset()
    assert _looks(census, [AWAY], gap, 10) == [6.0, 7.0, 8.0, 9.0, 10.0]


def test_while_our_own_beats_do_not_arrive_nobody_is_dead() -> None:
    """A store that can be read but not written to holds back the beats of all; time is counted once ours grow again."""
    census = Census(ME, LEASE)
    for second in range(100):
        assert census.dead([replace(ME, beat=5), AWAY], float(second)) == frozenset()
    found = [census.dead([replace(ME, beat=6 + second), AWAY], 100.0 + second) for second in range(10)]
    assert found[-1] == {"away"}
    assert found[:3] == [frozenset()] * 3


def test_who_is_missing_for_a_while_begins_anew() -> None:
    """A worker that was out of the list is judged by what is seen from its return on."""
    census = Census(ME, LEASE)
    _looks(census, [AWAY], 0.0, 7)
    assert census.dead([], 7.5) == frozenset()
    assert _looks(census, [AWAY], 8.0, 9) == [8.0, 9.0]


def test_the_wall_clock_is_not_asked() -> None:
    """Wherever the clock of this machine is stepped to, nothing changes; nor if its monotonic one were to go back."""
    census = Census(ME, LEASE)
    for second in range(8):
        with patch("time.time", return_value=(-1) ** second * 1e9), patch("time.time_ns", side_effect=AssertionError):
            assert census.dead([AWAY], float(second)) == frozenset()
    assert census.dead([AWAY], -1e6) == frozenset()
    assert census.dead([AWAY], -1e6 + 1) == {"away"}


@pytest.mark.parametrize("missing", ["self", "sys/kernel/random/boot_id", "self/ns/pid"])
def test_where_the_system_tells_no_boot_only_beats_count(missing: str, tmp_path: Path) -> None:
    """Without a boot id and a pid namespace no two workers are on one host: a name may be that of two machines."""
    for file in {"sys/kernel/random/boot_id", f"{os.getpid()}/ns/pid"} - {
        missing,
        missing.replace("self", str(os.getpid())),
    }:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("known")
    if missing != "self":
        (tmp_path / "self").symlink_to(str(os.getpid()))
    with patch("skuld_async.durable.liveness._PROC", tmp_path):
        worker, other = this_worker([]), this_worker([])
    assert worker.host != other.host
    assert Census(worker, LEASE).dead([replace(other, pid=0, beat=1)], 0.0) == frozenset()


def test_the_files_of_another_namespace_are_not_asked(tmp_path: Path) -> None:
    """Where /proc is that of another pid namespace, its numbers mean something else: only beats count."""
    (tmp_path / "self").symlink_to("1")
    for file in ("sys/kernel/random/boot_id", "1/ns/pid"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text("known")
    with patch("skuld_async.durable.liveness._PROC", tmp_path):
        assert this_worker([]).host != this_worker([]).host


def test_a_process_that_is_hidden_is_not_gone(tmp_path: Path) -> None:
    """Where the files of another user's process cannot be read, its beats tell; one that does not exist is dead."""
    with _neighbour() as (worker, process), patch("skuld_async.durable.liveness._PROC", tmp_path):
        with patch("os.kill", side_effect=PermissionError):
            assert Census(ME, LEASE).dead([worker], 0.0) == frozenset()
        process.kill()
        process.wait()
        assert Census(ME, LEASE).dead([worker], 0.0) == {worker.id}
