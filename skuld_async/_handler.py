"""Handlers: recipes that a scope installs, and the cells that hold their state."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from types import CoroutineType
from typing import TYPE_CHECKING, Any, ClassVar, Generic

import msgspec
from typing_extensions import TypeForm, TypeVar, override

from ._declared import Declared, Misfit, declare, describe
from ._errors import DeclarationError
from ._misuse import UnawaitedAnswerError
from ._signals import Fault

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager


T = TypeVar("T")


class Cell(Generic[T]):
    """State of one installed handler: belongs to its scope, is stored by marks and given back by a cold resume.

    Args:
        name: Its label: what outcomes and marks know it by.
        kind: Type of the value.
        value: The first value.
    """

    __slots__ = ("declared", "name", "value")

    shared: ClassVar[bool] = False
    """Whether strands share it on purpose; else each has its own copy."""

    def __init__(self, name: str, kind: TypeForm[T], value: T) -> None:
        self.name: str = name
        self.declared: Declared[T] = declare(kind, name)
        self.value: T = value

    def fork(self, origin: Cell[T]) -> None:
        """Start as a copy of *origin*."""
        self.value = copy.deepcopy(origin.value)

    def merge_into(self, origin: Cell[T], *, adopt: bool) -> None:
        """Take the changes of this copy over into *origin*: all or none."""
        if adopt:
            origin.value = self.value


class Gathered(Cell[list[T]]):
    """A list of what was told or emitted, which grows at its end."""

    __slots__ = ("_start",)

    _start: int

    @property
    def news(self) -> list[T]:
        """What was gathered since the fork."""
        return self.value[self._start :]

    @override
    def fork(self, origin: Cell[list[T]]) -> None:
        self.value = list(origin.value)
        self._start = len(self.value)

    @override
    def merge_into(self, origin: Cell[list[T]], *, adopt: bool) -> None:
        """Add what was gathered since the fork."""
        origin.value += self.news


class Installed(msgspec.Struct, frozen=True):
    """A handler in its scope: a function for each effect class, and the cells they use."""

    routes: Mapping[Any, Callable[..., Any]]
    cells: Sequence[Cell[Any]] = ()


class Handler:
    """A recipe that answers one family of effects; each scope installs its own.

    Most handlers come from `Effect.handled_by`. One with state per run derives from this class.

    Attributes:
        label: The handler's name in messages, for example ``State[cart]``.
    """

    label: str = "handler"

    def install(self) -> Installed:
        """Make the functions and cells for one scope."""
        raise NotImplementedError


class CellHandler(Handler):
    """Answers *effects* by one cell, whose first value is checked where it is given."""

    def __init__(self, label: str, declared: Declared[Any], effects: tuple[Any, ...], initial: Any) -> None:
        self.label = label
        self._declared = declared
        self._effects = effects
        try:
            self._initial, _ = declared.admit(initial)
        except Misfit as error:
            problem = f"its first value does not fit the declared type ({error})"
            raise DeclarationError(label, problem, f"give a value of the type {describe(declared.type)}") from None


class FunctionHandler(Handler):
    """Answers an effect class, and its subclasses, by a function of the effect, or of what *call* takes of it."""

    def __init__(
        self, effect: Any, function: Callable[..., Any], label: str, call: Callable[[Any], Any] | None = None
    ) -> None:
        self.effect = effect
        self.function = function
        self.label = label
        self.call = call

    def install(self) -> Installed:
        return Installed({self.effect: answering(self.function, self.label, self.call)})


class Lifetime(Handler):
    """Handlers that live inside an async context manager of their scope; made by `lifetime`."""

    def __init__(
        self, factory: Callable[[], AbstractAsyncContextManager[Handler | Sequence[Handler]]], *, spans_suspension: bool
    ) -> None:
        self.factory = factory
        self.spans_suspension = spans_suspension
        self.label = getattr(factory, "__qualname__", "lifetime")


def lifetime(
    factory: Callable[[], AbstractAsyncContextManager[Handler | Sequence[Handler]]], /, *, spans_suspension: bool = True
) -> Handler:
    """Handlers with a lifetime: entered when their scope is, left on every way out.

    Args:
        factory: Makes a fresh async context manager, which gives one handler or several.
        spans_suspension: False for what does not survive a suspension, such as an open transaction: a question asked
            inside its scope is refused at that line.

    Gotchas:
        A cold suspension leaves the scope too, and the resume enters a fresh one. A host cancel or a crash may come at
        any call inside: what was performed there is not performed again, although the resource was rolled back. So make
        the whole transaction one effect.
    """
    return Lifetime(factory, spans_suspension=spans_suspension)


def is_async(function: Any) -> bool:
    """Whether *function* is an async one: settled once, when the scope is built."""
    function = _unwrapped(function)
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def answering(function: Callable[..., Any], label: str, call: Callable[[Any], Any] | None = None) -> Callable[..., Any]:
    """What a scope installs for *function*: sync, async, or a computation, which is requested from the handler's frame.

    Args:
        function: The user's function.
        label: The handler's name in messages.
        call: Calls *function* with what it takes of an effect; if None, it takes the effect itself.
    """
    own = call or function
    if is_async(function) and call is None:
        return function
    if is_async(function) or getattr(_unwrapped(function), "__is_definition__", False):

        async def call_async(effect: Any) -> Any:
            return await own(effect)

        return call_async

    def call_sync(effect: Any) -> Any:
        answer = own(effect)
        if isinstance(answer, CoroutineType):
            answer.close()
            raise Fault(UnawaitedAnswerError(label))
        if hasattr(answer, "__is_computation__"):
            raise Fault(UnawaitedAnswerError(label))
        return answer

    return call_sync


def _unwrapped(function: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    return function
