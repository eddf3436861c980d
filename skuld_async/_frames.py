"""Frames: one running computation, or one handler at work, on the pump's own stack.

This file alone touches ``asend``, ``athrow``, ``send`` and ``throw``. The pump steps the body of an async generator by
its frame's ``resume`` and by `inject`, and whatever else the stack holds by the two that `steps` gives.
"""

from __future__ import annotations

import contextlib
import enum
import sys
from typing import TYPE_CHECKING, Any, cast

import msgspec

from ._computation import Call
from ._effect import Request

if TYPE_CHECKING:
    from types import TracebackType

    from ._computation import Computation, Wrapped
    from ._effect import Effect
    from ._scopes import Route, Table
    from ._strand import Strand


class Nothing(enum.Enum):
    """No result yet: None is one."""

    NOTHING = enum.auto()


NOTHING = Nothing.NOTHING


class Place:
    """Where frames under one prefix stand: the number of the last request, and the handler that serves it."""

    # A plain class, because storing to a struct's field takes twice as long, and these are stored at each request.
    __slots__ = ("attempt", "count", "entry_id", "nested", "prefix", "replayed", "serving")

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.count = 0
        self.serving: Route | None = None
        """The async handler that is at work."""
        self.nested: Frame | None = None
        """What that handler sees, once it requests something itself."""
        self.entry_id: str | None = None
        """Id of the request's log entry, where a logger gave one."""
        self.replayed = False
        """Whether that entry was there before."""
        self.attempt: tuple[int, float | None] | None = None
        """Of a request that may be tried again: number and deadline of the attempt that is made."""

    @property
    def current_id(self) -> str:
        """Id of the last request."""
        return self.entry_id or f"{self.prefix}{self.count}"


class Loop(msgspec.Struct):
    """A loop that marks, in the frame of its activation."""

    label: str
    iteration: int
    base: str
    """The prefix around the loop."""


class Frame(msgspec.Struct, eq=False):
    """What one line of the stack needs to know."""

    strand: Strand
    table: Table
    place: Place
    activation: int
    """Number of the request that opened this frame."""
    computation: Computation[Any] | None
    shielded: bool = False
    """Cleanup: its effects are performed under a run cancel."""
    body: Any = None
    resume: Any = None
    """Steps the body of an async generator with a value."""
    parent: Frame | None = None
    """Who requested it."""
    internal: bool = False
    """The library's own code: never refused under a run cancel."""
    transparent: bool = False
    """Its first computation keeps this frame's activation number."""
    serves: Effect[Any] | None = None
    """The effect that this frame's handler answers, where it was awaited."""
    loops: tuple[Loop, ...] = ()
    refusals: int = 0

    @property
    def name(self) -> str:
        """The computation's name, as messages show it."""
        return f"the handler of {self.place.prefix[:-1]}" if self.computation is None else self.computation.name

    def request(self, effect: Effect[Any]) -> Request:
        """The request being served, as interceptors and observers see it."""
        return Request(effect, self.place.current_id, self.name)

    def handler_view(self, route: Route) -> Frame:
        """What the handler at work sees when it requests something itself.

        The scope where it was installed, without itself; and its requests are numbered under the id of the effect that
        it answers.
        """
        if self.place.nested is None:
            effect_id = self.place.current_id
            table = self.table if route.scope is None else route.scope.table
            self.place.nested = Frame(self.strand, table, Place(f"{effect_id}/"), 0, None, self.shielded)
        return self.place.nested

    def line(self) -> str:
        """Source file and line of the user's code that is waiting, ``file:number``."""
        if self.internal:  # the library's own code stands for whoever requested it
            outer = self.parent if self.parent is not None and self.parent.body is not None else self.strand.opened_in
            return self.name if outer is None else outer.line()
        if self.body is None:
            return self.name
        code, number = position(self.body)
        return f"{code}:{number}"


def open_frame(strand: Strand, computation: Computation[Any], parent: Frame) -> Frame:
    """A frame for *computation*, requested by *parent*; the pump steps one that holds an async generator."""
    place = parent.place
    if parent.transparent:
        parent.transparent = False
        activation = parent.activation
    else:
        place.count = activation = place.count + 1
    if type(computation) is Call:
        definition = computation.definition
        body = definition.__wrapped__(*computation.args, **computation.kwargs)
        resume = body.asend if definition._is_generator else None
        return Frame(strand, parent.table, place, activation, computation, parent.shielded, body, resume, parent)
    frame = Frame(strand, parent.table, place, activation, computation, parent.shielded, parent=parent, internal=True)
    own = cast("Wrapped[Any]", computation)
    frame.transparent = own.transparent
    frame.body = own.enter(frame)
    return frame


def enter_call(strand: Strand, call: Call, parent: Frame) -> Any:
    """Put a frame for *call* on the stack, in the place of *parent*, whose `yield` waits for it.

    Returns:
        The first step of an async generator; the coroutine, where the body is one.
    """
    place = parent.place
    place.count = activation = place.count + 1
    definition = call.definition
    body = definition.__wrapped__(*call.args, **call.kwargs) if call.kwargs else definition.__wrapped__(*call.args)
    # Positional, and all at once: this is the price of each call of a computation.
    if not definition._is_generator:
        strand.stack[-1] = Frame(strand, parent.table, place, activation, call, parent.shielded, body, None, parent)
        return body
    resume = body.asend
    strand.stack[-1] = Frame(strand, parent.table, place, activation, call, parent.shielded, body, resume, parent)
    _set_hooks(*_NO_HOOKS)
    step = resume(None)
    _set_hooks(*strand.hooks)
    return step


def steps(stepping: Any) -> tuple[Any, Any]:
    """What steps a coroutine, or the pump of an async generator: with a value, and with an error."""
    return stepping.send, stepping.throw


def inject(frame: Frame, error: BaseException) -> Any:
    """The step that throws *error* into the body of an async generator."""
    return frame.body.athrow(error)


def close(step: Any) -> None:
    """Close what *step* steps, which goes on requesting though it was stopped: as far as it lets itself be closed."""
    with contextlib.suppress(BaseException):  # its strand has its outcome
        step.__self__.close()


_set_hooks = sys.set_asyncgen_hooks
_NO_HOOKS = (None, None)


def first_step(frame: Frame) -> Any:
    """The step that starts an async generator.

    The event loop's hooks stay out: the pump brings each generator to its end itself, and asyncio's bookkeeping costs
    more than the whole call. They are restored before any line of the body runs.
    """
    _set_hooks(*_NO_HOOKS)
    step = frame.resume(None)
    _set_hooks(*frame.strand.hooks)
    return step


_PACKAGE = __file__.rpartition("_frames.py")[0]


def position(body: Any) -> tuple[str, int]:
    """File and line of the innermost waiting frame that is not the library's."""
    found = ("<unknown>", 0)
    while body is not None:
        frame = getattr(body, "ag_frame", None) or getattr(body, "cr_frame", None) or getattr(body, "gi_frame", None)
        if frame is not None and not is_ours(frame.f_code.co_filename):
            found = (frame.f_code.co_filename, frame.f_lineno)
        body = getattr(body, "ag_await", None) or getattr(body, "cr_await", None) or getattr(body, "gi_yieldfrom", None)
    return found


def line_of(function: Any) -> str:
    """Where *function* is defined, ``file:number``."""
    return f"{function.__code__.co_filename}:{function.__code__.co_firstlineno}"


def is_ours(filename: str) -> bool:
    """Whether *filename* belongs to the library."""
    return filename.startswith(_PACKAGE)


_NEW_LINES = 32
"""Lines that a traceback gains in one body, at most; what follows was stripped as the error passed the frame below."""


def strip(error: BaseException) -> BaseException:
    """Drop the library's own frames from the traceback, so that it shows the user's lines."""
    traceback = entry = _skip_ours(error.__traceback__)
    for _ in range(_NEW_LINES):
        if entry is None:
            break
        following = _skip_ours(entry.tb_next)
        if following is not entry.tb_next:
            entry.tb_next = following
        entry = following
    return error.with_traceback(traceback)


def _skip_ours(traceback: TracebackType | None) -> TracebackType | None:
    while traceback is not None and is_ours(traceback.tb_frame.f_code.co_filename):
        traceback = traceback.tb_next
    return traceback
