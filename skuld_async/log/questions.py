"""Questions: how a session serves a `Yield` that no handler answers, and how an answer gets in."""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING, Any

import anyio
from msgspec import UNSET

from skuld_async._declared import Misfit, describe
from skuld_async._errors import InvalidAnswerError, NotWaitingError
from skuld_async._misuse import DeadlineAcrossYieldError, TransientScopeError
from skuld_async._signals import Fault, RunCancel, Signal

from . import waits
from .codec import codec_of
from .local import perform_nested, wait_where_given_up
from .recording import replayed

if TYPE_CHECKING:
    from collections.abc import Callable

    from skuld_async._frames import Frame
    from skuld_async.effects.yield_ import Yield

    from .codec import Codec
    from .entry import Entry
    from .journal import Journal
    from .log import Wait


class NoAnswer(enum.Enum):
    """The default of ``answer=``: None is an answer."""

    NO_ANSWER = enum.auto()


NO_ANSWER = NoAnswer.NO_ANSWER


class Answer:
    """An answer on its way to its wait."""

    def __init__(self, value: Any, to: Wait | str | None) -> None:
        self.value = value
        self.to = to


class Parked:
    """The strand, waiting in its task for an answer."""

    def __init__(self, codec: Codec, entry: Entry) -> None:
        self.codec = codec
        self.entry = entry
        self.woken = anyio.Event()
        self.value: Any = None
        self.signal: Signal | None = None


class Questions:
    """The questions of one session: each is answered from the log, by the answer that came with it, or by waiting."""

    def __init__(self, journal: Journal, answer: Answer | None, changed: Callable[[], None]) -> None:
        self.parked: Parked | None = None
        """The strand, while it waits."""
        self.last: Yield[Any] | None = None
        """The question that was asked last."""
        self._journal = journal
        self._answer = answer
        self.changed = changed
        """Called when the strand comes to wait."""

    async def ask(self, question: Yield[Any], frame: Frame) -> Any:
        """Serve *question*."""
        codec = codec_of(type(question))
        await _refuse_what_cannot_wait(codec, frame)
        self.last = question
        journal = self._journal
        entry = journal.begin(codec, question, frame)
        if entry.state != "started":
            perform_nested(entry, journal, frame.table.scope)
            await wait_where_given_up(entry)
            return replayed(codec, entry, journal)
        if entry.wait is UNSET:
            entry.wait = waits.open_wait(codec, entry, question)
        if self._answer is not None:
            answer, self._answer = self._answer, None
            waits.check_question(entry, answer.to, journal.log.header.run)
            try:
                return self._accept(codec, entry, answer.value)
            except InvalidAnswerError as error:
                raise Fault(error) from None
        journal.log.header.status = "suspended"
        if journal.allow_divergence:
            journal.close("waits")
        return await self._wait(codec, entry)

    async def _wait(self, codec: Codec, entry: Entry) -> Any:
        self.parked = parked = Parked(codec, entry)
        self.changed()
        try:
            await parked.woken.wait()
        except anyio.get_cancelled_exc_class():
            # A scope of the body gave the question up; whoever stops the session wakes the strand instead.
            if entry.state == "executed":
                return parked.value  # it was answered first
            self.parked = None
            self._journal.abandon(entry, "body-scope")
            self._journal.log.header.status = "running"
            raise
        if parked.signal is not None:
            if isinstance(parked.signal, RunCancel):
                self._journal.abandon(entry, "run-cancel")
            raise parked.signal
        return parked.value

    def _accept(self, codec: Codec, entry: Entry, value: Any) -> Any:
        """Decode, then consume."""
        try:
            data, back = codec.answer.admit(value)
        except Misfit as error:
            raise InvalidAnswerError(codec.label, entry.id, str(error), describe(codec.answer.type)) from None
        waits.close_wait(self._journal, entry, data)
        self._journal.log.header.status = "running"
        return back

    def answer(self, value: Any, to: Wait | str | None) -> None:
        """Settle the open question and let the strand go on; raises `AnswerError`, and then nothing was consumed."""
        log = self._journal.log
        waits.check_address(log, to)
        parked = self.parked
        if parked is None:
            raise NotWaitingError(log.header.run, log.header.status)
        parked.value = self._accept(parked.codec, parked.entry, value)
        self.wake(None)

    def wake(self, signal: Signal | None) -> None:
        """Let the strand go on, with its answer or with the signal that stops it."""
        if self.parked is not None:
            self.parked.signal = signal
            self.parked.woken.set()
            self.parked = None


async def _refuse_what_cannot_wait(codec: Codec, frame: Frame) -> None:
    """Refuse a question in the cleanup of a cancelled run, inside a deadline, or in a scope that cannot wait."""
    if isinstance(frame.strand.sticky, RunCancel):  # cleanup, which nobody is there to answer
        frame.strand.refused.append(f"{codec.label} at {frame.line()}")
        raise RunCancel
    deadline = anyio.current_effective_deadline()
    if deadline == -math.inf:
        await anyio.sleep_forever()  # the body asks inside a scope that it has cancelled
    if deadline != math.inf:
        raise Fault(DeadlineAcrossYieldError(codec.label, frame.line()))
    # A handler that asks does not see the scopes in which its effect was requested, but it keeps them waiting.
    for one in (frame, *reversed(frame.strand.stack)):
        for scope in one.table.scope.outwards():
            if scope.transient:
                raise Fault(TransientScopeError(codec.label, scope.transient[-1], frame.line()))
