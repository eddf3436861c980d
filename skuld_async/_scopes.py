"""Scopes: effect class to handler, where an inner scope shadows the outer ones."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from ._effect import Effect, Return
from ._errors import DeclarationError
from ._handler import Handler, Lifetime, is_async

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Sequence

    from ._handler import Cell

# How the pump serves what was requested; integers, because it compares them at each request.
SYNC, ASYNC, SYNC_FRAMED, ASYNC_FRAMED, CALL, RETURN, ALIEN, CLOSED = range(8)


class Route(msgspec.Struct, frozen=True, eq=False):
    """Where requests of one class go: a function of the effect (where framed, of its frame too) and how to call it."""

    mode: int
    function: Callable[..., Any] = lambda *_: None
    scope: Scope | Within | None = None
    """What the handler's own requests see: the scope where it was installed, without itself."""
    below: Route | None = None
    """The handler's own route, where interceptors stand around it: what a replay performs again."""

    @property
    def is_async(self) -> bool:
        return self.mode in (ASYNC, ASYNC_FRAMED)

    @property
    def is_framed(self) -> bool:
        return self.mode in (SYNC_FRAMED, ASYNC_FRAMED)


_CALL, _RETURN, _ALIEN = Route(CALL), Route(RETURN), Route(ALIEN)


class Table(dict[type, Route]):
    """The routes as one scope sees them, found once for each class."""

    __slots__ = ("bind", "closed", "scope")

    closed: Table
    """The routes of a body here that has returned; made when it first does."""

    def __init__(self, scope: Scope, bind: Callable[[type[Effect[Any]], Scope], Route]) -> None:
        self.scope = scope
        self.bind = bind

    def __getattr__(self, name: str) -> Table:
        if name != "closed":
            raise AttributeError(name)
        self.closed = closed = _Closed(self.scope, self.bind)
        return closed

    def __missing__(self, kind: type[Any]) -> Route:
        # _computation imports this file, so computations are recognised by their mark.
        if issubclass(kind, Effect):
            route = self.bind(kind, self.scope)  # pyright: ignore[reportUnknownArgumentType] - of whatever answer
        elif getattr(kind, "__is_computation__", False):
            route = _CALL
        else:
            route = _RETURN if kind is Return else _ALIEN
        self[kind] = route
        return route


class _Closed(Table):
    """What a body that has returned may request: nothing, while the event loop's traps still pass."""

    __slots__ = ()

    def __init__(self, scope: Scope, bind: Callable[[type[Effect[Any]], Scope], Route]) -> None:
        super().__init__(scope, bind)
        self.closed = self

    def __missing__(self, kind: type[Any]) -> Route:
        route = super().__missing__(kind)
        self[kind] = route = _ALIEN if route is _ALIEN else Route(CLOSED)
        return route


def _closed_bind(kind: type[Effect[Any]], _scope: Scope) -> Route:
    message = f"the scope of {kind.__qualname__} was left"
    raise RuntimeError(message)


class Scope:
    """The handlers installed at one place, and the scope around it."""

    __slots__ = (
        "cells",
        "hidden",
        "labels",
        "makers",
        "origin",
        "parent",
        "path",
        "routes",
        "table",
        "transient",
        "views",
    )

    def __init__(
        self,
        parent: Scope | None,
        path: str,
        bind: Callable[[type[Effect[Any]], Scope], Route],
        origin: Scope | None = None,
    ) -> None:
        self.parent = parent
        self.path = path
        self.routes: dict[type[Effect[Any]], Route] = {}
        self.labels: list[str] = [] if origin is None else origin.labels
        self.cells: dict[str, Cell[Any]] = {}
        self.makers: dict[type[Effect[Any]], Handler] = {}
        """The handlers with state of their own, of which each strand has a copy."""
        self.origin = origin
        """What this is a fork of."""
        self.transient: list[str] = [] if origin is None else origin.transient
        """Labels of the handlers here that do not survive a suspension."""
        self.hidden: type[Effect[Any]] | None = None if origin is None else origin.hidden
        """What is not handled here, but further outwards: it is the handler's own requests that are looked up."""
        self.views: tuple[Scope, ...] = ()
        """This scope as its own handlers see it."""
        self.table = Table(self, bind)

    async def install(self, handler: Handler, stack: AsyncExitStack) -> None:
        """Install *handler* here; a later one shadows an earlier one for the same effect."""
        if not isinstance(handler, Handler):  # pyright: ignore[reportUnnecessaryIsInstance] - not everybody has a type checker
            raise DeclarationError(f"{handler!r:.80}", "this is no handler", _instead(handler))
        if isinstance(handler, Lifetime):
            if not handler.spans_suspension:
                self.transient.append(handler.label)
            made = await stack.enter_async_context(handler.factory())
            for inner in (made,) if isinstance(made, Handler) else made:
                await self.install(inner, stack)
            return
        self._put(handler)
        self.labels.append(handler.label)

    def _put(self, handler: Handler) -> None:
        installed = handler.install()
        for effect, function in installed.routes.items():
            # A sync handler requests nothing.
            route = Route(ASYNC, function, Within(self, effect)) if is_async(function) else Route(SYNC, function, self)
            self.routes[effect] = route
            if any(not cell.shared for cell in installed.cells):
                self.makers[effect] = handler
            else:
                self.makers.pop(effect, None)
        for cell in installed.cells:
            self.cells[cell.name] = cell

    # -- forks -------------------------------------------------------------------------------------------------------

    def fork(self, bind: Callable[[type[Effect[Any]], Scope], Route]) -> Scope:
        """This scope as another strand sees it: the same handlers, with copies of their state.

        A copy is made when its handler is first looked up: whoever has opened the strand is stopped until then.
        """
        parent = None if self.parent is None else self.parent.fork(bind)
        return Scope(parent, self.path, bind, self)

    def route(self, kind: type[Effect[Any]]) -> Route | None:
        """The route for exactly *kind* here."""
        route = self.routes.get(kind)
        if route is None and self.origin is not None:
            route = self.origin.route(kind)
            if route is not None:
                self._copy(kind, route, self.origin)
                route = self.routes[kind]
        return route

    def _copy(self, kind: type[Effect[Any]], route: Route, origin: Scope) -> None:
        maker = origin.makers.get(kind)
        if maker is None:
            self.routes[kind] = Route(route.mode, route.function, Within(self, kind) if route.is_async else self)
            return
        fresh = maker.install()
        for cell in fresh.cells:
            if cell.name not in self.cells and not cell.shared:
                cell.fork(origin.cells[cell.name])
                self.cells[cell.name] = cell
        for effect, function in fresh.routes.items():
            if origin.makers.get(effect) is maker:
                made = origin.routes[effect]
                self.routes[effect] = Route(made.mode, function, Within(self, effect) if made.is_async else self)
                self.makers[effect] = maker

    def whole(self) -> Scope:
        """This scope with the copies of all its handlers made."""
        if self.origin is not None:
            for kind in self.origin.whole().routes:
                self.route(kind)
            for name, cell in self.origin.cells.items():
                self.cells.setdefault(name, cell)  # one that strands share
        return self

    def merge(self, *, adopt: bool) -> None:
        """Take the changes of this fork over into what it is a fork of.

        Args:
            adopt: Take over all state; else only what is gathered: notes and events.
        """
        for scope in self.outwards():
            for name, cell in scope.cells.items():
                if scope.origin is not None and not cell.shared:
                    cell.merge_into(scope.origin.cells[name], adopt=adopt)

    def close(self) -> None:
        """Let go of the handlers and of the chain, which would keep a whole session alive; the cells stay readable."""
        for table in (table for scope in (self, *self.views) for table in (scope.table, scope.table.closed)):
            table.clear()
            table.bind = _closed_bind
        self.routes.clear()

    def find(self, kind: type[Effect[Any]]) -> Route | None:
        """The nearest route for *kind*: scope by scope, the closest base class first."""
        for scope in self.outwards():
            for base in kind.__mro__:
                route = scope.route(base)
                if route is not None and base is not scope.hidden:
                    return route
        return None

    def outwards(self) -> Iterator[Scope]:
        """This scope, then the ones around it."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent

    def all_cells(self) -> Iterator[tuple[str, Cell[Any]]]:
        """Each cell that is in scope here, with a key that is unique in the run."""
        for scope in self.outwards():
            for name, cell in scope.whole().cells.items():
                yield f"{scope.path}{name}", cell


def _instead(given: Any) -> str:
    """What to write in the place of something that is no handler."""
    if isinstance(given, (list, tuple)):
        return "unpack it: start(comp, *handlers)"
    for method, call in (("default", ".default() or .always(answer)"), ("handler", ".handler(...)")):
        if hasattr(given, method):
            name = getattr(given, "label", None) or getattr(given, "__name__", "")
            return f"it has handlers: {name}{call}"
    return "give what .handler(...), .handled_by(function), .always(answer) or lifetime(factory) makes"


class Within:
    """A scope as its own handler of one effect class sees it; looked at only where that handler requests something."""

    __slots__ = ("_effect", "_scope", "_table")

    def __init__(self, scope: Scope, effect: type[Effect[Any]]) -> None:
        self._scope = scope
        self._effect = effect
        self._table: Table | None = None

    @property
    def path(self) -> str:
        """The scope's."""
        return self._scope.path

    @property
    def table(self) -> Table:
        """The routes that the handler sees."""
        if self._table is None:
            whole = self._scope.whole()
            view = Scope(whole.parent, whole.path, whole.table.bind)
            view.hidden = self._effect
            view.routes, view.labels = whole.routes, whole.labels
            view.cells, view.transient, view.makers = whole.cells, whole.transient, whole.makers
            whole.views = (*whole.views, view)
            self._table = view.table
        return self._table


@asynccontextmanager
async def open_scope(
    parent: Scope | None,
    handlers: Sequence[Handler],
    path: str,
    bind: Callable[[type[Effect[Any]], Scope], Route],
) -> AsyncGenerator[Scope]:
    """A scope with *handlers* installed; their lifetimes end with it."""
    scope = Scope(parent, path, bind)
    try:
        async with AsyncExitStack() as stack:
            for handler in handlers:
                await scope.install(handler, stack)
            yield scope
    finally:
        scope.close()
