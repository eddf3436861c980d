"""Liveness: which workers are dead. No wall clock is asked, so that none which is wrong or stepped can bury anybody.

The rules:

1. A worker on this very host (the same boot, the same pid namespace) is dead as soon as its process is gone, or its
   number belongs to another process.
2. Any other one is dead when its beat has stood still for a lease. Time is counted between two looks, by the monotonic
   clock of whoever looks, and a gap between them counts for at most a quarter of a lease: while nobody could look, in
   an outage of the store or with this process stopped, nobody could beat either. Nor is it counted while the beats of
   whoever looks do not arrive: a store that can be read but not written to buries nobody.
3. One that is forgotten and still owns runs (``beat`` 0) is dead.
4. Nobody calls itself dead.

A worker that is called dead and lives loses its runs, and nothing else: their fencing tokens have moved on.
"""

from __future__ import annotations

import os
import socket
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from .records import WorkerRecord

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_PROC = Path("/proc")
_STATE, _THREADS, _BORN = 0, 17, 19
"""Fields of ``/proc/<pid>/stat`` behind the name of the process: those with the numbers 3, 20 and 22 in proc(5)."""

LOOKS = 4
"""How often in a lease somebody should look, or beat."""


def this_worker(workflows: Iterable[str]) -> WorkerRecord:
    """A new worker in this process, which takes runs of *workflows*."""
    pid = os.getpid()
    stat = _stat(pid)
    return WorkerRecord(
        id=uuid.uuid4().hex, host=_host(), pid=pid, born=stat[_BORN] if stat else "", workflows=tuple(workflows)
    )


class Census:
    """Finds the dead among the workers of a store, by looking at them again and again.

    Args:
        me: The worker that looks.
        lease: For how many seconds the beat of a worker may stand still. Look more than `LOOKS` times in that time; who
            looks less often finds the dead later.
    """

    def __init__(self, me: WorkerRecord, lease: float) -> None:
        self._me = me
        self._lease = lease
        self._looked: float | None = None
        self._mine = 0
        """Our own beat, as it was last seen to grow."""
        self._silent: dict[str, tuple[int, float]] = {}
        """For each worker, by id: its beat, and for how many seconds that is known to have stood still."""

    def dead(self, workers: Collection[WorkerRecord], now: float) -> frozenset[str]:
        """The ids of those that are dead.

        Args:
            workers: What `Store.workers` gave.
            now: This process's monotonic time, in seconds, from before the store was asked.
        """
        mine = next((one.beat for one in workers if one.id == self._me.id), 0)
        gap = 0.0
        if mine == 0 or mine != self._mine:  # while our own beats do not arrive, those of others may not either
            gap = 0.0 if self._looked is None else min(max(now - self._looked, 0.0), self._lease / LOOKS)
            self._looked, self._mine = now, mine
        silent: dict[str, tuple[int, float]] = {}
        for one in workers:
            beat, seconds = self._silent.get(one.id, (None, 0.0))
            silent[one.id] = (one.beat, seconds + gap if beat == one.beat else 0.0)
        self._silent = silent
        return frozenset(one.id for one in workers if one.id != self._me.id and self._is_dead(one))

    def _is_dead(self, worker: WorkerRecord) -> bool:
        if worker.beat == 0 or self._silent[worker.id][1] >= self._lease:
            return True
        return worker.host == self._me.host and _is_gone(worker.pid, worker.born)


def _host() -> str:
    """What tells whether the number of a process means the same to two workers.

    A name of a machine is not enough for that, two may have the same. Where the system gives no more, it is of one
    worker alone: its death is then found by its beats.
    """
    name = socket.gethostname()
    try:
        if (_PROC / "self").readlink().name != str(os.getpid()):
            return f"{name}/{uuid.uuid4().hex}"  # the files are those of another pid namespace
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{name}/{boot}/{(_PROC / 'self/ns/pid').stat().st_ino}"
    except OSError:
        return f"{name}/{uuid.uuid4().hex}"


def _is_gone(pid: int, born: str) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # it is there, and belongs to another user
    stat = _stat(pid)
    if stat is None:
        return False  # hidden from us; its beats will tell
    # A process that was killed keeps its number until its parent has asked for it; its last thread may be writing yet.
    return stat[_BORN] != born or (stat[_STATE] in {"Z", "X"} and int(stat[_THREADS]) <= 1)


def _stat(pid: int) -> list[str] | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()  # the name stands in parentheses, and may hold some itself
