"""Retrying: a call that is tried again where it failed, in a run without a log; the log has its own rules beside."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

import anyio

from ._clock import Timer, due_in
from ._retry import Retry, RetryAfter, cause_of, noted
from ._scopes import ASYNC_FRAMED, Route

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from ._effect import Effect
    from ._frames import Frame

    Call = Callable[[Effect[Any], Frame], Any]


def retrying(route: Route, call: Call, kind: type[Effect[Any]]) -> Route:
    """*route*, which *call* calls, tried as often as *kind* declares."""
    policy = cast("Retry", kind.__retry__)
    perform = attempting(call, policy, is_async=route.is_async)

    async def try_again(effect: Effect[Any], frame: Frame) -> Any:
        attempt = 1
        while True:
            try:
                return await perform(effect, frame, attempt)
            except Exception as error:
                wait = wait_after(error, attempt, policy, kind, frame)
                if wait is None:
                    raise noted(cause_of(error), attempt) from cause_of(error).__cause__
            await Timer(frame, await due_in(frame, wait)).wait()
            attempt += 1

    return Route(ASYNC_FRAMED, try_again, route.scope)


def wait_after(
    error: Exception, attempt: int, policy: Retry, kind: type[Effect[Any]], frame: Frame
) -> timedelta | None:
    """How long to wait after *attempt*, counted from 1, which ended with *error*; None where it was the last."""
    if attempt >= policy.attempts or not policy.takes(error, kind.__raises__):
        return None
    if isinstance(error, RetryAfter):
        return error.wait
    return policy.wait(attempt, frame.strand.seed, frame.place.current_id)


def attempting(call: Call, policy: Retry, *, is_async: bool) -> Callable[[Effect[Any], Frame, int], Any]:
    """What makes one attempt at *call*: it knows which one it is, and has the time that the policy gives it."""
    seconds = None if policy.timeout is None else policy.timeout.total_seconds()

    async def attempt(effect: Effect[Any], frame: Frame, number: int) -> Any:
        place = frame.place
        place.nested = None  # what the handler requests has the same numbers again
        place.attempt = (number, None if seconds is None else time.time() + seconds)
        try:
            if not is_async:
                return call(effect, frame)
            if seconds is None:
                return await call(effect, frame)
            with anyio.move_on_after(seconds):
                return await call(effect, frame)
            message = f"the call took longer than {seconds:g} s"
            raise TimeoutError(message)
        finally:
            place.attempt = None

    return attempt
