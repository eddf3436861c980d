"""State: a typed cell that a computation reads and writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Generic

from typing_extensions import TypeForm, TypeVar

from skuld_async._declared import Declared, declare
from skuld_async._effect import Effect, Kind, define_effect
from skuld_async._handler import Cell, CellHandler, Handler, Installed

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class StateEffect(Effect[T_co], frozen=True):
    """Family of `State.get`, `State.put` and `State.modify`."""

    __kind__ = Kind.LOCAL


class State(Generic[T]):
    """A key for one cell: ``cart = State("cart", Cart)``, declared once and imported.

    Args:
        name: Unique among the State keys of a program; part of the log.
        kind: Type of the value.

    Gotchas:
        A value that is changed in place is changed without a log entry; `put` what you changed.
    """

    __family__: ClassVar[type[Effect[Any]]] = StateEffect
    """What ``effects=[State]`` selects."""

    def __init__(self, name: str, kind: TypeForm[T]) -> None:
        self.name = name
        self.label: str = f"State[{name}]"
        self._declared: Declared[T] = declare(kind, self.label)
        make = define_effect
        self._get = make(StateEffect, f"{self.label}.get", answer=kind)
        self._put = make(StateEffect, f"{self.label}.put", [("value", kind)], answer=None)
        self._modify = make(StateEffect, f"{self.label}.modify", [("change", Any)], answer=kind, opaque=True)
        self._get_effect: Effect[T] = self._get()

    def get(self) -> Effect[T]:
        """The value."""
        return self._get_effect

    def put(self, value: T) -> Effect[None]:
        """Replace the value."""
        effect: Effect[None] = self._put(value)
        return effect

    def modify(self, change: Callable[[T], T]) -> Effect[T]:
        """Replace the value by ``change(value)``; the answer, and what the log holds, is the new value.

        Gotchas:
            *change* runs again on replay: it must be a pure function.
        """
        effect: Effect[T] = self._modify(change)
        return effect

    def handler(self, initial: T) -> Handler:
        """A scope for the cell, with its first value; each run starts from its own copy."""
        return _StateHandler(self.label, self._declared, (self._get, self._put, self._modify), initial)


class _StateHandler(CellHandler):
    def install(self) -> Installed:
        cell: Cell[Any] = Cell(self.label, self._declared.type, self._declared.decode(self._initial))

        def get(_effect: Any) -> Any:
            return cell.value

        def put(effect: Any) -> None:
            cell.value = effect.value

        def modify(effect: Any) -> Any:
            cell.value = effect.change(cell.value)
            return cell.value

        return Installed(dict(zip(self._effects, (get, put, modify), strict=True)), [cell])
