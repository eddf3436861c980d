"""The journal: reads the log where there is one, writes it where there is none yet.

Matching is in order, by sig and canonical data. The cursor stands before the next entry; what is behind it was carried
forward. At the end of the entries the run is live. A mismatch is a divergence: strict by default, and then nothing is
performed; with ``allow_divergence`` the entries are aligned, and what the new code passes over is kept in
``log.dropped``, so that an external effect that was executed is never performed again.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Never, Protocol

from msgspec import UNSET, Raw

from skuld_async._declared import Misfit
from skuld_async._errors import ResultError, UndecodableError, UnencodableError
from skuld_async._signals import Fault, RunCancel, Suspend, TaskFailed

from . import divergence, failures
from .aligning import align
from .blame import blamed
from .book import ROOT
from .entry import Entry, ErrorData, raw_value
from .moving import take_out
from .nesting import count_nested

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from skuld_async._effect import Effect
    from skuld_async._frames import Frame, Place

    from .book import Book
    from .codec import Codec
    from .transactions import LoggedUnit

_DIGITS = 19
"""A number of more digits was not made by counting."""


class Overdue(Protocol):
    """A timeout that was over before the session began: what was logged in time counts, and nothing more is done."""

    decided: bool

    @property
    def deadline(self) -> datetime:
        """When that was."""
        ...

    def expire(self, frame: Frame, entry: Entry | None, /) -> Never:
        """Stop what *frame* requests."""
        ...


class Journal:
    """The log of one strand, at its cursor.

    Args:
        book: The log of the session.
        path: Of the strand.
        parent: The journal of the strand that opened this one.
        sealed: The entry of the concurrent effect that this strand is a branch of, where that is over.
    """

    def __init__(
        self, book: Book, path: str = ROOT, parent: Journal | None = None, sealed: Entry | None = None
    ) -> None:
        self.book = book
        self.path = path
        self.log = book.log
        self.entries = book.line(path)
        self.remaining = len(self.entries)
        """Entries that are not replayed yet, at the end of the list: a live run has nothing to keep up to date."""
        self.allow_divergence = book.allow_divergence
        suffix = book.log.header.suffix
        self.suffix = f"~{suffix}" if suffix else ""
        self.diverged = False
        self.careful = True
        """Whether the short path of local effects is closed."""
        self.counted = False
        """Whether the counters were compared with the ids of the log."""
        self.cancelled_at = book.stops.get(path)
        self.units: list[LoggedUnit] = [] if parent is None else list(parent.units)
        """The transactions around the strand, outermost first."""
        self.sealed: Entry | None = parent.sealed if sealed is None and parent is not None else sealed
        self.overdue: Overdue | None = None if parent is None else parent.overdue
        """The timeout around the strand that was over before this session began."""
        book.live[path] = self

    def leave(self) -> None:
        """The strand has ended."""
        del self.book.live[self.path]
        self.book.over.add(self.path)

    @property
    def cursor(self) -> int:
        """Index of the next entry."""
        return len(self.entries) - self.remaining

    # -- requests ----------------------------------------------------------------------------------------------------

    def data(self, codec: Codec, effect: Effect[Any], frame: Frame) -> Raw:
        """The request as canonical JSON, refused here if the log could not give it back."""
        try:
            return codec.data(effect)
        except Misfit as error:
            raise Fault(UnencodableError(codec.label, str(error), frame.line())) from None

    def begin(self, codec: Codec, effect: Effect[Any], frame: Frame) -> Entry:
        """The entry of a request: from the log, or a new one, started."""
        data = self.data(codec, effect, frame)
        entry = self.match(codec, data, frame)
        frame.place.replayed = entry is not None and entry.state != "started"
        if entry is None:
            self.spend(frame)
            entry = Entry(self.new_id(frame), codec.sig, data, "started")
            self.add(entry)
            frame.place.entry_id = entry.id
        else:
            frame.place.entry_id = entry.id
            if entry.state == "started":
                self.spend(frame, entry)
        return entry

    def spend(self, frame: Frame, entry: Entry | None = None) -> None:
        """Take one live effect from the budget, or suspend; what is inside a transaction belongs to that one effect.

        Args:
            frame: Who requests it.
            entry: Its entry, where it was begun before.
        """
        if self.overdue is not None and not self.overdue.decided and not frame.shielded:
            begun = entry is not None and count_nested(self.entries, self.cursor - 1)
            if not begun:  # else the handler is stopped, where it does what it did not do in time
                self.overdue.expire(frame, entry)
        book = self.book
        if self.sealed is not None and not self.allow_divergence:
            raise Fault(divergence.inside(self.sealed, self.entries, self.cursor, frame.line()))
        if self.units:
            unit = self.units[-1]
            if not unit.is_live:
                raise Fault(divergence.inside(unit.entry, self.entries, self.cursor, frame.line()))
        elif book.budget is not None:
            if book.budget == 0:
                raise Suspend
            book.budget -= 1

    def new_id(self, frame: Frame) -> str:
        """An id that this log has never used."""
        if self.remaining:
            self.diverge()
        if not self.counted:
            self._count_on(frame)
        return f"{frame.place.prefix}{frame.place.count}{self.suffix}"

    def _count_on(self, frame: Frame) -> None:
        """Let no counter stand below an id of this log.

        Calls have numbers but no entries: a helper that was inlined since then still matches, and counts less.
        """
        self.counted = True
        book = self.book
        self.careful = self.allow_divergence or book.budget is not None or bool(self.suffix) or book.is_split
        if self.diverged or not (self.entries or self.log.dropped):
            return  # the suffix is new, or nothing is there: so nothing can be met
        places = _places(frame)
        used: dict[str, int] = {}
        for entry in self.log.dropped:
            self._note(entry.id, used)
        missing = {place.prefix for place in places}
        for entry in reversed(self.entries):  # the last id under a prefix is its highest
            missing.discard(self._note(entry.id, used))
            if not missing:
                break
        frame.place.count -= 1  # the number of this request is not taken yet
        for place in places:
            place.count = max(place.count, used.get(place.prefix, 0))
        frame.place.count += 1

    def _note(self, id_: str, used: dict[str, int]) -> str:
        """Put the number in an id into *used*, by its prefix, which is given back; other suffixes meet nothing."""
        head, slash, last = id_.rpartition("/")
        number, tilde, suffix = last.rpartition("@")[2].partition("#")[0].partition("~")
        prefix = f"{head}{slash}"
        if f"{tilde}{suffix}" == self.suffix and number.isdecimal() and len(number) < _DIGITS:
            used[prefix] = max(used.get(prefix, 0), int(number))
            return prefix
        return ""

    def diverge(self) -> None:
        """From here on, new entries take a suffix of their own."""
        if not self.diverged:
            self.diverged = self.careful = True
            self.suffix = self.book.next_suffix()

    def add(self, entry: Entry) -> None:
        """Put a new entry at the cursor."""
        if self.allow_divergence:
            self.book.performed.append(entry.id)
        if self.remaining:
            self.insert(self.cursor, entry)
            return
        self.entries.append(entry)
        if self.book.is_split:
            self.log.entries.append(entry)

    def insert(self, index: int, entry: Entry) -> None:
        """Put *entry* at *index* of this strand's entries."""
        entries, book = self.entries, self.book
        if book.is_split:
            book.insert(entry, entries[index] if index < len(entries) else None)
        else:
            book.moved(index)
        entries.insert(index, entry)

    def remove(self, first: int, last: int) -> list[Entry]:
        """Take the entries from *first* to *last* out of the log, with all strands that they opened."""
        taken = self.entries[first:last]
        del self.entries[first:last]
        if self.book.is_split:
            return self.book.remove(taken)
        self.book.moved(first)
        return taken

    # -- matching ----------------------------------------------------------------------------------------------------

    def match(self, codec: Codec, data: Raw, frame: Frame) -> Entry | None:
        """The entry of this request, or None where the log holds none and it is new."""
        if self.remaining:
            cursor = self.cursor
            entry = self.entries[cursor]
            if (entry.sig == codec.sig and entry.data == data) or self.is_entry_of(entry, codec, data):
                return self.take()
            if not self.allow_divergence:
                raise Fault(divergence.mismatch(codec, data, self.entries, cursor, frame.line()))
        found = align(self, codec, data, frame) if self.allow_divergence else None
        if found is None and self.log.header.status in ("completed", "failed"):
            raise Fault(divergence.beyond(codec, data, self.log, frame.line()))
        return found

    def is_next(self, codec: Codec, effect: Effect[Any], frame: Frame) -> bool:
        """Whether the next entry is the one of *effect*."""
        if not self.remaining:
            return False
        entry, data = self.entries[self.cursor], self.data(codec, effect, frame)
        return (entry.sig == codec.sig and entry.data == data) or self.is_entry_of(entry, codec, data)

    def take(self) -> Entry:
        """The next entry, which the cursor passes; a copy where it will change: the caller's log stays as it is."""
        index = self.cursor
        self.remaining -= 1
        entry = self.entries[index]
        if entry.state == "started":
            own = self.entries[index] = copy.copy(entry)
            if self.book.is_split:
                self.book.replace(entry, own)
            return own
        return entry

    def is_entry_of(self, entry: Entry, codec: Codec, data: Raw) -> bool:
        """Whether *entry* is the request *data*, however it was written."""
        return entry.sig in codec.names and codec.same(entry.data, data)

    def pass_over(self, until: int) -> None:
        """Pass over the entries from the cursor to *until*; they stay in the log, out of the way."""
        cursor = self.cursor
        if until > cursor:
            self.diverge()
            self.remaining -= until - cursor
            passed = self.remove(cursor, until)
            self.book.dropped += [entry.id for entry in passed]
            self.log.dropped += passed

    def close(self, ended: str) -> None:
        """The computation has ended; whatever the log still holds is a divergence."""
        if not self.remaining:
            return
        cursor = self.cursor
        if not self.allow_divergence:
            raise Fault(divergence.unconsumed(self.entries, cursor, ended))
        left = self.remove(cursor, len(self.entries))
        self.book.unconsumed += [entry.id for entry in left]
        self.log.dropped += left
        self.remaining = 0

    def check_branches(self, opened: Entry, names: Collection[str]) -> None:
        """Whatever the log holds of branches of *opened* that are not among *names* is a divergence."""
        book = self.book
        for path in list(book.lines_under(opened)):
            name, line = path.rpartition(".")[2], book.line(path)
            if line and name not in names:
                if not self.allow_divergence:
                    raise Fault(divergence.unconsumed(line, 0, f"has no branch {name} in {opened.id}"))
                left = take_out(line, 0, len(line), book)
                book.dropped += [one.id for one in left]
                self.log.dropped += left

    def nested(self, entry: Entry) -> list[Entry]:
        """Pass over the entries that the handler of *entry* made, and give them."""
        prefix = f"{entry.id}/"
        first = self.cursor
        while self.remaining and self.entries[-self.remaining].id.startswith(prefix):
            self.remaining -= 1
        found = self.entries[first : self.cursor]
        for inner in found:
            self.book.pass_by(self.book.lines_under(inner))
        return found

    def forget(self, entry: Entry) -> None:
        """Remove what stands under *entry*, a transaction that was not committed."""
        entries, cursor = self.entries, self.cursor
        first = next(index for index in range(len(entries), 0, -1) if entries[index - 1] is entry)
        last = first + count_nested(entries, first - 1)
        self.remaining -= max(0, last - max(first, cursor))
        self.remove(first, last)
        performed = self.book.performed
        performed[:] = [one for one in performed if not one.startswith(f"{entry.id}/")]

    def hurry(self) -> None:
        """The strand is stopped: what its transactions do now has the grace time, and no more."""
        for unit in self.units:
            unit.hurry()

    # -- settling ----------------------------------------------------------------------------------------------------

    def settle(self, codec: Codec, entry: Entry, value: Any) -> Any:
        """Started to executed; the value as the body and each replay will see it."""
        try:
            data, back = codec.answer.admit(value)
        except Misfit as error:
            failure = ResultError(codec.label, str(error))
            raise self.discard(codec, entry, failure) from None
        entry.value = raw_value(data)
        entry.state = "executed"
        return back

    def discard(self, codec: Codec, entry: Entry, error: Exception) -> Exception:
        """Started to discarded; the error as the body and each replay will see it."""
        entry.error = failures.to_data(error, codec.raises)
        entry.state = "discarded"
        return blamed(failures.as_seen(error, entry.error, codec.raises), entry)

    def abandon(self, entry: Entry, why: Any) -> None:
        """Started to discarded, because its strand gave it up."""
        entry.error = ErrorData(why)
        entry.state = "discarded"

    def stop(self, entry: Entry, signal: RunCancel) -> None:
        """Started to discarded, because *signal* stops its strand."""
        entry.error = ErrorData("task", signal.task.id) if isinstance(signal, TaskFailed) else ErrorData("run-cancel")
        entry.state = "discarded"

    def cancel_here(self) -> Entry:
        """The entry at the cursor, which is where the run was cancelled."""
        entry = self.take()
        if entry.state == "started":
            self.stop(entry, RunCancel())
        return entry

    # -- replaying ---------------------------------------------------------------------------------------------------

    def replayed(self, codec: Codec, entry: Entry) -> Any:
        """The logged answer; raises the logged error."""
        if entry.state == "executed":
            return self.value(codec, entry)
        raise self.error(codec, entry)

    def value(self, codec: Codec, entry: Entry) -> Any:
        """The logged value, read with today's type."""
        try:
            return codec.answer.decode(entry.value)
        except Misfit as error:
            raise Fault(UndecodableError(codec.label, entry.id, str(error))) from None

    def error(self, codec: Codec, entry: Entry) -> BaseException:
        """The logged error, rebuilt."""
        data = entry.error
        if data is UNSET:
            data = ErrorData("other", "", "the log holds no error")
        if data.kind == "run-cancel":
            return RunCancel()
        try:
            return blamed(failures.rebuild(data, codec.raises), entry)
        except (Misfit, TypeError, ValueError) as error:
            return Fault(UndecodableError(codec.label, entry.id, str(error)))


def _places(frame: Frame) -> list[Place]:
    """Where the counters stand: of *frame*, and of all that it was requested by."""
    places = {id(frame.place): frame.place}
    waiting: list[Frame | None] = list(frame.strand.stack)
    while waiting:
        one = waiting.pop()
        if one is not None:
            places[id(one.place)] = one.place
            waiting += [one.parent, one.place.nested]
    return list(places.values())
