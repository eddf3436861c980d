"""The thread in which a folder is read and written, one thing after another."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from skuld_async.stores._replies import Homes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from skuld_async.stores._replies import Settled

T = TypeVar("T")


class FolderThread:
    """Works for the event loop in which it is made; what it was given is done, whether somebody waits for it or not."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "skuld_async folder")
        self._homes = Homes()
        self._home, _ = self._homes.current()

    def reply(self) -> Any:
        """Something to await in the event loop, and to settle there."""
        return self._homes.current()[1]

    def do(self, call: Callable[[], T]) -> Awaitable[T]:
        """Make a call in the thread; what is awaited is its result."""
        reply = self.reply()
        self.then(call, lambda done: _settle(reply, done))
        awaited: Awaitable[T] = reply
        return awaited

    def then(self, call: Callable[[], T], end: Callable[[Future[T]], None]) -> None:
        """Make a call in the thread, and then *end* in the event loop."""
        self._pool.submit(call).add_done_callback(lambda done: self._home.soon(end, done))

    def soon(self, call: Callable[[], None]) -> None:
        """Make a call in the event loop, when the tasks had their turn that can move now."""
        self._home.soon(call)

    def end(self) -> None:
        """Let the thread end, after all that it was given."""
        self._pool.shutdown(wait=False)


def _settle(reply: Settled, done: Future[T]) -> None:
    if reply.done():
        return  # its task was cancelled
    if (error := done.exception()) is not None:
        reply.set_exception(error)
    else:
        reply.set_result(done.result())
