"""Rerun: the log of a failed run, cut so that the effect that failed it is performed again.

In the strand of that effect, all that came behind it goes. Outwards from there: the concurrent effect that opened the
strand is open again, what came behind it goes, and its other branches stand where they were before they were stopped;
those that failed by themselves are cut as well. Where something outside was performed after the failure, the cut is
refused unless it is forced; and so it is where the outcome of a call that is made at most once is not known.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import UNSET, UnsetType

from skuld_async._errors import OutcomeUnknown, RerunRefusedError
from skuld_async.effects.fork import Fork
from skuld_async.effects.transaction import Begin

from .book import ROOT, opened_by, strand_of
from .entry import COMMITTED, Entry, ErrorData
from .failures import name_of
from .log import copy_of
from .moving import is_behind
from .nesting import count_nested

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .log import Log

_UNKNOWN = name_of(OutcomeUnknown)
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
        first, is_undone = self._at(self._first(cause))
        self._check(first)
        removed = {**self.gone, **{entry.id: entry for entry in self.undone}}
        made.dropped += sorted(self.gone.values(), key=lambda entry: self.order[entry.id])
        made.entries = [self.again.get(entry.id, entry) for entry in made.entries if entry.id not in removed]
        made.header.suffix += not is_undone

    def _at(self, cause: Entry, inside: str = "") -> tuple[Entry, bool]:
        """Cut at *cause*, and outwards from there to the branches of *inside*.

        Returns:
            Where it was cut, and whether that is a transaction.
        """
        line = self.lines[strand_of(cause.id)]
        failed = _failed(line, line.index(cause))
        last = line[failed[-1]]
        inner = None if last.error is UNSET or last.error.declared else self._failed_in(last)
        if inner is not None:
            self._start([line[place] for place in failed])
            return self._at(inner, inside)
        transaction = self._transaction(last)
        if transaction is not None:
            self._in_transaction(cause, transaction, [line[place] for place in failed])
            first = transaction
        else:
            first = last
            self._in_line(line, failed)
            self._beside("", first)
        self._outwards(strand_of(first.id), first, inside)
        return first, transaction is not None

    def _first(self, cause: Entry) -> Entry:
        """*cause*, or what failed first, where *cause* is of the cleanup of a branch that was stopped by that."""
        path = strand_of(cause.id)
        while path != ROOT:
            opened = self._entry(opened_by(path))
            if _was_stopped(opened, path):
                return self._failed_in(opened) or cause
            path = strand_of(opened.id)
        return cause

    def _entry(self, id_: str) -> Entry:
        return next(entry for entry in self.lines[strand_of(id_)] if entry.id == id_)

    def _failed_in(self, opened: Entry, but: str = "") -> Entry | None:
        """The entry that failed the first of the branches of *opened* that failed by themselves, beside *but*."""
        return next(iter(self._all_failed_in(opened, but)), None)

    def _all_failed_in(self, opened: Entry, but: str = "") -> list[Entry]:
        error = opened.error
        if error is UNSET:
            return []
        names = ["1"] if opened.strands is UNSET else opened.strands.failed
        errors = error.children if len(names) > 1 else [error]
        found: list[Entry] = []
        for name, one in zip(names, errors, strict=False):
            path = f"{opened.id}.{name}"
            if path != but and not _was_stopped(opened, path):
                found += [entry for entry in self.lines.get(path, []) if _is_same(entry.error, one)][-1:]
        return found

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
        is_unknown = last.error is not UNSET and last.error.type == _UNKNOWN
        if not self.force and is_unknown:
            problem = f"{last.id} is called at most once, and may have been performed"
            way_out = "If it is known not to have been, use rerun(comp, log, *handlers, force=True)."
            raise _refused(self.log, problem, way_out)
        end = place + 1 + count_nested(line, place)
        self._remove(line[end:])
        again = [line[one] for one in failed]
        if is_unknown or (last.error is not UNSET and last.error.declared):
            self._remove(line[place:end], asked_anew=True)
            again.pop()
        self._start(again)

    def _outwards(self, path: str, first: Entry, inside: str) -> None:
        """Open again what opened the strand of *path*, and so on to the branches of *inside*, or to the root."""
        while path != ROOT and opened_by(path) != inside:
            opened = self._entry(opened_by(path))
            outer = self.lines[strand_of(opened.id)]
            self._start([opened])
            self._beside(path, opened)
            if opened.sig == Fork.__sig__:
                self._from_where_it_was_cut(outer, opened.id, first)
            else:
                self._remove(outer[outer.index(opened) + 1 :])
            path = strand_of(opened.id)

    def _beside(self, path: str, opened: Entry) -> None:
        """Let the branches that *opened* has opened beside the one of *path* stand where they were.

        Those that failed by themselves are cut where they failed.
        """
        others = self._all_failed_in(opened, path) if path else []
        cut = {path, *(strand_of(other.id) for other in others)}
        for other in others:
            self._at(other, opened.id)
        for other_path, line in self.lines.items():
            if other_path.startswith(f"{opened.id}.") and not any(
                f"{other_path}/".startswith(f"{one}/") for one in cut
            ):
                self._rewind(line, lambda entry: _is_stopped(entry, "run-cancel"), opened)

    def _rewind(self, entries: Sequence[Entry], is_stopped: Callable[[Entry], bool], opened: Entry) -> bool:
        """Let a strand beside the failed one stand where it was before that stopped it; gives whether it was."""
        stopped = [] if opened.strands is UNSET else opened.strands.stopped
        for number, entry in enumerate(entries):
            if is_stopped(entry):
                self._start([entry])
                self._beside("", entry)
                if entry.sig == Fork.__sig__:
                    continue  # the strand went on meanwhile
                end = number + 1 + count_nested(entries, number)
                if entry.sig == Begin.__sig__:
                    self.undone += entries[number + 1 : end]
                else:
                    self._rewind(entries[number + 1 : end], is_stopped, opened)
                self._remove(entries[end:])
                return True
            if number + 1 < len(entries) and any(is_behind(entries[number + 1].id, at) for at in stopped):
                self._remove(entries[number + 1 :])
                return True
        return False

    def _from_where_it_was_cut(self, line: list[Entry], fork: str, first: Entry) -> None:
        """Remove what the strand that forked the failed task did after that was noticed."""
        place = next(number for number, entry in enumerate(line) if entry.id == fork)
        if not self._rewind(line[place + 1 :], lambda entry: _is_stopped(entry, "task", fork), line[place]):
            self._remove([entry for entry in line if self.order[entry.id] > self.order[first.id]])

    def _transaction(self, entry: Entry) -> Entry | None:
        """The outermost transaction that *entry* belongs to, or is."""
        for other in self.made.entries[: self.order[entry.id] + 1]:
            if other.sig == Begin.__sig__ and f"{entry.id}/".startswith(f"{other.id}/"):
                return other
        return None

    def _start(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            again = Entry(entry.id, entry.sig, entry.data, "started", deadline=entry.deadline)
            if entry.error is not UNSET and entry.error.kind in ("run-cancel", "task"):
                again.attempts = (
                    entry.attempts
                )  # it was stopped between them; one that has failed has all of them again
            self.again[entry.id] = again

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


def _is_stopped(entry: Entry, kind: str, by: str = "") -> bool:
    return entry.error is not UNSET and entry.error.kind == kind and entry.error.type == by


def _was_stopped(opened: Entry, path: str) -> bool:
    """Whether the branch of *path* was stopped by what was decided in *opened*."""
    return opened.strands is not UNSET and any(at.startswith(f"{path}/") for at in opened.strands.stopped)


def _is_same(error: ErrorData | UnsetType, other: ErrorData) -> bool:
    return error is not UNSET and (error.type, error.message) == (other.type, other.message)


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
            if nested is not UNSET and _is_same(nested, error):
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
