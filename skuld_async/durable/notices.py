"""Notices: who waits in this process for something to happen to a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Iterable


class Notices:
    """An event for each run that somebody waits for."""

    def __init__(self) -> None:
        self._events: dict[str, tuple[anyio.Event, int]] = {}

    def told(self, run: str) -> None:
        """Something has happened to *run*."""
        waiting = self._events.pop(run, None)
        if waiting is not None:
            waiting[0].set()

    def told_all(self, runs: Iterable[str] | None) -> None:
        """The same of several; of all if None."""
        for run in list(self._events) if runs is None else runs:
            self.told(run)

    def of(self, run: str) -> anyio.Event:
        """What is set when something happens to *run* from now on."""
        event, waiting = self._events.get(run) or (anyio.Event(), 0)
        self._events[run] = (event, waiting + 1)
        return event

    def forget(self, run: str, event: anyio.Event) -> None:
        """One that waited does not any more."""
        known = self._events.get(run)
        if known is not None and known[0] is event:
            if known[1] == 1:
                del self._events[run]
            else:
                self._events[run] = (event, known[1] - 1)
