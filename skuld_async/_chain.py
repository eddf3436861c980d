"""The chain that each request passes: observers, the log, interceptors, the handler.

Built once for each effect class and scope, when the class is first requested there. The order cannot be got wrong:
observers stand outside and see replays too, interceptors stand between log and handler and see live calls only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from ._effect import Effect, Interceptor, Kind, Observation, Perform, label_of
from ._errors import UnhandledEffectError
from ._handler import is_async
from ._retrying import retrying
from ._scopes import ASYNC_FRAMED, SYNC_FRAMED, Route, Scope
from ._signals import Fault, Signal, Suspend

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ._effect import Request
    from ._frames import Frame


class Recorder(Protocol):
    """The log's place in the chain."""

    def bind(self, kind: type[Effect[Any]], live: Route | None) -> Route | None:
        """The route that logs *kind*; *live* performs it, None where nothing does."""


class Chain:
    """What stands between the pump and the handlers of a run."""

    def __init__(
        self,
        intercept: Sequence[Interceptor] = (),
        observe: Sequence[Callable[[Observation], None]] = (),
        recorder: Recorder | None = None,
    ) -> None:
        self.intercept = tuple(intercept)
        self.observe = tuple(observe)
        self.recorder = recorder

    def bind(self, kind: type[Effect[Any]], scope: Scope) -> Route:
        """The route for *kind* as requested in *scope*."""
        route = scope.find(kind)
        own = kind.__perform__
        if route is None and own is not None:
            root = list(scope.outwards())[-1]
            route = Route(ASYNC_FRAMED if is_async(own) else SYNC_FRAMED, own, root)
        if route is not None and self.intercept and kind.__kind__ is not Kind.CONTROL:
            route = intercepted(route, self.intercept)
        if self.recorder is not None:
            route = self.recorder.bind(kind, route)
        elif route is not None and kind.__retry__ is not None:
            route = retrying(route, caller(route), kind)
        if route is None:
            route = unhandled(kind, scope)
        return observed(route, self.observe) if self.observe else route


def caller(route: Route) -> Callable[[Effect[Any], Frame], Any]:
    """The route's function, framed."""
    function = route.function
    return function if route.is_framed else lambda effect, _frame: function(effect)


def intercepted(route: Route, interceptors: Sequence[Interceptor]) -> Route:
    """*route* behind *interceptors*, the first outermost."""
    call = caller(route)

    async def live(effect: Effect[Any], frame: Frame) -> Any:
        async def perform_last(request: Request) -> Any:
            answer = call(request.effect, frame)
            return await answer if route.is_async else answer

        perform: Perform = perform_last
        for interceptor in reversed(interceptors):
            perform = _link(interceptor, perform)
        return await perform(frame.request(effect))

    return Route(ASYNC_FRAMED, live, route.scope, route)


def _link(interceptor: Interceptor, perform: Perform) -> Perform:
    return lambda request: interceptor(request, perform)


class Pending:
    """An answer to a request that is settled later: then its observers are told."""

    def __init__(self) -> None:
        self.settled: Callable[[Any, BaseException | None], None] = lambda _answer, _error: None
        """Called with what became of it."""


Observers: TypeAlias = "Sequence[Callable[[Observation], None]]"


def observed(route: Route, observers: Observers) -> Route:
    """*route*, telling *observers* what became of each request that was settled."""
    call = caller(route)

    def observe_sync(effect: Effect[Any], frame: Frame) -> Any:
        frame.place.replayed = False
        try:
            answer = call(effect, frame)
        except BaseException as error:
            _tell_of_error(observers, effect, frame, error)
            raise
        _tell(observers, effect, frame, answer)
        return answer

    async def observe_async(effect: Effect[Any], frame: Frame) -> Any:
        frame.place.replayed = False
        try:
            answer = await call(effect, frame)
        except BaseException as error:
            _tell_of_error(observers, effect, frame, error)
            raise
        _tell(observers, effect, frame, answer)
        return answer

    if route.is_async:
        return Route(ASYNC_FRAMED, observe_async, route.scope)
    return Route(SYNC_FRAMED, observe_sync, route.scope)


def _tell(observers: Observers, effect: Effect[Any], frame: Frame, answer: Any) -> None:
    request, replayed = frame.request(effect), frame.place.replayed

    def settled(answer: Any, error: BaseException | None) -> None:
        for observer in observers:
            observer(Observation(request, replayed, answer, error))

    if isinstance(answer, Pending):
        answer.settled = settled
    else:
        settled(answer, None)


def _tell_of_error(observers: Observers, effect: Effect[Any], frame: Frame, error: BaseException) -> None:
    if isinstance(error, Fault):
        error = error.error
    elif _is_suspended(error, frame):
        return
    observation = Observation(frame.request(effect), frame.place.replayed, None, error)
    for observer in observers:
        observer(observation)


def _is_suspended(error: BaseException, frame: Frame) -> bool:
    """Whether a request that ended with *error* is not settled, because its strand suspends."""
    signal = error if isinstance(error, Signal) else frame.strand.sticky
    return isinstance(signal, Suspend) and not isinstance(error, Exception)


def unhandled(kind: type[Effect[Any]], scope: Scope) -> Route:
    """A route that refuses *kind*, naming the handlers in scope."""
    label = label_of(kind)
    scopes = list(scope.outwards())
    labels = [installed for outer in scopes for installed in outer.labels]
    hint = ""
    if any(outer.hidden is not None and issubclass(kind, outer.hidden) for outer in scopes):
        hint = f"A handler of {label} asks here, which goes to the next one outwards; to recurse, call the function."
    elif any(label_of(base) == label for outer in scopes for base in outer.whole().routes):
        hint = f"A handler for another object named {label} is in scope: declare the key or port once and import it."

    def refuse(_effect: Effect[Any], frame: Frame) -> Any:
        raise Fault(UnhandledEffectError(label, labels, frame.line(), hint))

    return Route(SYNC_FRAMED, refuse, scope)
