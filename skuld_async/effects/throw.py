"""Throw: an error raised by the pump, so that it has an entry in the log."""

from __future__ import annotations

from typing import Any, ClassVar, Never

from skuld_async._effect import Effect, Kind


class Throw(Effect[Never], frozen=True):
    """``yield Throw(error)`` raises *error* at that line; catch it with ``try`` and ``except``."""

    __kind__ = Kind.CONTROL
    __sig__ = "Throw"
    __opaque__ = True
    __answer_form__: ClassVar[Any] = Any
    error: Exception

    def __perform__(self, _frame: Any) -> Never:  # pyright: ignore[reportIncompatibleVariableOverride] - in place of None
        raise self.error
