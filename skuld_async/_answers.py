"""Answers that are refused; the wait stays open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._errors import DeploymentError

if TYPE_CHECKING:
    from collections.abc import Sequence


class AnswerError(DeploymentError, ValueError):
    """An answer that was refused; nothing was consumed and the wait, if any, stays open."""


class InvalidAnswerError(AnswerError):
    """The answer does not fit the type that the question declares."""

    def __init__(self, question: str, entry: str, problem: str, expected: str) -> None:
        super().__init__(question, entry, problem, expected)
        self.question = question
        self.entry = entry
        self.problem = problem
        self.expected = expected

    def __str__(self) -> str:
        return (
            f"this is no answer to {self.question} (wait {self.entry}): {self.problem}. "
            f"The wait stays open; answer again with a value of type {self.expected}."
        )


class NotWaitingError(AnswerError):
    """An answer for a run that waits for nothing."""

    def __init__(self, run: str, status: str) -> None:
        super().__init__(run, status)
        self.run = run
        self.status = status

    def __str__(self) -> str:
        return (
            f"run {self.run} waits for no answer (it is {self.status}). "
            "Leave the answer out: resume(comp, log, *handlers)"
        )


class OtherQuestionError(AnswerError):
    """An answer that was meant for another question than the one that is open."""

    def __init__(self, meant: str, waiting: str) -> None:
        super().__init__(meant, waiting)
        self.meant = meant
        self.waiting = waiting

    def __str__(self) -> str:
        return (
            f"this answer is meant for the question {self.meant}, but the run waits for {self.waiting}. "
            "Show the open question again and answer that one."
        )


class AlreadyAnsweredError(AnswerError):
    """An answer for a question that has one."""

    def __init__(self, meant: str) -> None:
        super().__init__(meant)
        self.meant = meant

    def __str__(self) -> str:
        return f"the question {self.meant} was answered before; that answer stands."


class SeveralWaitsError(AnswerError):
    """An answer that does not say which of several open questions it is meant for."""

    def __init__(self, waiting: Sequence[str]) -> None:
        super().__init__(tuple(waiting))
        self.waiting: tuple[str, ...] = tuple(waiting)

    def __str__(self) -> str:
        shown = "\n".join(f"  {ref}" for ref in self.waiting[:10])
        return (
            f"{len(self.waiting)} questions are open; say which one is answered: "
            f"resume(comp, log, *handlers, answer=..., to=wait), or answers={{wait.ref: ...}} for several.\n\n{shown}"
        )


class TooLateError(AnswerError):
    """An answer that came when the question's time was over."""

    def __init__(self, meant: str, deadline: str) -> None:
        super().__init__(meant, deadline)
        self.meant = meant
        self.deadline = deadline

    def __str__(self) -> str:
        return (
            f"the time of the question {self.meant} was over at {self.deadline}. "
            "Leave the answer out: resume(comp, log, *handlers) goes on with TimedOut."
        )
