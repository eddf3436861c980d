"""A branch: one of the computations that run side by side, each a strand of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
from typing_extensions import TypeVar

from ._computation import Computation, Definition, Wrapped
from ._context import current_strand
from ._effect import Effect, label_of
from ._errors import DeclarationError
from ._frames import strip
from ._hop import hop
from ._pump import drive
from ._signals import RunCancel

if TYPE_CHECKING:
    from ._frames import Frame
    from ._scopes import Scope
    from ._signals import Signal
    from ._strand import Strand

T_co = TypeVar("T_co", covariant=True)


class Branch:
    """One of the computations that run side by side."""

    __slots__ = ("computation", "error", "has_returned", "name", "scope", "strand", "value")

    def __init__(self, name: str, computation: Computation[Any]) -> None:
        self.name = name
        """Unique in its team, part of the ids of its entries."""
        self.computation = computation
        self.strand: Strand
        self.scope: Scope
        self.value: Any = None
        self.error: BaseException | None = None
        self.has_returned = False

    async def run(self, *, shielded: bool) -> None:
        """Run it in the current task, which becomes its strand's; raises but a cancellation from outside."""
        strand = self.strand
        strand.task = strand.current_task()
        token = current_strand.set(strand)
        try:
            if _goes_on(strand.sticky, shielded=shielded):
                with strand.crew.new_scope() as strand.body:
                    self.value = await drive(strand, self.computation, self.scope, shielded=shielded)
                    self.has_returned = _goes_on(strand.sticky, shielded=shielded)
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:  # for whoever waits for this branch
            self.error = strip(error)
        finally:  # what it leads to would keep a log alive
            current_strand.reset(token)
            strand.task = strand.body = None


def _goes_on(signal: Signal | None, *, shielded: bool) -> bool:
    """Whether a strand goes on that *signal* stops: a branch of cleanup is cleanup too."""
    return signal is None or (shielded and isinstance(signal, RunCancel))


class Requested(Wrapped[T_co], frozen=True, eq=False):
    """An effect as a computation."""

    request: Effect[T_co]

    @property
    def name(self) -> str:
        return label_of(type(self.request))

    async def enter(self, frame: Frame) -> T_co:  # noqa: ARG002
        value: T_co = await hop(self.request)
        return value


def name_in_log(comp: Computation[Any]) -> str:
    """The stable name of what a branch runs."""
    return type(comp.request).__sig__ if isinstance(comp, Requested) else comp.name


def branch_of(name: str, given: Any, verb: str) -> Branch:
    """The branch *name* of what *verb* was given; raises `DeclarationError` where it can be none."""
    if isinstance(given, Effect):
        return Branch(name, Requested(given))  # pyright: ignore[reportUnknownArgumentType] - of whatever answer
    if isinstance(given, Computation):
        return Branch(name, given)  # pyright: ignore[reportUnknownArgumentType] - of whatever result
    if isinstance(given, Definition):
        call: str = given.__wrapped__.__name__
        raise DeclarationError(f"{verb}({call})", "it is not called", f"give {call}(...), with its arguments")
    problem = "this is neither a computation nor an effect"
    way_out = "give fetch(order), fetch being a @computation, or Bank.balance(account); unpack a list: *branches"
    raise DeclarationError(f"{verb}({given!r:.60})", problem, way_out)
