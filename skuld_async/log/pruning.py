"""Pruned branches: what is left of them is what they returned and told, in the entry of the concurrent effect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, Raw

from skuld_async._branch import Requested
from skuld_async._declared import Declared, Misfit
from skuld_async._errors import UndecodableError
from skuld_async._signals import Fault

from .entry import StrandsData
from .folding import is_needed, shared_in
from .identity import declared_result, root_call

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skuld_async._branch import Branch
    from skuld_async._computation import Computation
    from skuld_async._handler import Cell
    from skuld_async._scopes import Scope

    from .book import Book
    from .entry import Entry


def prune(entry: Entry, returned: Sequence[Branch], book: Book) -> bool:
    """Let *entry* hold what *returned* have left behind, and remove their entries.

    Returns:
        Whether that was done: of a bracket the type is not known, and a result may be none that a log can hold.
    """
    told: dict[str, tuple[Cell[Any], list[Any]]] = {}
    values: dict[str, Raw] = {}
    try:
        for branch in returned:
            data, branch.value = _declared(branch.computation).admit(branch.value)
            values[branch.name] = Raw(data)
            for scope in branch.scope.outwards():
                for name, cell in scope.cells.items():
                    for gathered in _gathered(cell):
                        told.setdefault(f"{scope.path}{name}", (cell, []))[1].append(gathered)
        held = {key: Raw(cell.declared.encode(news)) for key, (cell, news) in told.items()}
    except Misfit:
        return False
    known = StrandsData() if entry.strands is UNSET else entry.strands
    entry.strands = msgspec.structs.replace(known, values=values, told=held)
    shared = shared_in(returned[0].scope) if returned else {}
    book.clear(entry, keep=lambda one: is_needed(one, book, shared))
    return True


def _gathered(cell: Cell[Any]) -> list[Any]:
    news: list[Any] = getattr(cell, "news", [])
    return news


def restore(entry: Entry, branches: Sequence[Branch], scope: Scope) -> None:
    """Give *branches* the values that *entry* holds, and *scope* what they told."""
    values = StrandsData() if entry.strands is UNSET else entry.strands
    for branch in branches:
        if values.values is not UNSET and branch.name in values.values:
            try:
                branch.value = _declared(branch.computation).decode(values.values[branch.name])
            except Misfit as error:
                raise Fault(UndecodableError(branch.computation.name, entry.id, str(error))) from None
            branch.has_returned = True
    restore_told(entry, scope)


def restore_told(entry: Entry, scope: Scope) -> None:
    """Add what the pruned branches of *entry* told."""
    told = {} if entry.strands is UNSET else entry.strands.told
    for key, cell in scope.all_cells() if told else ():
        if key in told:
            try:
                cell.value += cell.declared.decode(told[key])
            except Misfit as error:
                raise Fault(UndecodableError(cell.name, entry.id, str(error))) from None


def _declared(comp: Computation[Any]) -> Declared[Any]:
    if isinstance(comp, Requested):
        return type(comp.request).__answer__
    if root_call(comp) is None:
        problem = "its type is not known"
        raise Misfit(problem)
    return declared_result(comp)
