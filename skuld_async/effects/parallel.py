"""Parallel: computations and effects side by side, each a strand of its own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, overload

import msgspec
from typing_extensions import TypeVar, override

from skuld_async._branch import Branch, branch_of, name_in_log
from skuld_async._branches import Team
from skuld_async._computation import Computation, Wrapped
from skuld_async._effect import Effect
from skuld_async._errors import DeclarationError
from skuld_async._hop import hop
from skuld_async._opening import Opening

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from skuld_async._frames import Frame

S = TypeVar("S")
T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
T5 = TypeVar("T5")
T6 = TypeVar("T6")
T_co = TypeVar("T_co", covariant=True)

Request: TypeAlias = Computation[T] | Effect[T]


class Won(msgspec.Struct, Generic[T_co], frozen=True):
    """Who has won a race."""

    name: str
    """As it was given to `Parallel.race`."""
    value: T_co
    """What it returned."""


class OpenAll(Opening, frozen=True):
    """Effect with which `Parallel.all` opens its branches."""

    __sig__ = "Parallel.all"
    __label__ = "Parallel.all"
    branches: list[str]
    settle: bool


class OpenMap(Opening, frozen=True):
    """Effect with which `Parallel.map` opens its branches."""

    __sig__ = "Parallel.map"
    __label__ = "Parallel.map"
    computation: str
    items: int
    settle: bool


class OpenRace(Opening, frozen=True):
    """Effect with which `Parallel.race` opens its branches."""

    __sig__ = "Parallel.race"
    __label__ = "Parallel.race"
    branches: dict[str, str]


class _All(Wrapped[T_co], frozen=True, eq=False):
    opening: Opening
    branches: tuple[Branch, ...]
    limit: float
    settle: bool
    give: Callable[[list[Any]], T_co]

    @property
    def name(self) -> str:
        return self.opening.__sig__

    @override
    async def enter(self, frame: Frame) -> T_co:
        team: Team = await hop(self.opening)
        branches = [Branch(branch.name, branch.computation) for branch in self.branches]  # a recipe may run again
        await team.run(branches, limit=self.limit, settle=self.settle)
        return self.give([branch.value if branch.error is None else branch.error for branch in branches])


class _Race(Wrapped[Won[T_co]], frozen=True, eq=False):
    opening: OpenRace
    branches: tuple[Branch, ...]

    @property
    def name(self) -> str:
        return self.opening.__sig__

    @override
    async def enter(self, frame: Frame) -> Won[T_co]:
        team: Team = await hop(self.opening)
        branches = [Branch(branch.name, branch.computation) for branch in self.branches]
        await team.run(branches, limit=math.inf, first=True)
        assert team.won is not None
        return Won(team.won.name, team.won.value)


class Parallel:
    """Concurrency that is replayed exactly: what runs side by side has its own place in the log, whoever is faster.

    What is given is computations (``fetch(order)``) or effects (``Bank.balance(account)``, a question). Each is a
    branch. An error in a branch stops the others, whose brackets and `ensure` still do their cleanup, and arrives at
    the ``yield``: itself, or an `ExceptionGroup` where there are several.

    Gotchas:
        A branch sees State as it was when it was opened, and what it puts is gone with it: let it return what matters,
        or share an `AtomicState`. What it tells a `Writer` or emits is added when all have ended, in the order of the
        branches; that of a branch that failed or lost is not.
    """

    @overload
    @staticmethod
    def all(a: Request[T1], /, *, settle: Literal[False] = False) -> Computation[tuple[T1]]: ...
    @overload
    @staticmethod
    def all(a: Request[T1], b: Request[T2], /, *, settle: Literal[False] = False) -> Computation[tuple[T1, T2]]: ...
    @overload
    @staticmethod
    def all(
        a: Request[T1], b: Request[T2], c: Request[T3], /, *, settle: Literal[False] = False
    ) -> Computation[tuple[T1, T2, T3]]: ...
    @overload
    @staticmethod
    def all(
        a: Request[T1], b: Request[T2], c: Request[T3], d: Request[T4], /, *, settle: Literal[False] = False
    ) -> Computation[tuple[T1, T2, T3, T4]]: ...
    @overload
    @staticmethod
    def all(
        a: Request[T1],
        b: Request[T2],
        c: Request[T3],
        d: Request[T4],
        e: Request[T5],
        /,
        *,
        settle: Literal[False] = False,
    ) -> Computation[tuple[T1, T2, T3, T4, T5]]: ...
    @overload
    @staticmethod
    def all(
        a: Request[T1],
        b: Request[T2],
        c: Request[T3],
        d: Request[T4],
        e: Request[T5],
        f: Request[T6],
        /,
        *,
        settle: Literal[False] = False,
    ) -> Computation[tuple[T1, T2, T3, T4, T5, T6]]: ...
    @overload
    @staticmethod
    def all(*branches: Request[T], settle: Literal[False] = False) -> Computation[tuple[T, ...]]: ...
    @overload
    @staticmethod
    def all(a: Request[T1], /, *, settle: Literal[True]) -> Computation[tuple[T1 | Exception]]: ...
    @overload
    @staticmethod
    def all(
        a: Request[T1], b: Request[T2], /, *, settle: Literal[True]
    ) -> Computation[tuple[T1 | Exception, T2 | Exception]]: ...
    @overload
    @staticmethod
    def all(
        a: Request[T1], b: Request[T2], c: Request[T3], /, *, settle: Literal[True]
    ) -> Computation[tuple[T1 | Exception, T2 | Exception, T3 | Exception]]: ...
    @overload
    @staticmethod
    def all(
        a: Request[T1], b: Request[T2], c: Request[T3], d: Request[T4], /, *, settle: Literal[True]
    ) -> Computation[tuple[T1 | Exception, T2 | Exception, T3 | Exception, T4 | Exception]]: ...
    @overload
    @staticmethod
    def all(
        a: Request[T1], b: Request[T2], c: Request[T3], d: Request[T4], e: Request[T5], /, *, settle: Literal[True]
    ) -> Computation[tuple[T1 | Exception, T2 | Exception, T3 | Exception, T4 | Exception, T5 | Exception]]: ...
    @overload
    @staticmethod
    def all(
        a: Request[T1],
        b: Request[T2],
        c: Request[T3],
        d: Request[T4],
        e: Request[T5],
        f: Request[T6],
        /,
        *,
        settle: Literal[True],
    ) -> Computation[
        tuple[T1 | Exception, T2 | Exception, T3 | Exception, T4 | Exception, T5 | Exception, T6 | Exception]
    ]: ...
    @overload
    @staticmethod
    def all(*branches: Request[T], settle: bool) -> Computation[tuple[T | Exception, ...]]: ...
    @staticmethod
    def all(*branches: Any, settle: bool = False) -> Computation[Any]:
        """Run *branches* side by side; their results, in their order.

        Args:
            branches: Computations and effects.
            settle: Errors stop nothing: each stands in the place of its branch's result.

        Raises:
            DeclarationError: Something else was given.
        """
        made = tuple(branch_of(f"{number}", one, "Parallel.all") for number, one in enumerate(branches, 1))
        opening = OpenAll([name_in_log(branch.computation) for branch in made], settle)
        return _All(opening, made, math.inf, settle, tuple)

    @overload
    @staticmethod
    def map(
        function: Callable[[S], Request[T]],
        items: Iterable[S],
        *,
        limit: int | None = None,
        settle: Literal[False] = False,
    ) -> Computation[list[T]]: ...
    @overload
    @staticmethod
    def map(
        function: Callable[[S], Request[T]], items: Iterable[S], *, limit: int | None = None, settle: bool
    ) -> Computation[list[T | Exception]]: ...
    @staticmethod
    def map(
        function: Callable[[Any], Any], items: Iterable[Any], *, limit: int | None = None, settle: bool = False
    ) -> Computation[Any]:
        """Run ``function(item)`` for each of *items* side by side; the results, in the order of *items*.

        Args:
            function: Gives a computation or an effect; called for all items at once, in their order.
            items: What it is called with; must have a stable order, which a set has not.
            limit: How many run at the same time, at least 1; None for all. One that waits for an answer is one of them.
            settle: Errors stop nothing: each stands in the place of its item's result.

        Raises:
            DeclarationError: The function gives something else, or the limit is below 1.
        """
        if limit is not None and limit < 1:
            raise DeclarationError(
                "Parallel.map", f"limit={limit} lets nothing run", "give at least 1, or leave it out"
            )
        made = tuple(branch_of(f"{number}", function(item), "Parallel.map") for number, item in enumerate(items, 1))
        opening = OpenMap(name_in_log(made[0].computation) if made else "", len(made), settle)
        return _All(opening, made, limit or math.inf, settle, list)

    @staticmethod
    def race(**branches: Request[T]) -> Computation[Won[T]]:
        """Run *branches* side by side until one returns; the others are stopped and do their cleanup.

            won = yield Parallel.race(decided=ManagerDecision(order), expired=Clock.sleep(timedelta(days=3)))

        Args:
            branches: Computations and effects, by name.

        Raises:
            DeclarationError: Nothing or something else was given.

        Gotchas:
            What the losers did outside stays done. An error is no win: it stops the others and arrives here.
        """
        if not branches:
            raise DeclarationError("Parallel.race()", "nobody runs", "name the branches: race(a=first(), b=second())")
        for name in branches:
            if set(name) & set("@#/~."):
                raise DeclarationError(f"Parallel.race({name})", "names cannot hold @ # / ~ .", "use an identifier")
        made = tuple(branch_of(name, one, "Parallel.race") for name, one in branches.items())
        opening = OpenRace({branch.name: name_in_log(branch.computation) for branch in made})
        race: _Race[T] = _Race(opening, made)
        return race
