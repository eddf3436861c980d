"""Reader: a value from the surroundings: configuration, the current user, a client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Generic

from typing_extensions import TypeForm, TypeVar

from skuld_async._computation import Computation, computation
from skuld_async._effect import Effect, Kind, Return, define_effect

if TYPE_CHECKING:
    from collections.abc import Callable

    from skuld_async._computation import Effectful
    from skuld_async._handler import Handler

T = TypeVar("T")
R = TypeVar("R")
T_co = TypeVar("T_co", covariant=True)


class ReaderEffect(Effect[T_co], frozen=True):
    """Family of `Reader.ask`."""

    __kind__ = Kind.RECORDED


class UnloggedReaderEffect(Effect[T_co], frozen=True):
    """Family of `Reader.ask` where ``logged=False``."""

    __kind__ = Kind.UNLOGGED


class Reader(Generic[T]):
    """A key for one value: ``limits = Reader("limits", Limits)``.

    What was read is logged, so that a replay under another configuration takes the same path.

    Args:
        name: Unique among the Reader keys of a program; part of the log.
        kind: Type of the value.
        logged: False for clients and secrets: no entry, read live each time.
    """

    __family__: ClassVar[type[Effect[Any]]] = ReaderEffect
    """What ``effects=[Reader]`` selects."""

    def __init__(self, name: str, kind: TypeForm[T], *, logged: bool = True) -> None:
        self.name = name
        self.label: str = f"Reader[{name}]"
        family = ReaderEffect if logged else UnloggedReaderEffect
        self._ask = define_effect(family, f"{self.label}.ask", answer=kind if logged else Any)
        self._ask_effect: Effect[T] = self._ask()

    def ask(self) -> Effect[T]:
        """The value in scope."""
        return self._ask_effect

    def handler(self, value: T) -> Handler:
        """A scope in which the key reads *value*."""

        def answer(_effect: object) -> T:
            return value

        handler: Handler = self._ask.handled_by(answer)
        handler.label = self.label
        return handler

    def local(self, change: Callable[[T], T], comp: Computation[R]) -> Computation[R]:
        """*comp* in an inner scope where the key reads ``change(value)``."""
        return _local(self, change, comp)


@computation(name="skuld_async:Reader.local")
async def _local(key: Reader[Any], change: Callable[[Any], Any], comp: Computation[Any]) -> Effectful[Any]:
    value = yield key.ask()
    result = yield comp.handle(key.handler(change(value)))
    yield Return(result)
