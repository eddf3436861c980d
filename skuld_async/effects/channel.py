"""Channel: values from one strand of a run to another, in the order in which they were sent."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar, Generic

import anyio
import msgspec
from typing_extensions import TypeForm, TypeVar

from skuld_async._chain import unhandled
from skuld_async._clock import Timer
from skuld_async._computation import Ensured, grace_ends
from skuld_async._declared import Declared, declare
from skuld_async._effect import Effect, Kind, define_effect, label_of
from skuld_async._errors import ChannelClosedError, DeclarationError
from skuld_async._handler import Cell, Handler, Installed
from skuld_async._signals import RunCancel
from skuld_async._strand import stopped

if TYPE_CHECKING:
    from collections.abc import Callable

    from skuld_async._frames import Frame
    from skuld_async._signals import Signal
    from skuld_async._strand import Strand

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Stored(msgspec.Struct, Generic[T]):
    """What a channel holds, between two steps."""

    accepted: int = 0
    """How many values were taken in so far: they are numbered from 1."""
    values: list[tuple[int, T]] = []
    """Those that nobody has received, with their numbers, oldest first."""
    closed: bool = False


class Operation:
    """A send or a receive on its way."""

    def __init__(self, settle: Callable[[int, Any], None], value: Any = None) -> None:
        self.settle = settle
        """Called with the number of the value and the value itself, at the moment at which it is handed over."""
        self.value = value
        """What is sent, or was received."""
        self.number = 0
        """Of the value."""
        self.is_over = False
        """Whether it waits no longer."""
        self.is_refused = False
        """Whether the channel was closed."""
        self.wake: Callable[[], None] = _nothing
        self.undo: Callable[[], None] = _nothing
        """Called when the value is taken back from a receiver that never saw it."""


class ChannelCell(Cell[Stored[Any]]):
    """A channel: what it holds, and who waits for it."""

    __slots__ = ("capacity", "receivers", "senders")

    shared: ClassVar[bool] = True

    def __init__(self, label: str, kind: Any, capacity: int) -> None:
        held: Any = Stored
        super().__init__(label, held[kind], Stored())
        self.capacity = capacity
        self.senders: deque[Operation] = deque()
        self.receivers: deque[Operation] = deque()

    def offer(self, operation: Operation) -> bool:
        """Take *operation* in; gives whether it is done, else it waits."""
        self.senders.append(operation)
        self._move()
        return operation.is_over

    def ask(self, operation: Operation) -> bool:
        """Take *operation* in; gives whether it is done, else it waits."""
        self.receivers.append(operation)
        self._move()
        return operation.is_over

    def close(self) -> None:
        """Nothing more is sent."""
        self.value.closed = True
        self._move()

    def forget(self, operation: Operation) -> None:
        """*operation* waits no longer."""
        for queue in (self.senders, self.receivers):
            if operation in queue:
                queue.remove(operation)

    def take_back(self, operation: Operation) -> None:
        """The receiver of *operation* was stopped before it saw its value, which is for the next one."""
        operation.undo()
        operation.is_over = False
        self.value.values.append((operation.number, operation.value))
        self.value.values.sort(key=_number)
        self._move()

    def _move(self) -> None:
        held = self.value
        while held.closed and self.senders:
            _refuse(self.senders)
        while True:
            while self.senders and len(held.values) < self.capacity + bool(self.receivers):
                sender = self.senders.popleft()
                held.accepted += 1
                held.values.append((held.accepted, sender.value))
                _end(sender, held.accepted, None)
            if not (self.receivers and held.values):
                break
            number, value = held.values.pop(0)
            _end(self.receivers.popleft(), number, value)
        while held.closed and self.receivers:
            _refuse(self.receivers)


def _end(operation: Operation, number: int, value: Any) -> None:
    operation.is_over = True
    operation.number, operation.value = number, value
    operation.settle(number, value)
    operation.wake()


def _refuse(queue: deque[Operation]) -> None:
    operation = queue.popleft()
    operation.is_over = operation.is_refused = True
    operation.wake()


class ChannelEffect(Effect[T_co], frozen=True):
    """Family of what is requested of a `Channel`."""

    __kind__ = Kind.CONTROL
    __channel__: ClassVar[str] = ""
    """Label of the channel."""
    __operation__: ClassVar[str] = ""

    def cell_in(self, frame: Frame) -> tuple[str, ChannelCell]:
        """The path of the channel's scope, and its cell; refused where it has no handler in scope."""
        for scope in frame.table.scope.outwards():
            found = scope
            while self.__channel__ not in found.cells and found.origin is not None:
                found = found.origin
            cell = found.cells.get(self.__channel__)
            if isinstance(cell, ChannelCell):
                return scope.path, cell
        unhandled(type(self), frame.table.scope).function(self, frame)
        raise AssertionError

    async def __perform__(self, frame: Frame) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride] - in place of None
        answer: list[Any] = []
        cell = self.cell_in(frame)[1]
        await perform(self, frame, cell, lambda _number, value: answer.append(value), answer.clear)
        signal = stopped(frame) if answer else frame.strand.sticky
        if signal is not None:
            raise signal
        return answer[0]


async def perform(
    effect: ChannelEffect[Any],
    frame: Frame,
    cell: ChannelCell,
    settle: Callable[[int, Any], None],
    undo: Callable[[], None],
) -> None:
    """Do what *effect* says, waiting for another strand where it has to.

    Args:
        effect: A send, a receive, or a close.
        frame: Of the computation that requests it.
        cell: The channel.
        settle: Called with the number of the value and the value itself, at the moment at which it is handed over.
        undo: Called when it is taken back.

    Raises:
        ChannelClosedError: The channel was closed.
    """
    if effect.__operation__ == "close":
        cell.close()
        settle(0, None)
        return
    is_send = effect.__operation__ == "send"
    operation = Operation(settle, getattr(effect, "value", None))
    operation.undo = undo
    if not (cell.offer(operation) if is_send else cell.ask(operation)):
        await _wait(operation, effect, frame, cell)
    if operation.is_refused:
        raise ChannelClosedError(effect.__channel__)


async def _wait(operation: Operation, effect: ChannelEffect[Any], frame: Frame, cell: ChannelCell) -> None:
    strand, crew = frame.strand, frame.strand.crew
    if strand.sticky is not None and not _is_cleanup(frame):  # it was stopped here before
        cell.forget(operation)
        return
    is_receive = effect.__operation__ == "receive"
    strand.waiting = blocked = _Blocked(operation, frame, cell, is_receive=is_receive)
    operation.wake = blocked.timer.wake
    # A scope of the body may end it; of a run without a log, the deadline may be that of its caller.
    if crew.is_shielded and anyio.current_effective_deadline() < math.inf:
        blocked.hold()
    crew.blocked[operation] = f"{label_of(type(effect))} at {frame.line()}"
    try:
        await blocked.timer.wait()
    except anyio.get_cancelled_exc_class():
        if not operation.is_over or strand.sticky is not None:
            raise
        # What was handed over stays so: the scope that was cancelled ends the next await.
    finally:
        strand.waiting = None
        del crew.blocked[operation]
        blocked.let_go()
        cell.forget(operation)


class _Blocked:
    """A strand that waits for another one at a channel."""

    def __init__(self, operation: Operation, frame: Frame, cell: ChannelCell, *, is_receive: bool) -> None:
        self.timer = Timer(frame, None)
        self._is_receive = is_receive
        self._operation = operation
        self._frame = frame
        self._cell = cell
        self._is_held = False

    def hold(self) -> None:
        """It counts as moving: a deadline is going to end it."""
        if not self._is_held:
            self._is_held = True
            self._frame.strand.crew.go()

    def let_go(self) -> None:
        """The wait is over."""
        if self._is_held:
            self._is_held = False
            self._frame.strand.crew.rest()

    def interrupt(self, signal: Signal) -> None:
        """Let *signal* end it, which sticks to the strand; cleanup has its grace time instead."""
        body = self._frame.strand.body
        is_over = self._operation.is_over
        if isinstance(signal, RunCancel) and (self._frame.shielded if is_over else _is_cleanup(self._frame)):
            if body is not None:
                body.deadline = grace_ends()
                self.hold()
        elif not is_over:
            self._cell.forget(self._operation)  # at once: nothing may be handed to who is stopped
            self.timer.wake()
        elif isinstance(signal, RunCancel) and self._is_receive and not self._operation.is_refused:
            self._cell.take_back(self._operation)
        elif body is not None:  # the strand can move again, and is only not there yet
            body.cancel()

    def strands(self) -> list[Strand]:
        return []

    @property
    def gives_way(self) -> bool:
        return not self.timer.is_over


def _is_cleanup(frame: Frame) -> bool:
    """Whether *frame* is cleanup; what only waits to be acquired needs none."""
    one: Frame | None = frame
    while one is not None and one.shielded:
        if isinstance(one.computation, Ensured):
            return True
        one = one.parent
    return one is None and frame.strand.parent is not None


class Channel(Generic[T]):
    """A key for a queue between the strands of a run: ``orders = Channel("orders", Order, capacity=10)``.

    Values arrive in the order in which they were sent. Who has received what is in the log: a replay gives each strand
    the same values, and what nobody has received yet is still there after a resume.

    Args:
        name: Unique among the channels of a program; part of the log.
        kind: Type of a value.
        capacity: How many values it holds before a sender waits; 0 for none, so that a sender waits for its receiver.

    Gotchas:
        Strands that wait for one another are a `DeadlockError`. Close the channel behind the last value.
    """

    def __init__(self, name: str, kind: TypeForm[T], *, capacity: int = 0) -> None:
        self.name = name
        self.label: str = f"Channel[{name}]"
        self.capacity = capacity
        if capacity < 0:
            raise DeclarationError(self.label, f"capacity={capacity} is below 0", "give 0 or more")
        self._declared: Declared[T] = declare(kind, self.label)
        make, label = define_effect, self.label
        self._send = make(
            ChannelEffect, f"{label}.send", [("value", kind)], answer=None, channel=label, operation="send"
        )
        self._receive = make(ChannelEffect, f"{label}.receive", answer=kind, channel=label, operation="receive")
        self._close = make(ChannelEffect, f"{label}.close", answer=None, channel=label, operation="close")

    def send(self, value: T) -> Effect[None]:
        """Send *value*; waits while the channel is full.

        Raises:
            ChannelClosedError: The channel is closed, or was while this waited.
        """
        effect: Effect[None] = self._send(value)
        return effect

    def receive(self) -> Effect[T]:
        """Receive the oldest value; waits while there is none.

        Raises:
            ChannelClosedError: The channel is closed, and nothing is left in it.
        """
        effect: Effect[T] = self._receive()
        return effect

    def close(self) -> Effect[None]:
        """Nothing more is sent: what is in it can still be received."""
        effect: Effect[None] = self._close()
        return effect

    def handler(self) -> Handler:
        """A scope with an empty channel."""
        return _ChannelHandler(self.label, self._declared, self.capacity)


class _ChannelHandler(Handler):
    def __init__(self, label: str, declared: Declared[Any], capacity: int) -> None:
        self.label = label
        self._declared = declared
        self._capacity = capacity

    def install(self) -> Installed:
        return Installed({}, [ChannelCell(self.label, self._declared.type, self._capacity)])


def _number(numbered: tuple[int, Any]) -> int:
    return numbered[0]


def _nothing() -> None:
    """Nobody waits."""
