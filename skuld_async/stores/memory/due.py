"""Which runs of a memory store are due, and which worker has which, without a look at each of them."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from skuld_async.durable.records import RunRecord

    from .run import MemoryRun


class Due:
    """For each workflow a heap of times and ids; an entry counts only while it says what its run says."""

    def __init__(self, runs: Mapping[str, MemoryRun]) -> None:
        self._runs = runs
        self._heaps: dict[str, list[tuple[float, str]]] = {}

    def note(self, record: RunRecord) -> None:
        """Remember a record that is new, or has another time."""
        if record.owner is None and record.wake is not None:
            heapq.heappush(self._heaps.setdefault(record.workflow, []), (record.wake, record.id))

    def workflows(self, named: Collection[str], *, others: bool) -> list[str]:
        """Those of the *named* workflows that have runs, or all *others* that do."""
        if others:
            return [workflow for workflow in self._heaps if workflow not in named]
        return [workflow for workflow in named if workflow in self._heaps]

    def first(self, workflows: Iterable[str]) -> MemoryRun | None:
        """The run that is due before all others, whenever that is."""
        tops = [heap[0] for workflow in workflows if (heap := self._cleaned(workflow))]
        return self._runs[min(tops)[1]] if tops else None

    def _cleaned(self, workflow: str) -> list[tuple[float, str]]:
        heap = self._heaps.get(workflow, [])
        while heap and not self._counts(workflow, *heap[0]):
            heapq.heappop(heap)
        return heap

    def _counts(self, workflow: str, wake: float, id: str) -> bool:
        run = self._runs.get(id)
        return run is not None and (run.record.workflow, run.record.wake) == (workflow, wake)


class Owned:
    """The ids of the runs of each worker that has some."""

    def __init__(self) -> None:
        self._ids: dict[str, set[str]] = {}

    def move(self, id: str, before: str | None, after: str | None) -> None:
        """Note that a run has gone from one worker to another."""
        if before == after:
            return
        if before is not None:
            self._ids[before].remove(id)
            if not self._ids[before]:
                del self._ids[before]
        if after is not None:
            self._ids.setdefault(after, set()).add(id)

    def by(self, workers: Iterable[str]) -> list[str]:
        """The runs of all these."""
        return [run for worker in workers for run in sorted(self._ids.get(worker, ()))]

    @property
    def workers(self) -> Collection[str]:
        """Those that have runs."""
        return self._ids.keys()
