"""Command: data that was decided elsewhere, executed by a handler that is found by its type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self

import msgspec
from typing_extensions import TypeVar

from skuld_async._effect import Effect, answer_form, define_effect, label_of
from skuld_async._handler import FunctionHandler
from skuld_async._retry import Retry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from skuld_async._handler import Handler

T_co = TypeVar("T_co", covariant=True, default=Any)


class CommandEffect(Effect[T_co], frozen=True):
    """Family of `Command.execute`: one class for each class of commands, derived from one another as those are."""

    __label__ = "Command"
    command: Any


class Command(msgspec.Struct, Generic[T_co], frozen=True):
    """Base of commands: the fields are the command, ``T`` is the type of its answer.

        class Ship(Command[Tracking], frozen=True, tag=True):
            order: int


        tracking = yield Ship(42).execute()

    A command is plain data, no effect: it may be stored, sent, or decoded from a union of commands.

    Class attributes that a subclass may set: ``__sig__`` (the stable name in logs, by default ``module:qualname``),
    ``__aliases__`` (names that old logs may hold), ``__raises__`` (errors that are answers), ``__retry__`` (how often
    it is tried) and ``__at_most_once__`` (it is never executed twice).

    Gotchas:
        Subclasses repeat ``frozen=True``. Fields are what the log compares on replay.
    """

    __sig__: ClassVar[str] = "skuld_async:Command"
    __aliases__: ClassVar[tuple[str, ...]] = ()
    __raises__: ClassVar[tuple[type[Exception], ...]] = ()
    __retry__: ClassVar[Retry | None] = None
    __at_most_once__: ClassVar[bool] = False
    __answer_form__: ClassVar[Any] = T_co  # type: ignore[misc]
    __effect__: ClassVar[type[CommandEffect[Any]]] = CommandEffect
    __yield_hint__: ClassVar[str] = "A command is data: write `yield command.execute()`."

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__sig__" not in cls.__dict__:
            cls.__sig__ = f"{cls.__module__}:{cls.__qualname__}"
        cls.__answer_form__ = answer_form(cls)
        cls.__effect__ = define_effect(
            tuple(base.__effect__ for base in cls.__bases__ if issubclass(base, Command)),
            label_of(cls),
            [("command", cls)],
            sig=cls.__sig__,
            answer=cls.__answer_form__,
            aliases=cls.__aliases__,
            raises=cls.__raises__,
            retry=cls.__retry__,
            at_most_once=cls.__at_most_once__,
        )

    def execute(self) -> Effect[T_co]:
        """The effect of executing this command; external: a replay answers it from the log."""
        return self.__effect__(self)

    @classmethod
    def handled_by(cls, function: Callable[[Self], Awaitable[T_co] | T_co], /) -> Handler:
        """A handler that executes this command, and its subclasses, by *function*: sync, async, or a computation.

        ``Command.handled_by(dispatch)`` takes all for which there is no other.
        """

        def call(effect: Any) -> Any:
            return function(effect.command)

        return FunctionHandler(cls.__effect__, function, label_of(cls.__effect__), call)

    @classmethod
    def always(cls, answer: T_co, /) -> Handler:  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
        """A handler that gives the same *answer* each time, for tests."""
        return cls.__effect__.always(answer)
