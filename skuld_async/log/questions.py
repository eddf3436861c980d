"""Questions: how a session serves a `Yield` that no handler answers, and how an answer gets in."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

import anyio
from msgspec import UNSET

from skuld_async._answers import InvalidAnswerError, NotWaitingError, OtherQuestionError, TooLateError
from skuld_async._clock import TimedOut, due_in
from skuld_async._declared import Misfit, describe
from skuld_async._signals import Fault, Suspend
from skuld_async.effects.yield_ import within_of

from . import waits
from .codec import codec_of
from .entry import ErrorData
from .log import ref_of
from .pauses import Pause, in_last_cleanup, refuse_in_cleanup, refuse_what_cannot_wait
from .replaying import perform_nested, refuse_after_failure, wait_where_given_up

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from skuld_async._frames import Frame
    from skuld_async.effects.yield_ import Yield

    from .book import Book
    from .codec import Codec
    from .entry import Entry
    from .journal import Journal
    from .log import Log, Wait


class NoAnswer(enum.Enum):
    """The default of ``answer=``: None is an answer."""

    NO_ANSWER = enum.auto()


NO_ANSWER = NoAnswer.NO_ANSWER


class Answer:
    """An answer on its way to its wait.

    Args:
        value: What it is.
        to: The wait, or its ``ref``, that it is meant for; the open one if None.
        in_time: Whether it was accepted before, when the question was still open: then it is never too late.
    """

    def __init__(self, value: Any, to: Wait | str | None, *, in_time: bool = False) -> None:
        self.value = value
        self.to = to
        self.in_time = in_time
        self.wait = ""
        """Id of the entry that it is meant for."""
        self.digest = ""

    def address(self, log: Log, *, allow_divergence: bool) -> None:
        """Find the wait that it is meant for; raises `AnswerError` where it may settle none."""
        wait = waits.addressed(log, self.to)
        self.wait, self.digest = wait.id, wait.digest
        if allow_divergence and self.to is None:
            self.to = wait  # the computation may come to another question


def answers_of(answer: Any, to: Wait | str | None, answers: Mapping[str, Any] | None) -> list[Answer]:
    """The answers that a verb was given."""
    given = [] if isinstance(answer, NoAnswer) else [Answer(answer, to)]
    return [*given, *(Answer(value, ref) for ref, value in (answers or {}).items())]


class Parked(Pause):
    """A strand that waits for an answer."""

    def __init__(self, codec: Codec, entry: Entry, frame: Frame) -> None:
        super().__init__(frame, entry)
        self.codec = codec
        self.value: Any = None


class Questions:
    """The questions of one session: each is answered from the log, by an answer that came with it, or by waiting."""

    def __init__(self, book: Book, answers: list[Answer], changed: Callable[[], None]) -> None:
        self.asked: dict[str, Yield[Any]] = {}
        """The open questions, by their entries' ids, in the order in which they were asked."""
        self.changed = changed
        """Called when a strand comes to wait."""
        self._book = book
        self._answers = answers
        self._parked: dict[str, Parked] = {}

    async def ask(self, journal: Journal, question: Yield[Any], frame: Frame) -> Any:
        """Serve *question*."""
        codec = codec_of(type(question))
        if in_last_cleanup(frame) is None:
            await refuse_what_cannot_wait(codec.label, frame)
        elif not journal.is_next(codec, question, frame):
            refuse_in_cleanup(codec.label, frame)  # nobody is there to answer
        self._refuse_late_answers(journal)
        try:
            entry = journal.begin(codec, question, frame)
        except Suspend:
            self.asked[frame.place.current_id] = question  # a replay shows it, and goes no further
            raise
        if entry.state != "started":
            perform_nested(entry, journal, frame.table.scope)
            await wait_where_given_up(entry, frame)
            return _timed_out(entry) or journal.replayed(codec, entry)
        refuse_after_failure(entry, frame, journal)
        if entry.wait is UNSET:
            entry.wait = waits.open_wait(codec, entry, question)
        within = within_of(question)
        if within is not None and entry.deadline is UNSET:
            entry.deadline = await due_in(frame, within)
            self._book.is_unstable = True
        parked = Parked(codec, entry, frame)
        answer = self._answer_for(entry, journal, frame)
        if answer is not None:
            try:
                return self._accept(parked, answer)
            except (InvalidAnswerError, TooLateError) as error:
                raise Fault(error) from None
        self.asked[entry.id] = question
        if journal.allow_divergence:
            journal.close("waits")
        return await self._wait(parked, journal)

    def _refuse_late_answers(self, journal: Journal) -> None:
        """Refuse the answer of the question that comes next, where the time of a computation around it was over."""
        overdue = journal.overdue
        if overdue is None or overdue.decided or not self._answers or not journal.remaining:
            return
        if self._book.keeper is not None:
            return  # it is of no use, as if its question had been given up
        entry = journal.entries[journal.cursor]
        if entry.state == "started" and any(answer.wait == entry.id for answer in self._answers):
            ref = ref_of(self._book.log.header.run, entry.id, waits.digest_of(entry))
            raise Fault(TooLateError(ref, f"{overdue.deadline}"))

    def _answer_for(self, entry: Entry, journal: Journal, frame: Frame) -> Answer | None:
        """The answer for the question of *entry*; one that nobody else can take is not lost in silence."""
        digest = waits.digest_of(entry)
        for answer in self._answers:
            if answer.wait == entry.id or (journal.allow_divergence and answer.digest == digest):
                break
        else:
            if not self._answers or frame.strand.crew.moving > 1:
                return None
            if self._book.keeper is not None:
                return None  # who sent it hears of it
            answer = self._answers[0]
            if not journal.allow_divergence:  # its question was given up on the way
                run = self._book.log.header.run
                raise Fault(OtherQuestionError(ref_of(run, answer.wait, answer.digest), ref_of(run, entry.id, digest)))
        self._answers.remove(answer)
        waits.check_question(entry, answer.to, self._book.log.header.run)
        return answer

    async def _wait(self, parked: Parked, journal: Journal) -> Any:
        entry = parked.entry
        self._parked[entry.id] = parked
        self.changed()
        try:
            await parked.wait(journal)
        except anyio.get_cancelled_exc_class():
            # A scope of the body gave the question up; whoever stops the session wakes the strand instead.
            if entry.state == "executed":
                return parked.value  # it was answered first
            if parked.stopped is None:
                journal.abandon(entry, "body-scope")
                self._goes_on(entry)
            raise
        finally:
            self._parked.pop(entry.id, None)
        if entry.state != "executed":
            self._goes_on(entry)
            self._book.is_unstable = True
            journal.abandon(entry, "timed-out")
            waits.without_schema(entry)
            return _timed_out(entry)
        return parked.value

    def _goes_on(self, entry: Entry) -> None:
        del self.asked[entry.id]
        self._book.log.header.status = "running"

    def _accept(self, parked: Parked, answer: Answer) -> Any:
        """Decode, then consume."""
        codec, entry = parked.codec, parked.entry
        log = self._book.log
        if parked.timer.is_due and not answer.in_time:
            raise TooLateError(ref_of(log.header.run, entry.id, waits.digest_of(entry)), f"{entry.deadline}")
        try:
            data, back = codec.answer.admit(answer.value)
        except Misfit as error:
            raise InvalidAnswerError(codec.label, entry.id, str(error), describe(codec.answer.type)) from None
        waits.close_wait(log, entry, data)
        log.header.status = "running"
        return back

    def is_parked(self, wait: str) -> bool:
        """Whether a strand waits at the entry *wait*."""
        return wait in self._parked

    def answer(self, answer: Answer, wait: str) -> None:
        """Settle an open question and let its strand go on; raises `AnswerError`, and then nothing was consumed."""
        parked = self._parked.get(wait)
        if parked is None:
            header = self._book.log.header
            raise NotWaitingError(header.run, header.status)
        parked.value = self._accept(parked, answer)
        del self._parked[wait], self.asked[wait]
        parked.timer.wake()


def _timed_out(entry: Entry) -> TimedOut | None:
    """The answer where the time was over, else None."""
    error, due = entry.error, entry.deadline
    if isinstance(error, ErrorData) and error.kind == "timed-out" and due is not UNSET:
        return TimedOut(due)
    return None
