"""AtomicState: a cell that strands share on purpose."""

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


class AtomicEffect(Effect[T_co], frozen=True):
    """Family of what an `AtomicState` asks of its handler; always logged."""

    __kind__ = Kind.CONTROL


class SharedCell(Cell[T]):
    """State that the strands of a run share."""

    __slots__ = ()

    shared: ClassVar[bool] = True


class AtomicState(Generic[T]):
    """A key for one cell that all branches and tasks share: ``stock = AtomicState("stock", int)``.

    Each effect is done at once, and none comes between its reading and its writing. What it answered is kept: a replay
    takes it from the log, and the value of the cell is what the last of them in the log made of it.

    Args:
        name: Unique among the AtomicState keys of a program; part of the log.
        kind: Type of the value.

    Gotchas:
        What a branch sees depends on who was faster, the first time; `State` never does. A transaction that is rolled
        back leaves it as it is. A value that is changed in place is changed without a log entry.
    """

    def __init__(self, name: str, kind: TypeForm[T]) -> None:
        self.name = name
        self.label: str = f"AtomicState[{name}]"
        self._declared: Declared[T] = declare(kind, self.label)
        make = define_effect
        self._get = make(AtomicEffect, f"{self.label}.get", answer=kind)
        self._put = make(AtomicEffect, f"{self.label}.put", [("value", kind)], answer=None)
        self._modify = make(AtomicEffect, f"{self.label}.modify", [("change", Any)], answer=kind, opaque=True)
        self._set = make(
            AtomicEffect, f"{self.label}.compare_and_set", [("expected", kind), ("value", kind)], answer=bool
        )

    def get(self) -> Effect[T]:
        """The value."""
        effect: Effect[T] = self._get()
        return effect

    def put(self, value: T) -> Effect[None]:
        """Replace the value."""
        effect: Effect[None] = self._put(value)
        return effect

    def modify(self, change: Callable[[T], T]) -> Effect[T]:
        """Replace the value by ``change(value)``; the answer is the new value. *change* is not run again on replay."""
        effect: Effect[T] = self._modify(change)
        return effect

    def compare_and_set(self, expected: T, value: T) -> Effect[bool]:
        """Replace the value if it equals *expected*; the answer is whether it did."""
        effect: Effect[bool] = self._set(expected, value)
        return effect

    def handler(self, initial: T) -> Handler:
        """A scope for the cell, with its first value; each run starts from its own copy."""
        return _AtomicHandler(self.label, self._declared, (self._get, self._put, self._modify, self._set), initial)


class _AtomicHandler(CellHandler):
    def install(self) -> Installed:
        cell: SharedCell[Any] = SharedCell(self.label, self._declared.type, self._declared.decode(self._initial))

        def get(_effect: Any) -> Any:
            return cell.value

        def put(effect: Any) -> None:
            cell.value = effect.value

        def modify(effect: Any) -> Any:
            _, cell.value = cell.declared.admit(effect.change(cell.value))
            return cell.value

        def compare_and_set(effect: Any) -> bool:
            if cell.value != effect.expected:
                return False
            cell.value = effect.value
            return True

        return Installed(dict(zip(self._effects, (get, put, modify, compare_and_set), strict=True)), [cell])
