"""Misuse: a body that breaks a rule of the pump. Each message shows the wrong line and the right one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._errors import DeploymentError

if TYPE_CHECKING:
    from collections.abc import Sequence


class MisuseError(DeploymentError):
    """The body of a computation breaks a rule of the pump; the message shows the fix."""


class NotAnEffectError(MisuseError, TypeError):
    """Something was yielded that is neither an effect nor a computation."""

    def __init__(self, received: str, line: str, hint: str) -> None:
        super().__init__(received, line, hint)
        self.received = received
        self.line = line
        self.hint = hint

    def __str__(self) -> str:
        return (
            f"a computation may yield effects, computations and Return; at {self.line} it yielded {self.received}. "
            f"{self.hint}"
        )


class RequestAfterReturnError(MisuseError):
    """A request, or a second `Return`, after `yield Return(...)`."""

    def __init__(self, request: str, line: str) -> None:
        super().__init__(request, line)
        self.request = request
        self.line = line

    def __str__(self) -> str:
        return (
            f"{self.request} is requested at {self.line} after `yield Return(...)`; it was not performed.\n\n"
            "Probably you wrote:                      Write:\n"
            "  if done:                                 if done:\n"
            "      yield Return(result)                     yield Return(result)\n"
            "  yield Charge(...)                            return\n"
            "                                           yield Charge(...)"
        )


class MissingReturnError(MisuseError):
    """A body ended without `Return` although its declared result excludes None."""

    def __init__(self, computation: str, declared: str, line: str) -> None:
        super().__init__(computation, declared, line)
        self.computation = computation
        self.declared = declared
        self.line = line

    def __str__(self) -> str:
        return (
            f"{self.computation}, at {self.line}, ended without `yield Return(...)`, and its declared result, "
            f"{self.declared}, excludes None.\n\n"
            "  end each path with `yield Return(value)`, or declare `Effectful[... | None]`"
        )


class OutsideStrandError(MisuseError, RuntimeError):
    """An effect was awaited outside the strand of a computation."""

    def __init__(self, request: str, *, inside: bool) -> None:
        super().__init__(request, inside)
        self.request = request
        self.inside = inside

    def __str__(self) -> str:
        if self.inside:
            return (
                f"{self.request} is awaited in a child task (a task group, asyncio.gather, asyncio.wait_for), "
                "where its place in the log would depend on timing.\n\n"
                "  left, right = yield Parallel.all(this(), that())   # side by side\n"
                "  answer = yield with_timeout(this(), after)         # with a time limit"
            )
        return (
            f"{self.request} is awaited outside a computation.\n\n"
            "  decorate the function with @computation and run it: await run(comp(...), *handlers)"
        )


class DeadlineAcrossYieldError(MisuseError):
    """A question was asked inside a deadline that cannot survive the suspension."""

    def __init__(self, question: str, line: str) -> None:
        super().__init__(question, line)
        self.question = question
        self.line = line

    def __str__(self) -> str:
        return (
            f"{self.question} is asked at {self.line} inside a cancel scope with a deadline; "
            "the run may wait for days in no process at all.\n\n"
            "  ask outside the `with move_on_after(...)` or `fail_after(...)` block"
        )


class DeadlockError(MisuseError):
    """Strands wait for one another, and nothing from outside will end that."""

    def __init__(self, waiting: Sequence[str]) -> None:
        super().__init__(tuple(waiting))
        self.waiting: tuple[str, ...] = tuple(waiting)

    def __str__(self) -> str:
        shown = "\n".join(f"  {one}" for one in self.waiting[:10])
        return (
            f"no strand of the run can move, and none waits for what comes from outside:\n\n{shown}\n\n"
            "Close the channel when nothing more is sent, or cancel the task that waits."
        )


class UnawaitedAnswerError(MisuseError):
    """A sync handler gave a coroutine, which nobody awaits; it was not run."""

    def __init__(self, effect: str) -> None:
        super().__init__(effect)
        self.effect = effect

    def __str__(self) -> str:
        return (
            f"the handler of {self.effect} is a sync function that returned a coroutine; it was not run.\n\n"
            "  make the handler an async function: async def handle(effect): return await client.get(effect.word)"
        )


class TransientScopeError(MisuseError):
    """A question was asked inside a scope that does not survive a suspension."""

    def __init__(self, question: str, handler: str, line: str) -> None:
        super().__init__(question, handler, line)
        self.question = question
        self.handler = handler
        self.line = line

    def __str__(self) -> str:
        return (
            f"{self.question} is asked at {self.line} inside the scope of {self.handler}, "
            "which does not survive a suspension.\n\n"
            "  ask before the scope is entered, or after it was left"
        )


class EndlessUnwindError(MisuseError):
    """A stopped computation caught the signal that stops it, over and over."""

    def __init__(self, computation: str, line: str) -> None:
        super().__init__(computation, line)
        self.computation = computation
        self.line = line

    def __str__(self) -> str:
        return (
            f"{self.computation} goes on requesting effects at {self.line} although it was stopped; "
            "it was abandoned there.\n\n"
            "  do not catch BaseException in a loop: catch Exception"
        )
