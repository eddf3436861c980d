"""Yield: a question to the outside. The run stops here until it has its answer."""

from __future__ import annotations

import copy
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
from typing_extensions import TypeVar

from skuld_async._effect import Effect, Kind
from skuld_async._errors import DeclarationError

if TYPE_CHECKING:
    from typing import Self

    from skuld_async._clock import TimedOut

T_co = TypeVar("T_co", covariant=True)


class Yield(Effect[T_co], frozen=True, dict=True):
    """Base of questions: the fields are the question, ``T`` is the type of its answer.

        class ApprovalNeeded(Yield[Literal["approved", "rejected"]], frozen=True):
            purchase: Purchase

    Under a log the run suspends here. In a test, ``ApprovalNeeded.always("approved")`` is a handler that answers.
    """

    __kind__ = Kind.CONTROL

    def named(self, name: str) -> Self:
        """The same question with a name, by which its wait can be found."""
        return self._with("_wait_name", name)

    def assigned_to(self, who: str) -> Self:
        """The same question with somebody who is to answer it, by whom an inbox finds it; anybody may."""
        return self._with("_wait_assignee", who)

    def within(self, after: timedelta) -> Effect[T_co | TimedOut]:
        """The same question with a time: `TimedOut` is the answer where none has come when *after* has passed.

        The moment is fixed when the question is asked, and kept in the log. An answer that comes later is refused.
        """
        if not isinstance(after, timedelta):  # pyright: ignore[reportUnnecessaryIsInstance] - not everybody has a type checker
            raise DeclarationError(f"question.within({after!r:.40})", "this is no time span", "give a timedelta")
        question: Any = self._with("_wait_within", after)
        effect: Effect[T_co | TimedOut] = question
        return effect

    def _with(self, option: str, value: Any) -> Self:
        """The same question with an option, kept beside the fields: it is one of the wait, no part of the question."""
        question = copy.copy(self)
        for name, kept in vars(self).items():  # the copy has the fields only
            msgspec.structs.force_setattr(question, name, kept)
        msgspec.structs.force_setattr(question, option, value)
        return question

    @staticmethod
    def of(value: Any) -> Untyped:
        """A question without a declared answer: *value* is the question, any JSON value answers it."""
        return Untyped(value)


class Untyped(Yield[Any], frozen=True):
    """What `Yield.of` makes."""

    __sig__ = "Yield.of"
    value: Any


def within_of(question: Yield[Any]) -> timedelta | None:
    """The time that `Yield.within` gave, or None."""
    after: timedelta | None = getattr(question, "_wait_within", None)
    return after


def assignee_of(question: Yield[Any]) -> str | None:
    """Whom `Yield.assigned_to` named, or None."""
    who: str | None = getattr(question, "_wait_assignee", None)
    return who


def name_of(question: Yield[Any]) -> str | None:
    """The name that `Yield.named` gave, or None."""
    name: str | None = getattr(question, "_wait_name", None)
    return name
