"""The errors of stores and of the runtime.

::

    SkuldError
    ├── StoreError                     what a store refuses
    │   ├── LeaseLostError             another worker has the run now; nothing was written
    │   ├── WaitTakenError             a wait was answered before it could be ended otherwise; nothing was written
    │   ├── StoreSchemaError           the database was written by a later release, or is no store
    │   ├── StoreClosedError           it is used outside of its ``async with``
    │   ├── FolderInUseError           another process has the folder (in `stores.file`, with the next one)
    │   └── DamagedFileError           a file of a run cannot be read
    └── RunError                       what a runtime refuses
        ├── UnknownRunError            there is no run of that id
        ├── UnknownWaitError           there is no such question
        ├── RunActiveError             a worker has the run
        ├── StuckRunError              the run will not end by itself
        ├── UnknownQuestionError       this process does not know the class of a question
        ├── UnknownWorkflowError       the computation is none of those that the runtime was given
        ├── RunConflictError           that id belongs to a run that was started otherwise
        ├── RecoveriesError            its workers died too often
        └── BadTokenError              that is no token of a question (in `tokens`, with the next one)
            └── ExpiredTokenError      it was one once
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skuld_async._errors import SkuldError

if TYPE_CHECKING:
    from collections.abc import Sequence


class StoreError(SkuldError):
    """What a store refuses."""


class LeaseLostError(StoreError):
    """Another worker has the run now, or it is gone; nothing was written."""

    def __init__(self, run: str, worker: str, token: int) -> None:
        super().__init__(run, worker, token)
        self.run = run
        self.worker = worker
        self.token = token

    def __str__(self) -> str:
        return f"worker {self.worker} no longer has run {self.run} (its fencing token was {self.token})"


class WaitTakenError(StoreError):
    """A wait was answered before it could be ended otherwise; nothing was written."""

    def __init__(self, run: str, wait: str) -> None:
        super().__init__(run, wait)
        self.run = run
        self.wait = wait

    def __str__(self) -> str:
        return f"the question {self.wait} of run {self.run} was answered first"


class StoreSchemaError(StoreError):
    """The database was written by a later release, or is no store of runs."""

    def __init__(self, place: str, problem: str, way_out: str) -> None:
        super().__init__(place, problem, way_out)
        self.place = place
        self.problem = problem
        self.way_out = way_out

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}. {self.way_out}"


class StoreClosedError(StoreError):
    """A store is used outside of its ``async with``."""

    def __init__(self, store: str) -> None:
        super().__init__(store)
        self.store = store

    def __str__(self) -> str:
        return f"{self.store} is not open. Write `async with store:`, or give it to a Runtime, which opens it"


class RunError(SkuldError):
    """What a runtime refuses."""


class UnknownRunError(RunError, LookupError):
    """There is no run of that id."""

    def __init__(self, run: str) -> None:
        super().__init__(run)
        self.run = run

    def __str__(self) -> str:
        return f"there is no run {self.run!r}: it was never started here, or was deleted"


class UnknownWaitError(RunError, LookupError):
    """There is no such question."""

    def __init__(self, wait: str) -> None:
        super().__init__(wait)
        self.wait = wait

    def __str__(self) -> str:
        return f"there is no question {self.wait!r}: that is no address of a wait, or its run was deleted"


class RunActiveError(RunError):
    """A worker has the run: it cannot be deleted."""

    def __init__(self, run: str) -> None:
        super().__init__(run)
        self.run = run

    def __str__(self) -> str:
        return f"run {self.run!r} belongs to a worker: runtime.cancel(run) first, and delete it once it has ended"


class StuckRunError(RunError):
    """Somebody waits for a run that will not end by itself."""

    def __init__(self, run: str, status: str, why: str) -> None:
        super().__init__(run, status, why)
        self.run = run
        self.status = status
        self.why = why

    def __str__(self) -> str:
        why = f" ({self.why})" if self.why else ""
        return f"run {self.run!r} is {self.status}{why}; runtime.release(run) lets it go on"


class UnknownQuestionError(RunError, LookupError):
    """This process does not know the class of a question, and so cannot check an answer to it."""

    def __init__(self, question: str) -> None:
        super().__init__(question)
        self.question = question

    def __str__(self) -> str:
        return (
            f"this process does not know the question {self.question}, so it cannot check an answer. "
            "Import its class, or leave the answer to the workers: runtime.deposit(token, body)"
        )


class UnknownWorkflowError(RunError, LookupError):
    """The computation is none of those that the runtime was given."""

    def __init__(self, workflow: str, known: Sequence[str]) -> None:
        super().__init__(workflow, tuple(known))
        self.workflow = workflow
        self.known: tuple[str, ...] = tuple(known)

    def __str__(self) -> str:
        known = ", ".join(self.known) or "none"
        return (
            f"this runtime does not know the workflow {self.workflow} (it knows: {known}). "
            "After a crash nobody could go on with it: give it to Runtime(store, [workflow, ...], handlers)"
        )


class RecoveriesError(RunError):
    """A run whose workers died too often without any progress; nobody takes it until it is released."""

    def __init__(self, run: str, recoveries: int) -> None:
        super().__init__(run, recoveries)
        self.run = run
        self.recoveries = recoveries

    def __str__(self) -> str:
        return (
            f"run {self.run!r} was taken from a dead worker {self.recoveries} times without getting any further. "
            "Find out what kills the process at this place, then runtime.release(run)"
        )


class RunConflictError(RunError, ValueError):
    """That id belongs to a run that was started otherwise."""

    def __init__(self, run: str, expected: str, received: str) -> None:
        super().__init__(run, expected, received)
        self.run = run
        self.expected = expected
        self.received = received

    def __str__(self) -> str:
        return (
            f"run {self.run!r} was started as {self.expected}, not as {self.received}. "
            "The same id with the same arguments is the same run; for another one take another id"
        )
