"""The runtime: starts runs, keeps them, recovers them after a crash, wakes them at their time, and takes answers."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Generic, Literal, Self

import anyio
import msgspec
from typing_extensions import TypeVar, Unpack

from skuld_async._errors import DeclarationError
from skuld_async._run import new_id
from skuld_async.log.book import Book
from skuld_async.log.chunks import Changes
from skuld_async.log.identity import identify, is_same_call
from skuld_async.log.log import Log

from .answering import Counter, question_schema
from .clock import RunClock
from .dispatcher import Dispatcher
from .driver import Means
from .errors import RunActiveError, RunConflictError, UnknownRunError
from .heartbeat import Heartbeat
from .liveness import this_worker
from .notices import Notices
from .parking import UNKNOWN_WORKFLOW
from .records import NewDeposit, NewRun, RunFilter, WaitFilter
from .run import Run
from .tokens import PlainTokens
from .views import OpenWait, sent, view_of_run, view_of_wait
from .workflows import Workflows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import timedelta
    from types import TracebackType

    from skuld_async._computation import Call, Computation, Definition
    from skuld_async._handler import Handler
    from skuld_async.log.options import Options

    from .records import RunRecord, RunStatus
    from .store import Store
    from .tokens import Tokens
    from .views import Accepted, RunView, SentMessage

T = TypeVar("T")

LEASE = 10.0
IDLE = 10.0


class Page(msgspec.Struct, Generic[T], frozen=True):
    """A part of a list."""

    items: Sequence[T]
    next: str | None
    """What ``after=`` takes for the next part; None if this is the last one."""


class Runtime:
    """Runs that survive the process.

        async with Runtime(SQLiteStore("workflows.db"), [approval], handlers) as runtime:
            run = await runtime.start(approval(purchase), id="req-42")
            print(await run.result())

    Args:
        store: Where runs are kept; the runtime enters and leaves it.
        workflows: The computations that may be started, as they are declared, uncalled.
        handlers: The outermost scope of each run.
        tokens: How the addresses of questions are written; unsigned if None.
        durability: ``"step"`` writes the log at each external effect, ``"suspend"`` where a run stands still.
        lease: Seconds without a heartbeat after which another worker takes over. On one machine a dead process is
            noticed sooner.
        idle: Seconds that a run which waits for an answer stays in memory.
        concurrency: How many runs may be in memory.
        max_recoveries: How often a run is taken from dead workers without progress, before it is dead itself.
        **options: As of `start`, for each run.
    """

    def __init__(
        self,
        store: Store,
        workflows: Iterable[Definition[..., Any]],
        handlers: Iterable[Handler] = (),
        *,
        tokens: Tokens | None = None,
        durability: Literal["step", "suspend"] = "step",
        lease: float = LEASE,
        idle: float = IDLE,
        concurrency: int = 1000,
        max_recoveries: int = 5,
        **options: Unpack[Options],
    ) -> None:
        if durability not in ("step", "suspend"):
            raise DeclarationError("Runtime(durability=...)", f"{durability!r} is none", 'give "step" or "suspend"')
        if "into" in options:
            raise DeclarationError("Runtime(into=...)", "each run has a log of its own", "leave it out")
        self.store = store
        self.notices = Notices()
        self._workflows = Workflows(workflows)
        handlers = tuple(handlers)
        self._clock = RunClock(handlers)
        self._tokens = tokens or PlainTokens()
        self._counter = Counter(store, self._tokens, self._clock)
        self._worker = this_worker(self._workflows.names)
        self._lease = lease
        means = Means(
            store,
            self._worker.id,
            self._workflows,
            handlers,
            options,
            self._clock,
            durability == "step",
            idle,
            max_recoveries,
        )
        self._dispatcher = Dispatcher(means, self._worker, self.notices, lease=lease, concurrency=concurrency)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.store)
            await stack.enter_async_context(Heartbeat(self.store, self._worker, self._lease))
            await self.store.requeue_known(UNKNOWN_WORKFLOW, self._workflows.names, self._clock.seconds())
            self._group = await anyio.create_task_group().__aenter__()
            stack.push_async_exit(self._leave)
            await self._group.start(self._dispatcher.run)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        """Let go of all runs: those that move stop where they are, and are ready for the next worker at once."""
        return await self._stack.__aexit__(kind, error, traceback)

    async def _leave(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        self._group.cancel_scope.cancel()
        try:
            return await self._group.__aexit__(kind, error, traceback)
        except BaseExceptionGroup as group:
            if len(group.exceptions) == 1 and group.exceptions[0] is error:
                return False  # it is that of the caller, who gets it as it is
            raise

    # -- runs --------------------------------------------------------------------------------------------------------

    async def start(
        self, comp: Computation[T], *, id: str | None = None, tags: Iterable[str] = (), paused: bool = False
    ) -> Run[T]:
        """Start a run; comes back once it is committed. It moves in a task of the runtime.

        Args:
            comp: The call of a workflow.
            id: Of the run; random if None. Starting the same call again under the same id gives the same run.
            tags: By which `runs` and `waits` find it.
            paused: Whether it waits for `release` before its first step.

        Raises:
            RunConflictError: That id belongs to a run of another workflow, or of other arguments.
            UnknownWorkflowError: The runtime was not given this workflow.
            UnencodableError: An argument that a log cannot hold.
        """
        call = self._workflows.call(comp)
        log = Log()
        log.header.run, log.header.seed = id or new_id(), new_id()
        identify(log, call)
        run = log.header.run
        chunk = Changes(Book(log), None).take()
        assert chunk is not None
        new = NewRun(
            id=run,
            workflow=log.header.computation,
            version=log.header.version,
            arguments=bytes(log.header.arguments),
            tags=tuple(tags),
            paused=paused,
            chunk=chunk.data,
            at=self._clock.seconds(),
        )
        dispatcher, record = self._dispatcher, None
        async with dispatcher.starting.setdefault(run, anyio.Lock()):
            try:
                is_mine = dispatcher.has_room and not paused
                with anyio.CancelScope(shield=True):  # what is committed is moved, whoever gives up waiting for it
                    record = await self.store.create(new, self._worker.id if is_mine else None)
                assert record is not None
                is_ours = record.owner == self._worker.id and record.token == 1 and record.appends == 1
                if is_ours and run not in dispatcher.active:
                    dispatcher.drive(record, None if dispatcher.is_in_doubt else log)
            except Exception:
                dispatcher.doubt()
                raise
            finally:
                dispatcher.starting.pop(run, None)
        if record.workflow != new.workflow or not self._is_same_call(record, call, new.arguments):
            raise RunConflictError(run, _shown(record.workflow, record.arguments), _shown(new.workflow, new.arguments))
        return Run(self, run)

    def get(self, id: str) -> Run[Any]:
        """The run of that id, whoever started it; whether there is one is found out when it is asked something."""
        return Run(self, id)

    async def runs(
        self,
        *,
        workflow: str | None = None,
        status: RunStatus | Sequence[RunStatus] | None = None,
        tag: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[RunView]:
        """Runs, the newest first.

        Args:
            workflow: Its name.
            status: One, or several.
            tag: One of theirs.
            after: ``Page.next`` of the part before.
            limit: How many at most.
        """
        statuses = (status,) if isinstance(status, str) else None if status is None else tuple(status)
        place = None if after is None else msgspec.json.decode(after, type=tuple[float, str])
        only = RunFilter(workflow=workflow, statuses=statuses, tag=tag)
        found = await self.store.runs(only, place, limit)
        last = _next([found[-1].created, found[-1].id]) if len(found) == limit else None
        return Page([view_of_run(record) for record in found], last)

    async def cancel(self, run: str, reason: str = "cancelled", *, by: str = "") -> bool:
        """Ask a run to be cancelled for good; it does its cleanup first.

        Returns:
            Whether it had not ended.

        Raises:
            UnknownRunError: There is no such run.
        """
        asked = await self.store.cancel(run, reason, by, self._clock.seconds())
        if not asked and await self.store.get(run) is None:
            raise UnknownRunError(run)
        self._dispatcher.message_for(run)
        return asked

    async def release(self, run: str) -> bool:
        """Let a run be taken again that is paused, dead, or needs attention.

        Returns:
            Whether it was one of these.
        """
        released = await self.store.requeue(run, self._clock.seconds())
        self._dispatcher.ring()
        return released

    async def delete(self, run: str) -> None:
        """Remove a run, with all that belongs to it.

        Raises:
            UnknownRunError: There is no such run.
            RunActiveError: A worker has it: cancel it first.
        """
        became = await self.store.delete(run)
        if became == "unknown":
            raise UnknownRunError(run)
        if became == "owned":
            raise RunActiveError(run)
        self.notices.told(run)

    async def expire(self, older_than: timedelta, *, limit: int = 1000) -> int:
        """Remove runs that ended longer ago than *older_than*, at most *limit*; gives their number."""
        return await self.store.expire((self._clock.now() - older_than).timestamp(), limit)

    def definition(self, workflow: str) -> Definition[..., Any]:
        """The workflow of that name; raises `UnknownWorkflowError`."""
        return self._workflows.definition(workflow)

    # -- questions ---------------------------------------------------------------------------------------------------

    async def waits(
        self,
        *,
        run: str | None = None,
        workflow: str | None = None,
        tag: str | None = None,
        assignee: str | None = None,
        name: str | None = None,
        older_than: timedelta | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[OpenWait]:
        """The inbox: open questions of all runs, the oldest first.

        Args:
            run: Of this run.
            workflow: Of runs of this workflow.
            tag: Of runs with this tag.
            assignee: For whom they were asked (``question.assigned_to(...)``).
            name: By which they were asked (``question.named(...)``).
            older_than: That have been open for longer.
            after: ``Page.next`` of the part before.
            limit: How many at most.
        """
        before = None if older_than is None else (self._clock.now() - older_than).timestamp()
        place = None if after is None else msgspec.json.decode(after, type=tuple[float, str, str])
        only = WaitFilter(run=run, workflow=workflow, tag=tag, assignee=assignee, name=name, opened_before=before)
        found = await self.store.waits(only, place, limit)
        last = _next([found[-1].opened, found[-1].run, found[-1].id]) if len(found) == limit else None
        return Page([view_of_wait(one, self._tokens, question_schema(one.sig)) for one in found], last)

    async def wait(self, token: str) -> OpenWait | None:
        """The question that *token* leads to; None if it is open no more.

        Raises:
            BadTokenError: It is no token of a wait.
            UnknownWaitError: There is no such question.
        """
        found = await self._counter.find(token)
        return view_of_wait(found, self._tokens, question_schema(found.sig)) if found.state == "open" else None

    async def answer(self, to: str | OpenWait, value: Any, *, by: str = "") -> Accepted:
        """Answer an open question by a Python value; comes back once that is committed.

        Args:
            to: Its token, or its view.
            value: Of the type that the question declares.
            by: Who answers, for the record.

        Raises:
            AnswerError: The answer is refused, and nothing was consumed: it does not fit, comes too late, or there is
                another one already. The same answer given twice is one.
            BadTokenError: That is no token of a wait.
            UnknownWaitError: There is no such question.
            UnknownQuestionError: This process does not know its class.
        """
        accepted = await self._counter.answer(to, value, by)
        self._dispatcher.message_for(accepted.run)
        return accepted

    async def answer_json(self, to: str | OpenWait, body: bytes | str, *, by: str = "") -> Accepted:
        """As `answer`, by a JSON document: the body of a request."""
        accepted = await self._counter.answer_json(to, body, by)
        self._dispatcher.message_for(accepted.run)
        return accepted

    async def deposit(
        self, body: bytes | str, *, to: str | OpenWait | None = None, run: str = "", name: str = "", by: str = ""
    ) -> None:
        """Leave an answer that its run checks: for a question whose class this process does not know, or for a name.

        An answer for a name may come before its question; it is given to the first one of that name. What becomes of
        it, `messages` tells.

        Args:
            body: JSON.
            to: Token or view of the question.
            run: Id of the run that will ask, with *name*.
            name: By which it will ask.
            by: Who answers.

        Raises:
            UnknownRunError: There is no such run, or it has ended.
        """
        wait = ""
        if to is not None:
            found = await self._counter.find(to)
            run, wait, name = found.run, found.id, ""
        elif not (run and name):
            raise DeclarationError("runtime.deposit(...)", "it is for no question", "give to=token, or run= and name=")
        data = body.encode() if isinstance(body, str) else body
        number = await self.store.deposit(NewDeposit(run, wait, name, data, by, self._clock.seconds()))
        if number is None:
            raise UnknownRunError(run)
        self._dispatcher.message_for(run)

    async def messages(self, run: str) -> Sequence[SentMessage]:
        """All answers and cancels that were ever sent to a run, oldest first: by whom, when, what became of them."""
        return [sent(message, refused) for message, refused in await self.store.messages(run)]

    # -- details -----------------------------------------------------------------------------------------------------

    def _is_same_call(self, record: RunRecord, call: Call, arguments: bytes) -> bool:
        """Whether the run of *record* was started by the same call."""
        return record.arguments == arguments or is_same_call(
            call, msgspec.Raw(record.arguments), msgspec.Raw(arguments)
        )


def _next(place: list[Any]) -> str:
    return msgspec.json.encode(place).decode()


def _shown(workflow: str, arguments: bytes) -> str:
    return f"{workflow}{arguments.decode(errors='replace')[:500]}"
