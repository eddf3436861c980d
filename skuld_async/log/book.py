"""The book: the log as all strands of a session share it.

``log.entries`` is one list in the order in which the effects started. Each strand reads and writes its own entries, in
their order. While there is but one strand, its list is that of the log; the first branch makes them two.
"""

from __future__ import annotations

import re
from operator import attrgetter
from typing import TYPE_CHECKING

from msgspec import UNSET

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from .entry import Entry
    from .journal import Journal
    from .keeping import Keeper
    from .log import Log

ROOT = "0"
_BRANCH = re.compile(r".*/\d+(?:~\d+)?\.[^/@#~.]+(?=/)")


def strand_of(id_: str) -> str:
    """Path of the strand that the entry *id_* belongs to."""
    found = _BRANCH.match(id_) if "." in id_ else None
    return ROOT if found is None else found[0]


def opened_by(path: str) -> str:
    """Id of the entry that opened the strand of *path*."""
    return path.rpartition(".")[0]


class Book:
    """What the strands of one session share.

    Args:
        log: What it is the book of.
        allow_divergence: Whether entries are aligned with a computation that was changed.
        budget: Live effects that may still be performed; None for any number.
    """

    def __init__(self, log: Log, *, allow_divergence: bool = False, budget: int | None = None) -> None:
        self.log = log
        self.allow_divergence = allow_divergence
        self.budget = budget
        self.performed: list[str] = []
        self.dropped: list[str] = []
        self.unconsumed: list[str] = []
        self.live: dict[str, Journal] = {}
        """The journals of the strands that run, by path."""
        self.over: set[str] = set()
        """Paths of the strands that have ended."""
        self.folded: set[str] = set()
        """Keys of the shared cells that have their value from the log."""
        self.stops: dict[str, str] = {}
        """Where strands were stopped, by path."""
        cancelled = log.header.cancelled
        if cancelled is not UNSET:
            self.stop([cancelled.at, *cancelled.also])
        self.keeper: Keeper | None = None
        """Stores the log as it grows, where somebody does."""
        self.kept = 0
        """How many leading entries are where they were when the log was last stored."""
        self.is_unstable = False
        """Whether something was decided since then that would not come out the same again."""
        self._suffix = 0
        self._lines: dict[str, list[Entry]] = {}
        self._started: dict[int, int] | None = None
        """Where the entries stood that were started, by their identity; made when it is first asked for."""
        self._opened: dict[str, list[str]] = {}
        self._inner: dict[str, list[str]] = {}
        """The strands that a strand opened, by its path: what is kept of pruned branches has lost what opened it."""
        self._lines[ROOT] = log.entries
        self.is_split = False
        """Whether strands have lists of their own."""
        if any("." in entry.id for entry in log.entries):
            self._sort(log.entries)
        # A log that was edited may hold strands that nobody opens: nobody waits for those.
        if self._opened:
            for opened in set(self._opened).difference(map(attrgetter("id"), log.entries)):
                self.pass_by(self._opened[opened])

    def _sort(self, entries: list[Entry]) -> None:
        """Put each of *entries* to its strand."""
        own: list[Entry] = []
        lines: dict[str, list[Entry]] = {}  # by what stands before the number, which says whose it is
        for entry in entries:
            prefix = entry.id.rpartition("/")[0]
            line = lines.get(prefix)
            if line is None:
                path = strand_of(entry.id)
                line = lines[prefix] = own if path == ROOT else self.line(path)
            line.append(entry)
        if len(own) < len(entries):
            self._lines[ROOT], self.is_split = own, True

    def line(self, path: str) -> list[Entry]:
        """The entries of one strand."""
        own = self._lines.get(path)
        if own is None:
            own = self._lines[path] = []
            opened = opened_by(path)
            self._opened.setdefault(opened, []).append(path)
            outer = strand_of(opened)
            if outer != ROOT:
                self.line(outer)  # which may be pruned but for this one
                self._inner.setdefault(outer, []).append(path)
        return own

    def lines_under(self, entry: Entry) -> list[str]:
        """Paths of the strands that *entry* has opened."""
        return self._opened.get(entry.id, [])

    def split(self) -> None:
        """Let the root have a list of its own: a strand is opened beside it."""
        if not self.is_split:
            self.log.entries, self.is_split = list(self._lines[ROOT]), True

    def stop(self, places: Iterable[str]) -> None:
        """Note that strands were stopped at *places*."""
        for at in places:
            self.stops[strand_of(at)] = at

    def next_suffix(self) -> str:
        """What new ids of this session end with, once a strand has diverged."""
        if not self._suffix:
            self.log.header.suffix += 1
            self._suffix = self.log.header.suffix
        return f"~{self._suffix}"

    def insert(self, entry: Entry, before: Entry | None) -> None:
        """Put a new entry of a strand into the log; *before* is the one that the strand has still to come to."""
        entries = self.log.entries
        if before is None:
            entries.append(entry)
        else:
            index = next(index for index, other in enumerate(entries) if other is before)
            self.moved(index)
            entries.insert(index, entry)

    def moved(self, index: int) -> None:
        """The entries of the log from *index* on are other ones now."""
        self.kept = min(self.kept, index)

    def replace(self, old: Entry, new: Entry) -> None:
        """Let *new* stand in the place of *old*, which was started before the session began."""
        entries = self.log.entries
        if self._started is None:
            self._started = {id(one): index for index, one in enumerate(entries) if one.state == "started"}
        index = self._started.get(id(old), len(entries))
        if index >= len(entries) or entries[index] is not old:  # others were removed since then
            index = next(index for index, other in enumerate(entries) if other is old)
        entries[index] = new

    def remove(self, entries: Iterable[Entry]) -> list[Entry]:
        """Take *entries* of a strand out of the log, with all strands that they opened; gives all of these."""
        gone: set[int] = set()
        waiting = list(entries)
        while waiting:
            entry = waiting.pop()
            gone.add(id(entry))
            paths = list(self._opened.pop(entry.id, ()))
            for path in paths:
                waiting += self._lines.pop(path, ())
                paths += self._inner.pop(path, ())
        return self._take_out(gone)

    def _take_out(self, gone: Collection[int]) -> list[Entry]:
        """Remove the entries of these identities from the log, and give them."""
        entries = self.log.entries
        taken = [entry for entry in entries if id(entry) in gone]
        if taken:
            self.moved(next(index for index, entry in enumerate(entries) if entry is taken[0]))
            entries[:] = [entry for entry in entries if id(entry) not in gone]
        return taken

    def clear(self, opened: Entry, keep: Callable[[Entry], bool]) -> None:
        """Remove the entries of the strands that *opened* has opened, but for those to *keep*."""
        gone: set[int] = set()
        waiting = list(self.lines_under(opened))
        while waiting:
            line = self._lines[waiting.pop()]
            for entry in line:
                waiting += self.lines_under(entry)
                if not keep(entry):
                    gone.add(id(entry))
            line[:] = [entry for entry in line if id(entry) not in gone]
        self._take_out(gone)

    def is_early(self, prefix: str = "") -> bool:
        """Whether a strand whose path begins with *prefix* has still entries to come to."""
        for path, entries in self._lines.items():
            if path.startswith(prefix) and path not in self.over:
                journal = self.live.get(path)
                if entries if journal is None else journal.remaining:
                    return True
        return False

    def pass_by(self, paths: Iterable[str]) -> None:
        """The strands of *paths* do not run in this session, nor do those that they opened before."""
        waiting = list(paths)
        while waiting:
            path = waiting.pop()
            self.over.add(path)
            for entry in self._lines.get(path, ()):
                waiting += self.lines_under(entry)

    def elsewhere(self, path: str) -> Iterable[tuple[list[Entry], int, Journal | None]]:
        """The entries of other strands that nobody has come to yet: list, index, the journal of a strand that runs."""
        for other, entries in self._lines.items():
            if other == path or other in self.over:
                continue
            journal = self.live.get(other)
            first = 0 if journal is None else journal.cursor
            for index in range(first, len(entries)):
                yield entries, index, journal
