"""The driver: moves one run in this process, from its lease until it ends, is put away, or belongs to somebody else."""

from __future__ import annotations

import logging
import math
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import msgspec
from msgspec import UNSET

from skuld_async._answers import AnswerError
from skuld_async._declared import decode_plain
from skuld_async._errors import (
    SkuldError,
)
from skuld_async.log.chunks import log_of
from skuld_async.log.outcome import Cancelled, Completed, Failed, Suspended
from skuld_async.log.questions import Answer
from skuld_async.log.session import Session
from skuld_async.log.waits import wake_at

from .errors import LeaseLostError, RecoveriesError, StoreError, WaitTakenError
from .parking import as_data, parking, word_of
from .records import Folded
from .scribe import Scribe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skuld_async._handler import Handler
    from skuld_async.log.log import Log, Wait
    from skuld_async.log.options import Options

    from .clock import RunClock
    from .notices import Notices
    from .records import Message, RunRecord, RunStatus
    from .store import Store
    from .workflows import Workflows

logger = logging.getLogger("skuld_async.runtime")

PATIENCE = 30.0
"""Seconds between two attempts to reach a store that is down, at most."""


class Means(NamedTuple):
    """What every driver of a runtime needs."""

    store: Store
    worker: str
    workflows: Workflows
    handlers: tuple[Handler, ...]
    options: Options
    clock: RunClock
    every_step: bool
    idle: float
    """Seconds that a run which waits for an answer stays in memory."""
    max_recoveries: int


class Driver:
    """Moves one run.

    Args:
        means: Those of the runtime.
        record: The run, which this worker has just created or claimed.
        notices: Who wants to know.
        fresh: The log of a run that was just created: nothing has to be loaded.
    """

    def __init__(self, means: Means, record: RunRecord, notices: Notices, fresh: Log | None = None) -> None:
        self.record = record
        self.wake: float | None = None
        """When the run is to be taken again, once it was put away."""
        self._means = means
        self._notices = notices
        self._fresh = fresh
        self._bell = anyio.Event()
        self._has_mail = False
        self._seen = 0
        """Number of the last message that was looked at."""
        self._early: list[Message] = []
        """Answers for names that were not asked yet."""
        self._leaves = False
        self._is_put_away = False
        self._rests = False
        """Whether it stands still, and the store knows that."""

    def ring(self) -> None:
        """Look again: something has changed."""
        self._bell.set()

    def has_mail(self, number: float = math.inf) -> None:
        """There are messages; the last one has this *number*."""
        if number > self._seen:
            self._has_mail = True
            self.ring()

    def leave(self) -> None:
        """Put the run away where it stands still."""
        self._leaves = True
        self.ring()

    @property
    def missed_mail(self) -> bool:
        """Whether there are messages that it did not look at."""
        return self._has_mail

    # -- from lease to lease -----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Move the run until this worker is done with it."""
        delay = 0.1
        while True:
            trouble = await self._stretch()
            if trouble is None or isinstance(trouble, LeaseLostError):
                if trouble is not None:
                    logger.warning("run %s: %s", self.record.id, trouble)
                return
            if not isinstance(trouble, WaitTakenError):
                logger.error("run %s cannot be written, trying again in %g s: %r", self.record.id, delay, trouble)
                await anyio.sleep(delay)
                delay = min(2 * delay, PATIENCE)
            if not await self._is_still_ours():
                return

    async def _is_still_ours(self) -> bool:
        while True:
            try:
                record = await self._means.store.get(self.record.id)
            except Exception as error:
                logger.error("run %s cannot be read, trying again: %r", self.record.id, error)  # noqa: TRY400
                await anyio.sleep(1)
                continue
            if record is None or (record.owner, record.token) != (self.record.owner, self.record.token):
                return False
            self.record = record
            return True

    async def _stretch(self) -> Exception | None:
        """Move the run from its stored log; gives what went wrong with the store."""
        means, record = self._means, self.record
        scribe = Scribe(
            means.store,
            record,
            means.clock,
            every_step=means.every_step,
            ring=self.ring,
            told=partial(self._notices.told, record.id),
        )
        self._early.clear()
        self._is_put_away = self._rests = False
        if record.recoveries > means.max_recoveries:
            return await self._park("dead", RecoveriesError(record.id, record.recoveries))
        try:
            log, stored, messages = await self._load()
            session = self._open(log, messages, scribe)
        except StoreError as error:
            return error
        except SkuldError as error:
            return await self._park("needs_attention", error)
        except Exception as error:
            return error
        scribe.begin(session.book, stored, [wait.id for wait in log.waits])
        try:
            async with session:
                await self._go_on(session, scribe, messages)
        finally:
            if self._rests:  # this process ends, and leaves what it has to others
                await scribe.write(rests=True, status="suspended", release=True, wake=self.wake)
            elif not self._is_put_away:
                await scribe.write(release=True, wake=0)
        return scribe.trouble

    async def _load(self) -> tuple[Log, int, Sequence[Message]]:
        """The log, how many entries its chunks hold, and the messages."""
        if self._fresh is not None:
            log, self._fresh = self._fresh, None
            return log, 0, ()
        chunks, messages = await self._means.store.load(self.record.id)
        return *log_of(chunks), messages

    def _open(self, log: Log, messages: Sequence[Message], scribe: Scribe) -> Session[Any]:
        """A session that goes on from *log*, with the answers that were accepted."""
        means, waits = self._means, {wait.id: wait for wait in log.waits}
        answers: list[Answer] = []
        for message in messages:
            if message.kind == "answer" and message.wait in waits:
                scribe.answers[message.wait] = message
                answers.append(Answer(decode_plain(message.body), waits[message.wait], in_time=True))
        comp = means.workflows.computation(self.record)
        return Session(comp, log, means.handlers, means.options, answers=answers, keeper=scribe, changed=self.ring)

    # -- inside a session --------------------------------------------------------------------------------------------

    async def _go_on(self, session: Session[Any], scribe: Scribe, messages: Sequence[Message]) -> None:
        await self._take_up(session, scribe, messages)
        scribe.seen = self._seen = max(scribe.seen, self.record.inbox)  # the others were folded in before
        while scribe.trouble is None:
            self._bell = bell = anyio.Event()
            if self._has_mail:
                self._has_mail = False
                await self._take_up(session, scribe, await self._inbox())
            if session.has_ended:
                await self._conclude(session, scribe)
                return
            if await self._early_answers(session, scribe):
                continue
            if not session.stands_still:
                if scribe.has_news(session.asked):  # of strands that wait while others go on
                    await scribe.write()
                with anyio.move_on_after(scribe.patience):
                    await bell.wait()
                if scribe.patience is not None and not bell.is_set():
                    await scribe.write()
            elif not await self._rest(session, scribe, bell):
                return

    async def _inbox(self) -> Sequence[Message]:
        """The messages, or none where the store is out of reach: it is asked again."""
        try:
            return await self._means.store.inbox(self.record.id)
        except Exception as error:
            logger.error("the messages of run %s cannot be read, trying again: %r", self.record.id, error)  # noqa: TRY400
            await anyio.sleep(1)
            self.has_mail()
            return ()

    async def _rest(self, session: Session[Any], scribe: Scribe, bell: anyio.Event) -> bool:
        """The run stands still; gives whether it is to stay here."""
        idle, due = self._means.idle, wake_at(session.log)
        self.wake = wake = None if due is None else due.timestamp()
        is_soon = wake is not None and wake - self._means.clock.seconds() <= idle
        if idle and (session.log.waits or is_soon) and not self._leaves:
            await scribe.rest()
            self._notices.told(self.record.id)
            self._rests = True
            with anyio.move_on_after(idle):
                await bell.wait()
            self._rests = False
            if bell.is_set() or not session.stands_still:
                return True
        self._is_put_away = True
        await scribe.write(rests=True, status="suspended", release=True, wake=wake)
        self._notices.told(self.record.id)
        return False

    async def _conclude(self, session: Session[Any], scribe: Scribe) -> None:
        """The run has ended, or cannot go on."""
        self._is_put_away = True
        header = session.log.header
        try:
            outcome = await session.outcome()
        except Exception as error:
            await self._give_up(scribe, error)
            return
        if not isinstance(outcome, Suspended):
            scribe.folded += [Folded(message.number, "the run never asked for it") for message in self._early]
        match outcome:
            case Completed():
                result = b"null" if header.result is UNSET else bytes(header.result)
                await scribe.write(rests=True, status="completed", result=result, release=True)
            case Failed():
                await scribe.write(rests=True, status="failed", error=msgspec.json.encode(header.error), release=True)
            case Cancelled():
                await scribe.write(rests=True, status="cancelled", release=True)
            case Suspended():  # it was stopped, because it can no longer be written
                self._is_put_away = False
        self._notices.told(self.record.id)

    # -- messages ----------------------------------------------------------------------------------------------------

    async def _take_up(self, session: Session[Any], scribe: Scribe, messages: Sequence[Message]) -> None:
        """Fold *messages* into the run."""
        for message in messages:
            if message.number <= scribe.seen or scribe.trouble is not None:
                continue
            scribe.seen = self._seen = message.number
            if message.kind == "cancel":
                await self._cancel(session, scribe, message)
            elif message.name:
                self._early.append(message)
            elif message.kind == "deposit":
                await self._deposit(session, scribe, message)
            elif message.wait not in scribe.answers:
                await self._answer(session, scribe, message)

    async def _cancel(self, session: Session[Any], scribe: Scribe, message: Message) -> None:
        """Cancel the run; where the code at hand cannot go on with it, that is left for the code that can."""
        with suppress(Exception):  # `_conclude` hears of it
            await session.cancel(message.body.decode(errors="replace"))
        header = session.log.header
        if header.cancelled is not UNSET:
            scribe.folded.append(Folded(message.number))
        elif header.status in ("completed", "failed"):
            scribe.folded.append(Folded(message.number, "the run had ended"))

    async def _answer(self, session: Session[Any], scribe: Scribe, message: Message) -> None:
        """Give the run an answer that was accepted: if it cannot be taken any more, it came first all the same."""
        wait = next((one for one in session.log.waits if one.id == message.wait), None)
        if wait is not None:
            scribe.answers[wait.id] = message
            try:
                await session.accept(Answer(decode_plain(message.body), wait, in_time=True))
            except AnswerError as error:
                logger.info("run %s goes back to an answer: %s", self.record.id, error)
            else:
                return
        scribe.trouble = WaitTakenError(self.record.id, message.wait)

    async def _deposit(self, session: Session[Any], scribe: Scribe, message: Message, wait: Wait | None = None) -> None:
        """Give the run an answer that nobody has checked."""
        wait = wait or next((one for one in session.log.waits if one.id == message.wait), None)
        refused = "that question is not open"
        if wait is not None and wait.id in scribe.answers:
            refused = "it was answered otherwise"
        elif wait is not None:
            try:
                await session.accept(Answer(decode_plain(message.body), wait))
            except (AnswerError, ValueError, RecursionError) as error:
                if session.has_ended and session.log.header.status in ("running", "suspended"):
                    return  # by an error of the code: it is left for the code that can go on
                refused = f"{error}"
            else:
                refused = ""
                session.book.is_unstable = True  # an answer that the store accepts before this is written comes first
        scribe.folded.append(Folded(message.number, refused))

    async def _early_answers(self, session: Session[Any], scribe: Scribe) -> bool:
        """Give the run what was left for a name that it now asks for; gives whether there was something."""
        for wait in session.log.waits if self._early else ():
            for message in self._early:
                if message.name == wait.name and wait.id in session.asked:
                    self._early.remove(message)
                    await self._deposit(session, scribe, message, wait)
                    return True
        return False

    # -- giving up ---------------------------------------------------------------------------------------------------

    async def _give_up(self, scribe: Scribe, error: Exception) -> None:
        """The code at hand cannot go on with the run: a person has to look."""
        logger.error("run %s needs attention: %s", self.record.id, error)
        await scribe.write(status="needs_attention", release=True, attention=word_of(error), error=as_data(error))
        self._notices.told(self.record.id)

    async def _park(self, status: RunStatus, error: Exception) -> Exception | None:
        """As `_give_up`, where no session could be opened."""
        logger.error("run %s: %s, %s", self.record.id, status.replace("_", " "), error)
        try:
            await self._means.store.append(parking(self.record, status, word_of(error), error, self._means.clock))
        except Exception as trouble:
            return trouble
        self._notices.told(self.record.id)
        return None
