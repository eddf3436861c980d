"""Local effects: performed on the first run and again on each replay, so that handler state is the same after both."""

from __future__ import annotations

from operator import attrgetter
from types import CoroutineType
from typing import TYPE_CHECKING, Any

import anyio
from msgspec import UNSET, Raw

from skuld_async._chain import caller
from skuld_async._declared import Misfit
from skuld_async._errors import DivergenceError, UnencodableError
from skuld_async._scopes import ASYNC_FRAMED, SYNC_FRAMED, Route
from skuld_async._signals import Fault

from . import divergence, failures
from .blame import blamed
from .entry import NULL, Entry
from .replaying import give_up, wait_where_given_up

if TYPE_CHECKING:
    from skuld_async._effect import Effect
    from skuld_async._frames import Frame

    from .codec import Codec
    from .journal import Journal


class Local:
    """The rule for one class of local effects, bound around its handler."""

    def __init__(self, codec: Codec, live: Route, journal: Journal) -> None:
        self.codec = codec
        self.live = live
        self.journal = journal
        self.perform = caller(live)
        self.again = caller(live.below or live)
        self.path = "" if live.scope is None else live.scope.path

    def route(self) -> Route:
        """The route that performs and logs."""
        if self.live.is_async:
            return Route(ASYNC_FRAMED, self.record_async, self.live.scope)
        return Route(SYNC_FRAMED, self.record if self.live.is_framed else self._fast(), self.live.scope)

    def _fast(self) -> Any:  # noqa: C901, PLR0915 - unrolled
        """`record`, unrolled for the common case, because state is read and written far more often than anything else.

        The common case: a sync handler, a strict and unlimited session, fields and value of types that need no check.
        """
        journal, codec, perform = self.journal, self.codec, self.live.function
        entries, sig, slow = journal.entries, codec.sig, self.record
        constant, exact_value = codec.constant, codec.answer.exact
        field, exact_field = (
            (attrgetter(codec.exact[0][0]), codec.exact[0][1]) if len(codec.exact) == 1 else (type, None)
        )
        encode, encode_value, path = codec.encode, codec.encode_exact, self.path
        if constant is None and exact_field is None:
            return slow

        def record(effect: Effect[Any], frame: Frame) -> Any:  # noqa: C901, PLR0911, PLR0912 - unrolled
            place = frame.place
            if journal.careful:
                remaining = journal.remaining
                if not remaining:
                    return slow(effect, frame)
                entry = entries[-remaining]
                # What is equal to the logged request was checked when that was logged.
                try:
                    data = Raw(encode(effect)) if constant is None else constant
                except (ValueError, TypeError, RecursionError):
                    return slow(effect, frame)
                if entry.sig != sig or entry.data != data or entry.state != "executed":
                    return slow(effect, frame)
                journal.remaining = remaining - 1
                place.entry_id = entry.id
                place.replayed = True
                try:
                    value = perform(effect)
                except Exception as error:
                    raise self.other_error(error, entry, frame) from error.__cause__
                if value is None:
                    raw = NULL
                elif type(value) is exact_value:
                    raw = Raw(encode_value(value))
                else:
                    raw = self.admit(value, frame)
                if raw != entry.value:
                    self.check_value(raw, entry, frame)
                return value
            if constant is not None:
                data = constant
            elif type(field(effect)) is exact_field:
                try:
                    data = Raw(encode(effect))
                except (ValueError, TypeError):
                    return slow(effect, frame)
            else:
                return slow(effect, frame)
            place.entry_id = entry_id = f"{place.prefix}{place.count}"
            place.replayed = False
            try:
                value = perform(effect)
            except Exception as error:
                raise self.failed(error, entry_id, data) from error.__cause__
            if value is None:
                raw = NULL
            elif type(value) is exact_value:
                raw = Raw(encode_value(value))
            else:
                raw = self.admit(value, frame)
            entries.append(Entry(entry_id, sig, data, "executed", raw, path))
            return value

        return record

    def record(self, effect: Effect[Any], frame: Frame) -> Any:
        """Perform *effect*; write its entry, or check it against the one that the log holds."""
        journal, place = self.journal, frame.place
        data = journal.data(self.codec, effect, frame)
        entry = journal.match(self.codec, data, frame)
        place.replayed = entry is not None
        if entry is None:
            journal.spend(frame)
            place.entry_id = entry_id = journal.new_id(frame)
            try:
                value = self.perform(effect, frame)
            except Exception as error:
                raise self.failed(error, entry_id, data) from error.__cause__
            journal.add(Entry(entry_id, self.codec.sig, data, "executed", self.admit(value, frame), self.path))
            return value
        place.entry_id = entry.id
        fresh = entry.state == "started"  # what failed the run, in a `rerun`
        try:
            value = self.perform(effect, frame)
        except Exception as error:
            raise self._raised(error, entry, frame, fresh=fresh) from error.__cause__
        return self._returned(value, entry, frame, fresh=fresh)

    async def record_async(self, effect: Effect[Any], frame: Frame) -> Any:
        """As `record`; the entry is there before its handler is awaited, which may request effects itself."""
        journal, place = self.journal, frame.place
        data = journal.data(self.codec, effect, frame)
        entry = journal.match(self.codec, data, frame)
        place.replayed = entry is not None
        if entry is None:
            journal.spend(frame)
            entry = Entry(journal.new_id(frame), self.codec.sig, data, "started", scope=self.path)
            journal.add(entry)
        place.entry_id = entry.id
        fresh = entry.state == "started"
        await wait_where_given_up(entry, frame)
        try:
            value = await settled((self.perform if fresh else self.again)(effect, frame))
        except Exception as error:
            raise self._raised(error, entry, frame, fresh=fresh) from error.__cause__
        except anyio.get_cancelled_exc_class():
            give_up(entry, frame, journal)
            raise
        return self._returned(value, entry, frame, fresh=fresh)

    def _raised(self, error: Exception, entry: Entry, frame: Frame, *, fresh: bool) -> Exception:
        """Settle a fresh entry with *error*, or check it against the one that the log holds."""
        if not fresh:
            return self.other_error(error, entry, frame)
        entry.error, entry.state = failures.to_data(error, self.codec.raises), "discarded"
        return blamed(error, entry)

    def _returned(self, value: Any, entry: Entry, frame: Frame, *, fresh: bool) -> Any:
        """Settle a fresh entry with *value*, or check it against the one that the log holds."""
        raw = self.admit(value, frame)
        if fresh:
            entry.value, entry.state = raw, "executed"
        else:
            self.check_value(raw, entry, frame)
        return value

    def admit(self, value: Any, frame: Frame) -> Raw:
        """The JSON of *value*."""
        try:
            return self.codec.value(value)
        except Misfit as error:
            raise Fault(UnencodableError(self.codec.label, str(error), frame.line())) from None

    def failed(self, error: Exception, entry_id: str, data: Raw) -> Exception:
        """Write the entry of an effect that raised."""
        logged = failures.to_data(error, self.codec.raises)
        entry = Entry(entry_id, self.codec.sig, data, "discarded", scope=self.path, error=logged)
        self.journal.add(entry)
        return blamed(error, entry)

    def other_error(self, error: Exception, entry: Entry, frame: Frame) -> Exception:
        """The error again; or a divergence, where the log holds a value or another error."""
        kind = failures.to_data(error, self.codec.raises).type
        if entry.error is UNSET or entry.error.type != kind:
            raise Fault(self._other(entry, kind, frame)) from error
        return blamed(error, entry)

    def check_value(self, raw: Raw, entry: Entry, frame: Frame) -> None:
        """Refuse another value than the log holds; other bytes may be the same value, after an edit or from a set."""
        if entry.state == "executed":
            if raw == entry.value:
                return
            answer = self.codec.answer
            try:
                if answer.decode(entry.value) == answer.decode(raw):
                    return
            except Misfit:
                pass
        raise Fault(self._other(entry, bytes(raw).decode(errors="replace"), frame))

    def _other(self, entry: Entry, received: str, frame: Frame) -> DivergenceError:
        logged = entry.error.type if entry.error is not UNSET else bytes(entry.value).decode(errors="replace")
        return DivergenceError(
            f"{self.codec.label} gives another value than the log holds",
            line=frame.line(),
            entry=entry.id,
            expected=logged,
            received=received,
            matched=divergence.last_matched(self.journal.entries, self.journal.cursor - 1),
            cause="the handler's first value changed, or state is changed in place or by something else than an effect",
        )


async def settled(answer: Any) -> Any:
    """*answer*, awaited where it is a coroutine: a sync handler may stand below async interceptors."""
    return await answer if isinstance(answer, CoroutineType) else answer  # pyright: ignore[reportUnknownVariableType]
