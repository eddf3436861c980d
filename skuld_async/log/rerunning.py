"""Rerun: the log of a failed run, cut so that the effect that failed it is performed again.

In the strand of that effect, all that came behind it goes. Outwards from there: the concurrent effect that opened the
strand is open again, what came behind it goes, and its other branches stand where they were before they were stopped.
Where something outside was performed after the failure, the cut is refused unless it is forced.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import UNSET

from skuld_async._errors import RerunRefusedError
from skuld_async.effects.transaction import Begin

from .book import ROOT, opened_by, strand_of
from .entry import COMMITTED, Entry
from .log import copy_of
from .moving import is_behind
from .nesting import count_nested

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .log import Log

_INSIDE = re.compile(
    r"(State|AtomicState|Channel|EventAccumulator|Reader|Writer)\[.*\]\.\w+|Clock\.\w+|Fresh\.uuid|Random\.\w+|mark_loop|Throw"
    r"|Parallel\.\w+|with_timeout|fork|join|cancel"
)
"""The names of the library's effects that leave the process alone; any other may have been seen outside."""


def cut(log: Log, *, force: bool) -> Log:
    """A copy of *log* that ends before the effect that failed the run; raises `RerunRefusedError`."""
    header = log.header
    if header.status != "failed":
        problem = f"it is {header.status}, not failed"
        raise _refused(log, problem, "Use resume(comp, log, *handlers).")
    made = copy_of(log)
    made.header.status, made.header.error, made.header.cause = "running", UNSET, None
    cause = next((entry for entry in made.entries if entry.id == header.cause), None)
    if cause is not None:  # else it is the body's own error: all that was performed stands
        _Cut(log, made, force=force).at(cause)
    return made


class _Cut:
    def __init__(self, log: Log, made: Log, *, force: bool) -> None:
        self.log = log
        self.made = made
        self.force = force
        self.lines: dict[str, list[Entry]] = {}
        for entry in made.entries:
            self.lines.setdefault(strand_of(entry.id), []).append(entry)
        self.order = {entry.id: number for number, entry in enumerate(made.entries)}
        self.again: dict[str, Entry] = {}
        """The entries that are started once more, by id."""
        self.gone: dict[str, Entry] = {}
        """The entries that stand behind the cut, by id."""
        self.undone: list[Entry] = []
        """Those of a transaction, which left no trace."""

    def at(self, cause: Entry) -> None:
        """Make the cut at *cause*."""
        made = self.made
        line = self.lines[strand_of(cause.id)]
        failed = _failed(line, line.index(cause))
        last = line[failed[-1]]
        transaction = self._transaction(last)
        if transaction is not None:
            self._in_transaction(cause, transaction, [line[place] for place in failed])
            first = transaction
        else:
            first = last
            self._in_line(line, failed)
            self._beside("", first)
        self._outwards(strand_of(first.id), first)
        self._check(first)
        removed = {**self.gone, **{entry.id: entry for entry in self.undone}}
        made.dropped += sorted(self.gone.values(), key=lambda entry: self.order[entry.id])
        made.entries = [self.again.get(entry.id, entry) for entry in made.entries if entry.id not in removed]
        made.header.suffix += transaction is None

    def _in_transaction(self, cause: Entry, transaction: Entry, failed: Sequence[Entry]) -> None:
        if not self.force and transaction.value == COMMITTED:
            problem = f"{cause.id} failed in {transaction.id}, a transaction that was committed"
            way_out = "To perform all of it again, use rerun(comp, log, *handlers, force=True)."
            raise _refused(self.log, problem, way_out)
        # It left no trace: all of it is performed again, under the same keys.
        self.undone = [entry for entry in self.made.entries if entry.id.startswith(f"{transaction.id}/")]
        line = self.lines[strand_of(transaction.id)]
        place = line.index(transaction)
        self._remove(line[place + 1 + count_nested(line, place) :])
        self._start([transaction, *(entry for entry in failed if entry in line[:place])])

    def _in_line(self, line: list[Entry], failed: list[int]) -> None:
        place = failed[-1]
        last = line[place]
        if not self.force and last.error is not UNSET and last.error.kind == "result":
            problem = f"{last.id} was performed, and its result could not be kept: it would be performed twice"
            raise _refused(self.log, problem, "If that is meant, use rerun(comp, log, *handlers, force=True).")
        end = place + 1 + count_nested(line, place)
        self._remove(line[end:])
        again = [line[one] for one in failed]
        if last.error is not UNSET and last.error.declared:
            self._remove(line[place:end], asked_anew=True)
            again.pop()
        self._start(again)

    def _outwards(self, path: str, first: Entry) -> None:
        """Open again what opened the strand of *path*, and so on to the root."""
        while path != ROOT:
            opened = opened_by(path)
            outer = self.lines[strand_of(opened)]
            place = next(number for number, entry in enumerate(outer) if entry.id == opened)
            self._start([outer[place]])
            self._beside(path, outer[place])
            if outer[place].sig == "fork":
                self._from_where_it_was_cut(outer, opened, first)
            else:
                self._remove(outer[place + 1 :])
            path = strand_of(opened)

    def _beside(self, path: str, opened: Entry) -> None:
        """Let the branches that *opened* has opened beside the one of *path* stand where they were."""
        for other, line in self.lines.items():
            if other.startswith(f"{opened.id}.") and not f"{other}/".startswith(f"{path}/"):
                self._before_it_was_stopped(line, opened)

    def _before_it_was_stopped(self, line: list[Entry], opened: Entry) -> None:
        """Let a strand beside the failed one stand where it was before that stopped it."""
        stopped = [] if opened.strands is UNSET else opened.strands.stopped
        for number, entry in enumerate(line):
            if entry.error is not UNSET and entry.error.kind == "run-cancel":
                self._start([entry])
                self._remove(line[number + 1 :])
                return
            if number + 1 < len(line) and any(is_behind(line[number + 1].id, at) for at in stopped):
                self._remove(line[number + 1 :])
                return

    def _from_where_it_was_cut(self, line: list[Entry], fork: str, first: Entry) -> None:
        """Remove what the strand that forked the failed task did after that was noticed."""
        for number, entry in enumerate(line):
            if entry.error is not UNSET and entry.error.kind == "task" and entry.error.type == fork:
                self._start([entry])
                self._remove(line[number + 1 :])
                return
        self._remove([entry for entry in line if self.order[entry.id] > self.order[first.id]])

    def _transaction(self, entry: Entry) -> Entry | None:
        """The outermost transaction that *entry* belongs to, or is."""
        for other in self.made.entries[: self.order[entry.id] + 1]:
            if other.sig == Begin.__sig__ and f"{entry.id}/".startswith(f"{other.id}/"):
                return other
        return None

    def _start(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.again[entry.id] = Entry(entry.id, entry.sig, entry.data, "started", deadline=entry.deadline)

    def _remove(self, entries: Sequence[Entry], *, asked_anew: bool = False) -> None:
        """Remove *entries* of a strand, and all strands that they opened."""
        for entry in entries:
            self.gone[entry.id] = entry
            self._asked_anew |= {entry.id} if asked_anew else set()
            for path, line in self.lines.items():
                if path.startswith(f"{entry.id}."):
                    self.gone.update((inner.id, inner) for inner in line)

    _asked_anew: frozenset[str] = frozenset()

    def _check(self, first: Entry) -> None:
        """Refuse a cut that what was done outside would not survive."""
        outside = [
            one.id for one in self.gone.values() if not _INSIDE.fullmatch(one.sig) and one.id not in self._asked_anew
        ]
        if outside and not self.force:
            problem = f"it went on after {first.id} failed ({', '.join(outside)})"
            raise _refused(self.log, problem, "If these may stand, use rerun(comp, log, *handlers, force=True).")


def _failed(entries: Sequence[Entry], index: int) -> list[int]:
    """The effect that failed the run; then the request of its handler that failed it; and so on inwards.

    It ends at a declared error, because that effect is asked anew, with all that its handler asks for.
    """
    found = [index]
    error = entries[index].error
    while error is not UNSET and not error.declared:
        outer = found[-1]
        for inner in range(outer + 1, outer + 1 + count_nested(entries, outer)):
            nested = entries[inner].error
            if nested is not UNSET and (nested.type, nested.message) == (error.type, error.message):
                found.append(inner)
                error = nested
                break
        else:
            break
    return found


def _refused(log: Log, problem: str, way_out: str) -> RerunRefusedError:
    error = RerunRefusedError(log.header.run, problem, way_out)
    error.log = log
    return error
