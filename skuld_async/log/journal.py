"""The journal: reads the log where there is one, writes it where there is none yet.

Matching is in order, by sig and canonical data. The cursor stands before the next entry; what is behind it was carried
forward. At the end of the entries the run is live. A mismatch is a divergence: strict by default, and then nothing is
performed; with ``allow_divergence`` the entries are aligned, and what the new code passes over is kept in
``log.dropped``, so that an external effect that was executed is never performed again.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from msgspec import UNSET, Raw

from skuld_async._declared import Misfit
from skuld_async._effect import Kind
from skuld_async._errors import ResultError, UndecodableError, UnencodableError
from skuld_async._signals import Fault, RunCancel, Suspend
from skuld_async.effects.transaction import Begin

from . import divergence, failures
from .entry import COMMITTED, Entry, ErrorData, Settled, raw_value

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from skuld_async._effect import Effect
    from skuld_async._frames import Frame, Place

    from .codec import Codec
    from .log import Log
    from .transactions import LoggedUnit

_SETTLED_KEPT = 16
_DIGITS = 19
"""A number of more digits was not made by counting."""


class Journal:
    """The log of one session, at its cursor."""

    def __init__(self, log: Log, *, allow_divergence: bool = False, budget: int | None = None) -> None:
        self.log = log
        self.entries = log.entries
        self.remaining = len(log.entries)
        """Entries that are not replayed yet, at the end of the list: a live run has nothing to keep up to date."""
        self.allow_divergence = allow_divergence
        self.budget = budget
        """Live effects that may still be performed; None for any number."""
        self.performed: list[str] = []
        self.dropped: list[str] = []
        self.unconsumed: list[str] = []
        self.suffix = f"~{log.header.suffix}" if log.header.suffix else ""
        cancelled = log.header.cancelled
        self.diverged = False
        self.careful = True
        """Whether the short path of local effects is closed."""
        self.counted = False
        """Whether the counters were compared with the ids of the log."""
        self.cancelled_at = None if cancelled is UNSET else cancelled.at
        self.units: list[LoggedUnit] = []
        """The transactions around the strand, outermost first."""

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
        elif entry.state == "started":
            self.spend(frame)
        frame.place.entry_id = entry.id
        return entry

    def spend(self, frame: Frame) -> None:
        """Take one live effect from the budget, or suspend; what is inside a transaction belongs to that one effect."""
        if self.units:
            unit = self.units[-1]
            if not unit.is_live:
                raise Fault(divergence.inside(unit.entry, self.entries, self.cursor, frame.line()))
        elif self.budget is not None:
            if self.budget == 0:
                raise Suspend
            self.budget -= 1

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
        self.careful = self.allow_divergence or self.budget is not None or bool(self.suffix)
        if self.diverged:
            return  # the suffix is new, so nothing can be met
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
            self.log.header.suffix += 1
            self.suffix = f"~{self.log.header.suffix}"

    def add(self, entry: Entry) -> None:
        """Put a new entry at the cursor."""
        if self.allow_divergence:
            self.performed.append(entry.id)
        self.entries.insert(self.cursor, entry)

    # -- matching ----------------------------------------------------------------------------------------------------

    def match(self, codec: Codec, data: Raw, frame: Frame) -> Entry | None:
        """The entry of this request, or None where the log holds none and it is new."""
        if self.remaining:
            cursor = self.cursor
            entry = self.entries[cursor]
            if (entry.sig == codec.sig and entry.data == data) or self._is(entry, codec, data):
                return self.take()
            if not self.allow_divergence:
                raise Fault(divergence.mismatch(codec, data, self.entries, cursor, frame.line()))
        found = self._align(codec, data) if self.allow_divergence else None
        if found is None and self.log.header.status in ("completed", "failed"):
            raise Fault(divergence.beyond(codec, data, self.log, frame.line()))
        return found

    def take(self) -> Entry:
        """The next entry, which the cursor passes; a copy where it will change: the caller's log stays as it is."""
        index = self.cursor
        self.remaining -= 1
        entry = self.entries[index]
        if entry.state == "started":
            entry = self.entries[index] = copy.copy(entry)
        return entry

    def _is(self, entry: Entry, codec: Codec, data: Raw) -> bool:
        return entry.sig in codec.names and codec.same(entry.data, data)

    def _align(self, codec: Codec, data: Raw) -> Entry | None:
        cursor = self.cursor
        undone = undone_in((*self.entries, *self.log.dropped), but=[unit.entry.id for unit in self.units])
        for index in range(cursor, len(self.entries)):
            entry = self.entries[index]
            if not entry.id.startswith(undone) and self._is(entry, codec, data):
                self.pass_over(index)
                return self.take()
        if codec.kind.__kind__ is not Kind.EXTERNAL:
            return None
        for index, entry in enumerate(self.log.dropped):
            if entry.state != "discarded" and not entry.id.startswith(undone) and self._is(entry, codec, data):
                del self.log.dropped[index]
                nested = [one for one in self.log.dropped if one.id.startswith(f"{entry.id}/")]
                self.log.dropped[:] = [one for one in self.log.dropped if one not in nested]
                self.entries[cursor:cursor] = [entry := copy.copy(entry), *nested]
                self.remaining += len(nested)  # its handler's own are still to be replayed, right behind it
                return entry
        return None

    def pass_over(self, until: int) -> None:
        """Pass over the entries from the cursor to *until*; they stay in the log, out of the way."""
        cursor = self.cursor
        passed = self.entries[cursor:until]
        if passed:
            self.diverge()
        self.dropped += [entry.id for entry in passed]
        self.log.dropped += passed
        del self.entries[cursor:until]
        self.remaining -= len(passed)

    def close(self, ended: str) -> None:
        """The computation has ended; whatever the log still holds is a divergence."""
        if not self.remaining:
            return
        cursor = self.cursor
        if not self.allow_divergence:
            raise Fault(divergence.unconsumed(self.entries, cursor, ended))
        left = self.entries[cursor:]
        self.unconsumed = [entry.id for entry in left]
        self.log.dropped += left
        del self.entries[cursor:]
        self.remaining = 0

    def nested(self, entry: Entry) -> list[Entry]:
        """Pass over the entries that the handler of *entry* made, and give them."""
        prefix = f"{entry.id}/"
        first = self.cursor
        while self.remaining and self.entries[-self.remaining].id.startswith(prefix):
            self.remaining -= 1
        return self.entries[first : self.cursor]

    def forget(self, entry: Entry) -> None:
        """Remove what stands under *entry*, a transaction that was not committed."""
        entries, cursor = self.entries, self.cursor
        first = next(index for index in range(len(entries), 0, -1) if entries[index - 1] is entry)
        last = first + count_nested(entries, first - 1)
        self.remaining -= max(0, last - max(first, cursor))
        del entries[first:last]
        self.performed = [one for one in self.performed if not one.startswith(f"{entry.id}/")]

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

    def cancel_here(self) -> Entry:
        """The entry at the cursor, which is where the run was cancelled."""
        entry = self.take()
        if entry.state == "started":
            self.abandon(entry, "run-cancel")
        return entry

    def answered(self, entry: Entry, digest: str) -> None:
        """Remember that a question has its answer."""
        settled = self.log.header.settled
        settled.append(Settled(entry.id, digest))
        del settled[:-_SETTLED_KEPT]

    # -- replaying ---------------------------------------------------------------------------------------------------

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


def undone_in(entries: Iterable[Entry], but: Collection[str] = ()) -> tuple[str, ...]:
    """Prefixes of the ids under those transactions of *entries* that left no trace; *but* are seen from inside."""
    return tuple(
        f"{entry.id}/"
        for entry in entries
        if entry.sig == Begin.__sig__ and entry.value != COMMITTED and entry.id not in but
    )


def count_nested(entries: Sequence[Entry], index: int) -> int:
    """How many entries behind the one at *index* stand under it."""
    prefix = f"{entries[index].id}/"
    last = index + 1
    while last < len(entries) and entries[last].id.startswith(prefix):
        last += 1
    return last - index - 1


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


def blamed(error: Exception, entry: Entry) -> Exception:
    """*error*, which knows the entry that it came from."""
    object.__setattr__(error, "__skuld_entry__", entry.id)  # a frozen dataclass may be an exception too
    return error


def culprit(error: BaseException | None) -> str | None:
    """Id of the entry whose error led to *error*, or None."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop(0)
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        entry: str | None = getattr(one, "__skuld_entry__", None)
        if entry is not None:
            return entry
        waiting += [*getattr(one, "exceptions", ()), one.__cause__, one.__context__]
    return None
