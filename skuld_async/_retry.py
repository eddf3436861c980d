"""Retry: how often a call is tried, and when again. A policy is data, declared beside what is called."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from ._errors import DeclarationError, SkuldError

if TYPE_CHECKING:
    from typing import Any

_FRACTION = 53
"""Bits of a float's fraction."""


class Retry(msgspec.Struct, frozen=True):
    """How often an external call is tried, and how long it waits before each further attempt.

        @operation(retry=Retry(5, give_up_on=[PermissionError]))
        async def ship(self, order: int) -> str: ...

        tracking = yield Carrier.ship(order).retried(Retry(10))      # this call alone

    The first wait is *backoff* long, each further one *factor* times as long as the one before, up to *longest*. Chance
    takes something off each of them, so that callers who failed together do not come back together.

    Attributes:
        attempts: How often it is made, the first time included.
        backoff: The first wait.
        factor: By how much each further wait is longer; 1 for waits of one length.
        longest: What no wait exceeds.
        jitter: How much of a wait chance may take off: 1 for anything from no wait to all of it, 0 for nothing.
        retry_on: The errors after which it is tried again.
        give_up_on: Errors among these after which it is not.
        timeout: What one attempt may take; then it is cancelled, and has failed with `TimeoutError`.

    Raises:
        DeclarationError: A policy that cannot work.

    Gotchas:
        Errors that an operation declares (``raises=``) are answers. They are retried only where *retry_on* names them,
        or a class derived from one of them.
    """

    attempts: int
    backoff: timedelta = timedelta(seconds=1)
    factor: float = 2
    longest: timedelta = timedelta(minutes=5)
    jitter: float = 1
    retry_on: Sequence[type[Exception]] = (Exception,)
    give_up_on: Sequence[type[Exception]] = ()
    timeout: timedelta | None = None

    def __post_init__(self) -> None:
        for name in ("retry_on", "give_up_on"):
            given: Any = getattr(self, name)
            if not isinstance(given, (list, tuple)) or not all(map(_is_error, given)):  # pyright: ignore[reportUnknownArgumentType]
                raise _refused(f"{name}={given!r:.60}", "these are no classes of errors", f"{name}=[TimeoutError]")
            msgspec.structs.force_setattr(self, name, tuple(given))  # pyright: ignore[reportUnknownArgumentType]
        for name in ("backoff", "longest", "timeout"):
            span: Any = getattr(self, name)
            if (span is not None or name != "timeout") and not isinstance(span, timedelta):
                raise _refused(f"{name}={span!r:.60}", "this is no time span", f"{name}=timedelta(seconds=1)")
            if span is not None and span < timedelta():
                raise _refused(f"{name}={span!r}", "this is less than no time", f"{name}=timedelta(seconds=1)")
        if type(self.attempts) is not int or self.attempts < 1:
            raise _refused(f"{self.attempts!r:.60}", "the first attempt counts too", "Retry(1)")
        if not 1 <= self.factor < math.inf:
            raise _refused(f"factor={self.factor}", "a wait is never shorter than the one before", "factor=1")
        if not 0 <= self.jitter <= 1:
            raise _refused(f"jitter={self.jitter}", "it is a part of the wait", "jitter=0.5")

    def wait(self, attempt: int, seed: str, entry: str) -> timedelta:
        """How long to wait behind *attempt*, counted from 1: a function of the run's seed and the entry's id."""
        full, longest = self.backoff.total_seconds(), self.longest.total_seconds()
        for _ in range(attempt - 1):
            if not 0 < full < longest:
                break
            full *= self.factor
        taken = self.jitter * fraction(f"{seed}/{entry}/{attempt}") if self.jitter else 0
        return timedelta(seconds=min(full, longest) * (1 - taken))

    def takes(self, error: Exception, declared: Sequence[type[Exception]]) -> bool:
        """Whether *error* is one to try again after; *declared* are those that the operation declares."""
        if isinstance(error, RetryAfter):
            return True
        if isinstance(error, tuple(self.give_up_on)):
            return False
        on = tuple(self.retry_on)
        if isinstance(error, tuple(declared)):  # else it is the receiver's answer
            on = tuple(one for one in on if issubclass(one, tuple(declared)))
        return isinstance(error, on)


class RetryAfter(SkuldError):
    """Raised by an implementation: the receiver says when to try again.

        raise RetryAfter(int(response.headers["Retry-After"])) from error

    It ends its attempt like any error, and is always retried, while there are attempts left. What it was raised from is
    the error of the attempt, where there is one.

    Args:
        after: When: a time span, or seconds.
        cause: The error that it stands for, in place of ``from``.
    """

    __module__ = "skuld_async"  # stands in logs, wherever this file goes

    def __init__(self, after: timedelta | float, cause: Exception | None = None) -> None:
        seconds = after.total_seconds() if isinstance(after, timedelta) else float(after)
        super().__init__(seconds)
        self.seconds = seconds
        self.__cause__ = cause

    @property
    def wait(self) -> timedelta:
        """How long to wait."""
        if not self.seconds > 0:
            return timedelta()
        try:
            return timedelta(seconds=self.seconds)
        except OverflowError:
            return timedelta.max

    def __str__(self) -> str:
        return f"it is to be tried again in {self.seconds:g} s"


def cause_of(error: Exception) -> Exception:
    """The error that ended an attempt: of a `RetryAfter`, what it was raised from."""
    cause = error.__cause__ if isinstance(error, RetryAfter) else None
    return cause if isinstance(cause, Exception) else error


def noted(error: Exception, attempts: int) -> Exception:
    """*error*, which says after how many attempts it came."""
    if attempts > 1:
        object.__setattr__(error, "__notes__", [*getattr(error, "__notes__", ()), f"after {attempts} attempts"])
    return error


def fraction(text: str) -> float:
    """A number from 0 up to, but without, 1: a function of *text*, the same in each version of Python."""
    import hashlib  # noqa: PLC0415 - not needed to import the library

    block = hashlib.blake2b(text.encode(), digest_size=8, person=b"skuld.retry").digest()
    return (int.from_bytes(block, "big") >> (64 - _FRACTION)) / (1 << _FRACTION)


def _is_error(given: object) -> bool:
    return isinstance(given, type) and issubclass(given, Exception)


def _refused(what: str, problem: str, way_out: str) -> DeclarationError:
    return DeclarationError(f"Retry(..., {what})", problem, f"write, for example, {way_out}")
