"""Writer: notes that a computation makes on its way, to be heard, changed or collected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Generic

import msgspec
from typing_extensions import TypeForm, TypeVar, override

from skuld_async._computation import Around, Computation, Wrapped
from skuld_async._declared import Declared, declare
from skuld_async._effect import Effect, Kind, define_effect
from skuld_async._handler import Gathered, Handler, Installed
from skuld_async._hop import hop

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skuld_async._frames import Frame

R = TypeVar("R")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class WriterEffect(Effect[T_co], frozen=True):
    """Family of what a `Writer` asks of its handler."""

    __kind__ = Kind.LOCAL


class _Effects(msgspec.Struct, frozen=True):
    tell: type[Any]
    peek: type[Any]
    count: type[Any]
    since: type[Any]
    replace: type[Any]


class Writer(Generic[T]):
    """A key for a list of notes: ``notes = Writer("notes", str)``, declared once and imported.

    The caller reads the list with ``outcome.output(notes)``.

    Args:
        name: Unique among the Writer keys of a program; part of the log.
        kind: Type of one note; the members of a union are tagged structs.

    Gotchas:
        The log holds each note as it was told, whatever `censor` makes of it later.
    """

    __family__: ClassVar[type[Effect[Any]]] = WriterEffect
    """What ``effects=[Writer]`` selects."""

    def __init__(self, name: str, kind: TypeForm[T]) -> None:
        self.name = name
        self.label: str = f"Writer[{name}]"
        declare(kind, self.label)
        self.declared: Declared[list[T]] = Declared(list[kind], self.label)  # type: ignore[valid-type]
        notes: Any = self.declared.type
        make = define_effect
        self._effects = _Effects(
            make(WriterEffect, f"{self.label}.tell", [("note", kind)], answer=None),
            make(WriterEffect, f"{self.label}.peek", answer=notes),
            make(WriterEffect, f"{self.label}.count", answer=int),
            make(WriterEffect, f"{self.label}.since", [("start", int)], answer=notes),
            make(WriterEffect, f"{self.label}.replace", [("start", int), ("notes", notes)], answer=None),
        )

    def tell(self, note: T) -> Effect[None]:
        """Add *note* to the list."""
        effect: Effect[None] = self._effects.tell(note)
        return effect

    def peek(self) -> Effect[list[T]]:
        """What was told so far, oldest first."""
        effect: Effect[list[T]] = self._effects.peek()
        return effect

    def listen(self, comp: Computation[R]) -> Computation[tuple[R, list[T]]]:
        """*comp* with what it told: ``value, told = yield notes.listen(comp)``; it stays told."""
        return _Listen(self._effects, comp)

    def pass_(self, comp: Computation[tuple[R, Callable[[list[T]], Sequence[T]]]]) -> Computation[R]:
        """*comp*, which gives its value and a change; the change is made to what it told.

        Gotchas:
            The change runs again on replay: it must be a pure function. Where *comp* raises, what it told stays.
        """
        return _Pass(self._effects, comp)

    def censor(self, comp: Computation[R], change: Callable[[list[T]], Sequence[T]]) -> Computation[R]:
        """*comp*, with *change* made to what it told: at return, error and cancellation, never at a suspension.

        Gotchas:
            *change* runs again on replay: it must be a pure function. Where it raises, all that *comp* told is removed.
        """
        return _Censor(comp, self._effects, change)

    def handler(self) -> Handler:
        """A scope with an empty list."""
        return _WriterHandler(self.label, self.declared, self._effects)


class _Listen(Wrapped[tuple[R, list[Any]]], frozen=True, eq=False):
    effects: _Effects
    inner: Computation[R]

    @property
    def name(self) -> str:
        return "Writer.listen"

    @override
    async def enter(self, frame: Frame) -> tuple[R, list[Any]]:
        start: int = await hop(self.effects.count())
        value: R = await hop(self.inner)
        told: list[Any] = await hop(self.effects.since(start))
        return value, told


class _Pass(Wrapped[R], frozen=True, eq=False):
    effects: _Effects
    inner: Computation[tuple[R, Any]]

    @property
    def name(self) -> str:
        return "Writer.pass_"

    @override
    async def enter(self, frame: Frame) -> R:
        start: int = await hop(self.effects.count())
        answer: tuple[R, Any] = await hop(self.inner)
        value, change = answer
        await hop(_Change(self.effects, start, change))
        return value


class _Censor(Around[R], frozen=True, eq=False):
    effects: _Effects
    change: Any

    @override
    async def enter(self, frame: Frame) -> R:
        start: int = await hop(self.effects.count())
        value: R = await hop(self.inner.ensure(_Change(self.effects, start, self.change)))
        return value


class _Change(Wrapped[None], frozen=True, eq=False):
    effects: _Effects
    start: int
    change: Any

    @property
    def name(self) -> str:
        return "Writer.replace"

    @override
    async def enter(self, frame: Frame) -> None:
        told: list[Any] = await hop(self.effects.since(self.start))
        try:
            notes = list(self.change(told))
        except BaseException:
            await hop(self.effects.replace(self.start, []))
            raise
        await hop(self.effects.replace(self.start, notes))


class _WriterHandler(Handler):
    def __init__(self, label: str, declared: Declared[list[Any]], effects: _Effects) -> None:
        self.label = label
        self._declared = declared
        self._effects = effects

    def install(self) -> Installed:
        cell: Gathered[Any] = Gathered(self.label, self._declared.type, [])

        def tell(effect: Any) -> None:
            cell.value.append(effect.note)

        def peek(_effect: Any) -> list[Any]:
            return list(cell.value)

        def count(_effect: Any) -> int:
            return len(cell.value)

        def since(effect: Any) -> list[Any]:
            return cell.value[effect.start :]

        def replace(effect: Any) -> None:
            cell.value[effect.start :] = effect.notes

        effects = self._effects
        routes: dict[Any, Callable[..., Any]] = {
            effects.tell: tell,
            effects.peek: peek,
            effects.count: count,
            effects.since: since,
            effects.replace: replace,
        }
        return Installed(routes, [cell])
