"""The exception tree.

::

    SkuldError
    ├── DeclarationError (TypeError)       a type, port or handler that cannot work, refused where it is declared
    ├── DeploymentError                    sticky, raised by start/resume/replay/rerun, never `Failed`; has `.log`
    │   ├── UnhandledEffectError           nothing in scope answers the effect
    │   ├── DivergenceError                the computation asks for something else than the log holds
    │   ├── UnencodableError (ValueError)  an argument or a state that the log could not give back
    │   ├── UndecodableError (ValueError)  a logged value that today's types cannot read
    │   ├── AnswerError (ValueError)       an answer that was refused; the wait stays open (in `_answers`, with these)
    │   │   ├── InvalidAnswerError         it does not fit the type that the question declares
    │   │   ├── NotWaitingError            the run waits for nothing
    │   │   ├── OtherQuestionError         it is meant for another question
    │   │   ├── SeveralWaitsError          it does not say which of several questions it is meant for
    │   │   ├── TooLateError               the question's time was over
    │   │   └── AlreadyAnsweredError       that question has its answer
    │   ├── LifetimeError                  the lifetime of a handler failed while it was left
    │   ├── RerunRefusedError              `rerun` of a run that did not fail, or that went on after its failure
    │   └── MisuseError                    the classes below it are in `_misuse`
    │       ├── NotAnEffectError (TypeError)
    │       ├── RequestAfterReturnError
    │       ├── MissingReturnError
    │       ├── OutsideStrandError (RuntimeError)
    │       ├── DeadlineAcrossYieldError
    │       ├── TransientScopeError
    │       ├── UnawaitedAnswerError
    │       ├── DeadlockError
    │       └── EndlessUnwindError
    ├── LogDecodeError (ValueError)        these bytes are not a log
    ├── DomainError                        base of errors that users declare as data (see `skuld_async.DomainError`)
    ├── EffectError                        any other error of an effect, as data: type name, message, data
    ├── ResultError                        the call was made, its result cannot be kept
    ├── OutcomeUnknown                     a call of ``at_most_once`` was begun, and is not made again
    ├── RetryAfter                         an implementation says when to try again (in `_retry`)
    ├── ChannelClosedError                 `send` on a closed channel, or `receive` when nothing is left in it
    ├── TaskCancelledError                 `join` of a task that was cancelled
    ├── RolledBackError                    `rollback` was requested in a transaction
    └── NotCompletedError                  `.value` of an outcome that has none
        ├── StillWaitingError
        └── RunCancelledError
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .log.log import Log


class SkuldError(Exception):
    """Base of every error of this library."""


class DeclarationError(SkuldError, TypeError):
    """A declaration that cannot work: refused where it stands.

    Args:
        place: What was declared, for example ``Validator.validate``.
        problem: What is wrong with it.
        way_out: What to write instead.
    """

    def __init__(self, place: str, problem: str, way_out: str) -> None:
        super().__init__(place, problem, way_out)
        self.place = place
        self.problem = problem
        self.way_out = way_out

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}.\n\n  {self.way_out}"


class DeploymentError(SkuldError):
    """An error of the deployment, not of the run: after the fix, `resume` goes on.

    Attributes:
        log: The log with all that was performed, on each that a verb or a session raises. `run` keeps no log: there the
            attribute is missing.
    """

    log: Log


class UnhandledEffectError(DeploymentError):
    """No handler in scope answers the requested effect."""

    def __init__(self, effect: str, installed: Sequence[str], line: str, hint: str = "") -> None:
        super().__init__(effect, tuple(installed), line, hint)
        self.effect = effect
        self.installed: tuple[str, ...] = tuple(installed)
        self.line = line
        self.hint = hint

    def __str__(self) -> str:
        have = ", ".join(self.installed) or "none"
        hint = f"\n{self.hint}\n" if self.hint else ""
        key, is_of_key, _ = self.effect.rpartition("].")
        way_out = (
            f"  start(comp, key.handler(...))   # of the key that was declared as {key}]"
            if is_of_key
            else f"  start(comp, {self.effect}.handled_by(function))   # real work\n"
            f"  start(comp, {self.effect}.always(answer))         # a fixed answer, for tests"
        )
        return f"nothing handles {self.effect} at {self.line} (handlers in scope: {have}).\n{hint}\n{way_out}"


WAY_OUT = "run the code that wrote this log, or accept the change with resume(comp, log, ..., allow_divergence=True)"


class DivergenceError(DeploymentError):
    """The computation asks for something else than its log holds; nothing was performed.

    Attributes:
        what: The mismatch in one sentence.
        line: Source file and line of the request, ``file:number``.
        entry: Id of the entry that was expected next, if there is one.
        expected: What the log holds, as JSON.
        received: What the computation asked for, as JSON.
        matched: The last entries (at most five) that did match, oldest first.
        cause: The likely cause.
        way_out: What to do.
    """

    def __init__(
        self,
        what: str,
        *,
        line: str = "",
        entry: str | None = None,
        expected: str = "",
        received: str = "",
        differences: Sequence[str] = (),
        matched: Sequence[str] = (),
        cause: str = "",
        way_out: str = "",
    ) -> None:
        super().__init__(what, line, entry, expected, received, tuple(differences), tuple(matched), cause, way_out)
        self.what = what
        self.line = line
        self.entry = entry
        self.expected = expected
        self.received = received
        self.differences: tuple[str, ...] = tuple(differences)
        self.matched: tuple[str, ...] = tuple(matched)
        self.cause = cause
        self.way_out: str = way_out or WAY_OUT

    def __str__(self) -> str:
        lines = [f"{self.what}; nothing was performed."]
        if self.line:
            lines.append(f"  at        {self.line}")
        if self.expected or self.received:
            lines += [f"  expected  {self.expected}", f"  received  {self.received}"]
        lines += [f"    {difference}" for difference in self.differences]
        if self.matched:
            lines.append("  the last entries that matched:")
            lines += [f"    {entry}" for entry in self.matched]
        if self.cause:
            lines.append(f"  likely cause: {self.cause}")
        lines.append(f"  what to do: {self.way_out}")
        return "\n".join(lines)


class UnencodableError(DeploymentError, ValueError):
    """A value that the log could not give back as it is; refused before anything was performed."""

    def __init__(self, place: str, problem: str, line: str = "") -> None:
        super().__init__(place, problem, line)
        self.place = place
        self.problem = problem
        self.line = line

    def __str__(self) -> str:
        at = f" at {self.line}" if self.line else ""
        return (
            f"{self.place}{at} cannot be logged: {self.problem}.\n\n"
            "  use msgspec structs, dataclasses, attrs or pydantic classes of plain values, "
            "and the declared type itself"
        )


class UndecodableError(DeploymentError, ValueError):
    """A logged value that today's types cannot read."""

    def __init__(self, place: str, entry: str, problem: str) -> None:
        super().__init__(place, entry, problem)
        self.place = place
        self.entry = entry
        self.problem = problem

    def __str__(self) -> str:
        return (
            f"entry {self.entry} of {self.place} cannot be read with today's type: {self.problem}.\n\n"
            "  give new fields a default, keep old members of unions, or correct the value in the log"
        )


class RerunRefusedError(DeploymentError):
    """`rerun` of a run that it is not for."""

    def __init__(self, run: str, problem: str, way_out: str) -> None:
        super().__init__(run, problem, way_out)
        self.run = run
        self.problem = problem
        self.way_out = way_out

    def __str__(self) -> str:
        return f"run {self.run} is not run again: {self.problem}. {self.way_out}"


class LifetimeError(DeploymentError):
    """The lifetime of a handler failed while it was left; the error is the ``__cause__``, the run is in ``.log``."""

    def __init__(self, run: str, status: str, problem: str) -> None:
        super().__init__(run, status, problem)
        self.run = run
        self.status = status
        self.problem = problem

    def __str__(self) -> str:
        return (
            f"run {self.run} is {self.status}, but leaving the lifetimes of its handlers failed: {self.problem}.\n\n"
            "  error.log                                  # holds all that was performed: store it\n"
            "  await resume(comp, error.log, *handlers)   # gives the outcome"
        )


class LogDecodeError(SkuldError, ValueError):
    """These bytes are not a log: truncated, damaged, of another format, or something else altogether."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return (
            f"this is not a readable log: {self.problem}. Restore it from where it was stored; nothing was performed."
        )


class EffectError(SkuldError):
    """An error of an effect, as data: the same on the first run and on every replay.

    The original is the ``__cause__`` while the run is live; it is not kept.

    Attributes:
        type_name: ``module:qualname`` of the original's class.
        message: Its text.
        data: Its ``args`` where JSON can hold them, else None.
    """

    def __init__(self, type_name: str, message: str, data: Any = None) -> None:
        super().__init__(type_name, message, data)
        self.type_name = type_name
        self.message = message
        self.data = data

    def __str__(self) -> str:
        return f"{self.type_name}: {self.message}"


class ResultError(SkuldError):
    """The call was made, but its result cannot be kept; the call is settled and is never made again."""

    def __init__(self, effect: str, problem: str) -> None:
        super().__init__(effect, problem)
        self.effect = effect
        self.problem = problem

    def __str__(self) -> str:
        return (
            f"{self.effect} was performed, but its result does not fit the declared type: {self.problem}. "
            "Correct the handler or the declaration; the call is not made again."
        )


class OutcomeUnknown(SkuldError):
    """A call that is made at most once was begun in an earlier session, and its outcome was lost.

    Whether its receiver has acted is not known. The body may catch it, ask the receiver by a further effect, and
    decide.
    """

    __module__ = "skuld_async"  # stands in logs, wherever this file goes

    def __init__(self, effect: str, key: str) -> None:
        super().__init__(effect, key)
        self.effect = effect
        self.key = key

    def __str__(self) -> str:
        return (
            f"{self.effect} was begun under the key {self.key}, and its outcome was lost: it may have happened, and is "
            "not called again (at_most_once). Ask its receiver, or compensate. If it is known not to have happened: "
            "rerun(comp, log, *handlers, force=True)."
        )


class ChannelClosedError(SkuldError):
    """A channel that was closed: `send` on it, or `receive` when nothing is left in it."""

    def __init__(self, channel: str) -> None:
        super().__init__(channel)
        self.channel = channel

    def __str__(self) -> str:
        return f"{self.channel} is closed."


class TaskCancelledError(SkuldError):
    """`join` of a task that was cancelled."""

    def __init__(self, task: str, computation: str) -> None:
        super().__init__(task, computation)
        self.task = task
        self.computation = computation

    def __str__(self) -> str:
        return f"{self.computation}, the task {self.task}, was cancelled: it has no result."


class RolledBackError(SkuldError):
    """`rollback` was requested: the transaction left no trace."""

    __module__ = "skuld_async"  # stands in logs, wherever this file goes

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the transaction was rolled back: {self.reason}"


class NotCompletedError(SkuldError):
    """The outcome has no value."""

    def __init__(self, run: str, detail: str) -> None:
        super().__init__(run, detail)
        self.run = run
        self.detail = detail


class StillWaitingError(NotCompletedError):
    """`.value` of a suspended run."""

    def __str__(self) -> str:
        return f"run {self.run} has no value yet: {self.detail}"


class RunCancelledError(NotCompletedError):
    """`.value` of a cancelled run."""

    def __str__(self) -> str:
        return f"run {self.run} was cancelled: {self.detail}"
