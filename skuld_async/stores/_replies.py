"""Replies: what a task waits for while a thread works for it, and how that thread reaches the task's event loop.

A call on asyncio waits for a future of its loop, the cheapest thing there is; elsewhere it waits for a `Reply`.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import anyio.lowlevel

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


MANY = 8
"""Event loops that are remembered: ended ones are not kept alive for ever."""


class Settled(Protocol):
    """The side of a future, or of a `Reply`, that is for its thread."""

    def done(self) -> bool: ...

    def set_result(self, result: Any, /) -> None: ...

    def set_exception(self, exception: BaseException, /) -> None: ...


class Reply:
    """As a future of asyncio, but for any event loop: awaited once, settled in its loop."""

    def __init__(self) -> None:
        self._settled = anyio.Event()
        self._result: Any = None
        self._error: BaseException | None = None

    def done(self) -> bool:
        return self._settled.is_set()

    def set_result(self, result: Any, /) -> None:
        self._result = result
        self._settled.set()

    def set_exception(self, exception: BaseException, /) -> None:
        self._error = exception
        self._settled.set()

    def __await__(self) -> Generator[Any, Any, Any]:
        yield from self._settled.wait().__await__()
        if self._error is not None:
            raise self._error
        return self._result


class Home:
    """An event loop, as its threads see it."""

    def __init__(self, native: Any) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self._soon: Callable[..., object]
        if isinstance(native, asyncio.AbstractEventLoop):
            self.loop = native
            self._soon = native.call_soon_threadsafe
        else:
            self._soon = native.run_sync_soon

    def soon(self, function: Callable[..., object], *args: object) -> None:
        """Call *function* in this loop, from any thread; nothing happens if the loop has ended."""
        with suppress(RuntimeError):
            self._soon(function, *args)


class Homes:
    """The event loops from which a store is used: hardly ever more than one."""

    def __init__(self) -> None:
        self._known: dict[Any, Home] = {}
        self._first = self.here()

    def current(self) -> tuple[Home, Any]:
        """The running event loop, and something to await in it."""
        first = self._first
        if first.loop is not None:
            try:
                if asyncio.get_running_loop() is first.loop:
                    return first, first.loop.create_future()
            except RuntimeError:
                pass
        home = self.here()
        return home, Reply() if home.loop is None else home.loop.create_future()

    def here(self) -> Home:
        """The running event loop."""
        token: Any = anyio.lowlevel.current_token()
        native = getattr(token, "native_token", token)  # anyio before 4.11 gives the backend's own
        home = self._known.get(native)
        if home is None:
            if len(self._known) >= MANY:
                self._known.clear()
            home = self._known[native] = Home(native)
        return home
