"""EventAccumulator: what happened in a run, for its caller."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Generic

from typing_extensions import TypeForm, TypeVar

from skuld_async._declared import Declared, declare
from skuld_async._effect import Effect, Kind, define_effect
from skuld_async._handler import Gathered, Handler, Installed

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class EventEffect(Effect[T_co], frozen=True):
    """Family of `EventAccumulator.emit`."""

    __kind__ = Kind.LOCAL


class EventAccumulator(Generic[T]):
    """A key for a list of events: ``events = EventAccumulator("orders", Placed | Refused)``.

    The caller reads the list with ``outcome.output(events)``.

    Args:
        name: Unique among the accumulators of a program; part of the log.
        kind: Type of one event; the members of a union are tagged structs.
    """

    __family__: ClassVar[type[Effect[Any]]] = EventEffect
    """What ``effects=[EventAccumulator]`` selects."""

    def __init__(self, name: str, kind: TypeForm[T]) -> None:
        self.name = name
        self.label: str = f"EventAccumulator[{name}]"
        declare(kind, self.label)
        self.declared: Declared[list[T]] = Declared(list[kind], self.label)  # type: ignore[valid-type]
        self._emit = define_effect(EventEffect, f"{self.label}.emit", [("event", kind)], answer=None)

    def emit(self, event: T) -> Effect[None]:
        """Add *event* to the list."""
        effect: Effect[None] = self._emit(event)
        return effect

    def handler(self) -> Handler:
        """A scope with an empty list."""
        return _EventHandler(self.label, self.declared, self._emit)


class _EventHandler(Handler):
    def __init__(self, label: str, declared: Declared[list[Any]], emit: type[Any]) -> None:
        self.label = label
        self._declared = declared
        self._emit = emit

    def install(self) -> Installed:
        cell: Gathered[Any] = Gathered(self.label, self._declared.type, [])

        def emit(effect: Any) -> None:
            cell.value.append(effect.event)

        routes: dict[Any, Callable[..., Any]] = {self._emit: emit}
        return Installed(routes, [cell])
