"""mark_loop: the checkpoint of a loop, which keeps its log as small as one iteration."""

from __future__ import annotations

import functools
from typing import Any, ClassVar, overload

from typing_extensions import TypeForm, TypeVar

from skuld_async._declared import Declared
from skuld_async._effect import Effect, Kind
from skuld_async._errors import DeclarationError
from skuld_async._frames import Frame, Loop, Place
from skuld_async._misuse import MisuseError
from skuld_async._signals import Fault

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Mark(Effect[T_co], frozen=True):
    """Effect of `mark_loop`."""

    __kind__ = Kind.CONTROL
    __sig__ = "mark_loop"
    __label__ = "mark_loop"
    __answer_form__: ClassVar[Any] = Any
    loop: str
    declared: Declared[T_co]
    carry: T_co

    def __perform__(self, frame: Frame) -> T_co:  # pyright: ignore[reportIncompatibleVariableOverride] - in place of None
        enter_iteration(frame, next_iteration(frame, self.loop))
        return self.carry


@overload
def mark_loop(loop: str, *, key: str | None = None) -> Effect[None]: ...
@overload
def mark_loop(loop: str, kind: TypeForm[T], *, carry: T, key: str | None = None) -> Effect[T]: ...
def mark_loop(loop: str, kind: Any = None, *, carry: Any = None, key: str | None = None) -> Any:
    """Mark the start of an iteration: what earlier iterations logged is pruned.

    Handler state and *carry* are kept. The answer is the carry: on a cold resume the first arrival gives back the carry
    of the iteration that was running, so what the body needs from one iteration to the next goes into it.

    Args:
        loop: Name of the loop, unique in its computation.
        kind: Type of the carry.
        carry: What this iteration starts with.
        key: Tells apart runs of the same loop in one activation, for example an order number.

    Gotchas:
        A local variable that is neither carried nor in a State is lost at the next cold resume. A task that was forked
        in an iteration is joined or cancelled in it: the next mark refuses to lose it.
    """
    for text in (loop, key or ""):
        if set(text) & set("@#/~"):
            raise DeclarationError(f"mark_loop({loop!r})", "names cannot hold @ # / ~", "use letters, digits, - and .")
    return Mark(loop if key is None else f"{loop}:{key}", _declared(loop, kind), carry)


@functools.lru_cache(maxsize=1024)
def _declared(loop: str, kind: Any) -> Declared[Any]:
    return Declared(kind, f"mark_loop({loop!r})")


def next_iteration(frame: Frame, label: str) -> Loop:
    """The iteration that a mark of the loop *label* starts in *frame*."""
    if frame.computation is None:
        message = "a handler marks no loops; mark them in a computation that it requests"
        raise Fault(MisuseError(message))
    for loop in frame.loops:
        if loop.label == label:
            _refuse_to_lose_tasks(frame, loop)
            return Loop(label, loop.iteration + 1, loop.base)
    return Loop(label, 1, frame.place.prefix)


def _refuse_to_lose_tasks(frame: Frame, loop: Loop) -> None:
    """Refuse to end the iteration *loop* while a task of it is neither joined nor cancelled."""
    prefix = f"{mark_id(frame, loop)}/"
    for task in frame.strand.tasks:
        if task.id.startswith(prefix):
            message = (
                f"mark_loop({loop.label!r}) at {frame.line()} would drop {task.name}, the task {task.id} of the "
                "iteration that ends here, from the log.\n\n"
                "  yield join(task)      # or\n"
                "  yield cancel(task)    # before the next mark; or fork it before the loop"
            )
            raise Fault(MisuseError(message))


def enter_iteration(frame: Frame, loop: Loop) -> None:
    """Number what follows in *frame* under *loop*; the loops inside the previous iteration are over."""
    depth = next((i for i, known in enumerate(frame.loops) if known.label == loop.label), len(frame.loops))
    frame.loops = (*frame.loops[:depth], loop)
    frame.place = Place(f"{mark_id(frame, loop)}/")


def mark_id(frame: Frame, loop: Loop) -> str:
    """Id of the mark that starts *loop*: ``prefix/loop@activation#iteration``."""
    return f"{loop.base}{loop.label}@{frame.activation}#{loop.iteration}"
