"""Threads with a connection of their own, which do what tasks ask them for, in its order.

What waits is taken as one batch, and the callers of a batch are woken together: one call into each event loop.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeAlias

from typing_extensions import TypeVar

from skuld_async.durable.errors import StoreClosedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from skuld_async.stores._replies import Home, Homes, Settled

A = TypeVar("A")
T = TypeVar("T")

BATCH = 1000
"""Operations in a batch at most: so many share a commit."""


class Operation:
    """What a task asks for: ``work(desk, item)``, where the desk is what the thread works at."""

    __slots__ = ("home", "item", "reply", "work")

    def __init__(self, work: Callable[[Any, Any], Any], item: Any, home: Home, reply: Settled) -> None:
        self.work = work
        self.item = item
        self.home = home
        self.reply = reply


Outcome: TypeAlias = tuple[Operation, Any, BaseException | None]


class DatabaseThread(ABC):
    """A thread with a connection, from `start` to `stop`."""

    patience: float | None = None
    """After how many seconds without an operation it is idle; None for never."""

    def __init__(self, name: str, store: str, homes: Homes) -> None:
        self._store = store
        self._homes = homes
        self._queue: SimpleQueue[Operation] = SimpleQueue()
        self._last: Operation | None = None
        # A store that was never left does not keep its process alive.
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)

    # -- for tasks ---------------------------------------------------------------------------------------------------

    def start(self) -> Awaitable[None]:
        """Start it; to be awaited until its connection is there, or could not be made."""
        opened = self.do(_nothing, None)
        self._thread.start()
        return opened

    def do(self, work: Callable[[Any, A], T], item: A) -> Awaitable[T]:
        """Let the thread do ``work(desk, item)``; what is awaited is its result.

        An operation whose caller was cancelled is done all the same.
        """
        home, reply = self._homes.current()
        self._queue.put(Operation(work, item, home, reply))
        answer: Awaitable[T] = reply
        return answer

    def stop(self) -> Awaitable[None]:
        """End it after all that was asked for: also if nobody awaits this."""
        home, reply = self._homes.current()
        self._last = Operation(_nothing, None, home, reply)
        self._queue.put(self._last)
        ended: Awaitable[None] = reply
        return ended

    # -- in the thread -----------------------------------------------------------------------------------------------

    @abstractmethod
    def open(self) -> None:
        """Make the connection."""

    @abstractmethod
    def perform(self, batch: Sequence[Operation]) -> Sequence[Outcome]:
        """Do these; an outcome for each."""

    @abstractmethod
    def idle(self) -> None:
        """Nothing was asked for within `patience`, or the thread was busy for longer."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection."""

    def _main(self) -> None:
        first = self._queue.get()
        is_open, error = self._attempt(self.open)
        _deliver([(first, None, error)])
        batch: list[Operation] = []
        while self._last is None or self._last not in batch:
            batch = self._take()
            _deliver(self._perform(batch) if is_open else self._refused(batch))
            if is_open:
                self.idle()
        if is_open:
            _, error = self._attempt(self.close)
        _deliver([(self._last, None, error)])
        while not self._queue.empty():  # what came from another thread after the end
            _deliver(self._refused([self._queue.get()]))

    def _attempt(self, step: Callable[[], None]) -> tuple[bool, Exception | None]:
        try:
            step()
        except Exception as error:
            return False, error
        return True, None

    def _refused(self, batch: Sequence[Operation]) -> list[Outcome]:
        return [(operation, None, StoreClosedError(self._store)) for operation in batch if operation is not self._last]

    def _take(self) -> list[Operation]:
        try:
            first = self._queue.get(timeout=self.patience)
        except Empty:
            return []
        return [first, *(self._queue.get() for _ in range(min(self._queue.qsize(), BATCH - 1)))]

    def _perform(self, batch: list[Operation]) -> Sequence[Outcome]:
        wanted = [operation for operation in batch if operation is not self._last]
        try:
            return self.perform(wanted)
        except Exception as error:
            return [(operation, None, error) for operation in wanted]


def _nothing(_desk: Any, _item: None) -> None:
    """What is asked for to hear that the thread has come that far."""


def _deliver(outcomes: Sequence[Outcome]) -> None:
    """Wake the callers: one call into each event loop, since that costs more than what it brings."""
    homes = {outcome[0].home for outcome in outcomes}
    for home in homes:
        mine = outcomes if len(homes) == 1 else [outcome for outcome in outcomes if outcome[0].home is home]
        home.soon(_settle, mine)


def _settle(outcomes: Sequence[Outcome]) -> None:
    """In the event loop: pass results on; a future is done already if its caller was cancelled."""
    for operation, result, error in outcomes:
        reply = operation.reply
        if reply.done():
            continue
        if error is None:
            reply.set_result(result)
        else:
            reply.set_exception(error)
