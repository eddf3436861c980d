"""The pump: takes requests from computations, sends the answers back.

Rules, each kept in this file:

1. The stack is explicit. A computation that is requested, by ``yield`` or by ``await``, pushes a frame; nothing
   recurses.
2. Two loops share the work. `pump` steps one async generator and serves what it yields; `drive` steps the top of the
   stack and serves what is awaited. What is no request belongs to the event loop and is passed up unchanged.
3. A request takes its number before it is served, whatever becomes of it.
4. Whatever a handler raises, cancellation included, is thrown in at the request.
5. A signal sticks to its strand: once met, each further request raises it again. Only cleanup is served under a run
   cancel.
6. After `Return` a body is resumed only so that it can end.
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any, cast

from ._computation import Call
from ._declared import describe
from ._frames import NOTHING, Frame, Place, close, enter_call, first_step, inject, line_of, open_frame, steps
from ._holding import end, has_tasks, hold, release
from ._misuse import MissingReturnError, NotAnEffectError, RequestAfterReturnError
from ._scopes import ALIEN, ASYNC, ASYNC_FRAMED, CALL, CLOSED, RETURN, SYNC, SYNC_FRAMED, Route, Scope
from ._signals import Fault
from ._strand import REFUSALS, Strand, label_of_item

if TYPE_CHECKING:
    from collections.abc import Generator

    from ._computation import Computation
    from ._effect import Effect


@types.coroutine
def pump(strand: Strand, frame: Frame) -> Generator[Any, Any, Any]:  # noqa: C901, PLR0912, PLR0915 - each call costs
    """Step the async generator of *frame*, and those that it yields to, to its end; the value is what it returned."""
    stack: list[Any] = strand.stack
    base = frame
    table, resume = frame.table, frame.resume
    result: Any = NOTHING
    value: Any
    error: BaseException | None
    step: Generator[Any, Any, Any] = first_step(frame)
    while True:
        try:
            item = yield from step
        except StopAsyncIteration:
            value, error = (result, None) if result is not NOTHING else _ended_without(frame)
        except BaseException as raised:
            value, error = None, strand.unwound(raised)
        else:
            route = table[type(item)]
            mode = route.mode
            try:
                if strand.sticky is not None:
                    strand.check(frame, item)
                if mode == SYNC:
                    frame.place.count += 1
                    value = route.function(item)
                elif mode == SYNC_FRAMED:
                    frame.place.count += 1
                    value = route.function(item, frame)
                elif mode == ASYNC:
                    place = frame.place
                    place.count += 1
                    place.serving = route
                    value = yield from route.function(item)  # pyright: ignore[reportUnknownVariableType]
                    place.serving = place.nested = None
                elif mode == ASYNC_FRAMED:
                    place = frame.place
                    place.count += 1
                    place.serving = route
                    value = yield from route.function(item, frame)  # pyright: ignore[reportUnknownVariableType]
                    place.serving = place.nested = None
                elif mode == RETURN:
                    if strand.tasks:
                        yield from hold(frame)
                    result = item.value
                    frame.table = table = table.closed
                    value = None
                elif mode != CALL:
                    raise Fault(_misuse(item, mode, frame))  # noqa: TRY301 - thrown in below
                elif type(item) is Call:
                    step = enter_call(strand, item, frame)
                    if item.definition._is_generator:
                        frame = stack[-1]  # pyright: ignore[reportAssignmentType]
                        resume = frame.resume
                        continue
                    try:
                        value = yield from step  # pyright: ignore[reportUnknownVariableType]
                        if strand.tasks:
                            value = yield from end(stack[-1], value)  # pyright: ignore[reportUnknownVariableType]
                    except BaseException as raised:
                        if not strand.tasks:
                            raise
                        value = yield from end(stack[-1], None, strand.unwound(raised))  # pyright: ignore[reportUnknownVariableType]
                    finally:
                        stack[-1] = frame
                else:
                    value = yield item
            except BaseException as raised:
                if frame.refusals > REFUSALS:
                    raise
                step = inject(frame, strand.thrown(raised, frame, item))
            else:
                step = resume(value)
            continue
        if (result is NOTHING or error is not None) and strand.tasks:
            error = yield from release(frame, error)  # pyright: ignore[reportUnknownVariableType]
        if frame is base:
            if error is not None:
                raise error
            return value
        # Only the base has no parent.
        frame = stack[-1] = frame.parent  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
        table, resume = frame.table, frame.resume
        step = resume(value) if error is None else inject(frame, error)  # pyright: ignore[reportUnknownArgumentType]
        result, error = NOTHING, None


@types.coroutine
def drive(  # noqa: C901, PLR0912, PLR0915 - each call costs
    strand: Strand, computation: Computation[Any], scope: Scope, *, shielded: bool = False
) -> Generator[Any, Any, Any]:
    """Run *computation* as the root of *strand* in *scope*; the value is its result."""
    stack = strand.stack
    root = Frame(strand, scope.table, Place(f"{strand.path}/"), 0, computation, shielded, transparent=True)
    advance, fail = push(strand, computation, root)
    waiting: list[Any] = []  # what steps the frames below, outermost first
    value: Any = None
    error: BaseException | None = None
    try:
        while True:
            try:
                item = advance(value) if error is None else fail(error)
            except StopIteration as stop:
                if strand.tasks and has_tasks(stack[-1]):
                    advance, fail = steps(end(stack[-1], stop.value))
                    value = error = None
                    continue
                ended = stack.pop()
                value, error = stop.value, None
                if ended.serves is not None:
                    ended.place.serving = ended.place.nested = None
                elif not stack:
                    return value
                advance, fail = waiting.pop()
                continue
            except BaseException as raised:
                if strand.tasks and has_tasks(stack[-1]):
                    advance, fail = steps(end(stack[-1], None, strand.unwound(raised)))
                    value = error = None
                    continue
                ended = stack.pop()
                if ended.serves is not None:
                    value, error = None, strand.thrown(raised, ended, ended.serves)
                else:
                    value, error = None, strand.unwound(raised)
                    if not stack:
                        raise
                advance, fail = waiting.pop()
                continue
            value = error = None
            frame = stack[-1]
            route = frame.table[type(item)]
            mode = route.mode
            if mode == ALIEN:
                strand.running = False
                try:
                    value = yield item
                except BaseException as raised:
                    error = raised
                strand.running = True
                continue
            place = frame.place
            if place.serving is not None:
                frame = frame.handler_view(place.serving)
                place, route = frame.place, frame.table[type(item)]
                mode = route.mode
                if mode in (SYNC, SYNC_FRAMED):
                    route, mode = _within(strand, route), SYNC_FRAMED
            try:
                if strand.sticky is not None:
                    strand.check(frame, item)
                if mode == SYNC:
                    place.count += 1
                    value = route.function(item)
                elif mode == SYNC_FRAMED:
                    place.count += 1
                    value = route.function(item, frame)
                elif mode == CLOSED:
                    raise Fault(_misuse(item, mode, frame))  # noqa: TRY301 - thrown in below
                else:
                    stepping = push(strand, item, frame) if mode == CALL else push_handler(strand, route, item, frame)
                    waiting.append((advance, fail))
                    advance, fail = stepping
            except BaseException as raised:
                error = strand.thrown(raised, frame, item)
                if frame.refusals > REFUSALS:
                    close(advance)
                    abandoned = stack.pop()
                    if abandoned.serves is not None:
                        error = strand.thrown(error, abandoned, abandoned.serves)
                    elif not stack:
                        raise error from None
                    advance, fail = waiting.pop()
    finally:
        strand.running = False  # a task that the body left behind requests nothing more
        del error


def push(strand: Strand, computation: Computation[Any], parent: Frame) -> tuple[Any, Any]:
    """Put a frame for *computation* on the stack; gives what steps it."""
    frame = open_frame(strand, computation, parent)
    strand.stack.append(frame)
    return steps(frame.body if frame.resume is None else pump(strand, frame))


def push_handler(strand: Strand, route: Route, effect: Effect[Any], asker: Frame) -> tuple[Any, Any]:
    """Put an async handler, which answers *effect*, on the stack; gives what steps it."""
    asker.place.count += 1
    answer = route.function(effect) if route.mode == ASYNC else route.function(effect, asker)
    frame = Frame(strand, asker.table, asker.place, asker.activation, asker.computation, asker.shielded, answer)
    frame.serves = effect
    asker.place.serving = route
    strand.stack.append(frame)
    return steps(answer)


def _within(strand: Strand, route: Route) -> Route:
    """*route*, of a sync handler whose call is requested by another handler: `current_call` sees the inner request."""

    def call(effect: Effect[Any], frame: Frame) -> Any:
        strand.stack.append(frame)
        try:
            return route.function(effect, frame) if route.is_framed else route.function(effect)
        finally:
            strand.stack.pop()

    return Route(SYNC_FRAMED, call, route.scope)


def _ended_without(frame: Frame) -> tuple[None, Fault | None]:
    definition = cast("Call", frame.computation).definition
    declared = definition._result
    if declared.nullable or frame.strand.sticky is not None:
        return None, None
    fault = Fault(MissingReturnError(frame.name, describe(declared.type), line_of(definition.__wrapped__)))
    frame.strand.stop(fault)
    return None, fault


def _misuse(item: Any, mode: int, frame: Frame) -> NotAnEffectError | RequestAfterReturnError:
    if mode == CLOSED:
        return RequestAfterReturnError(label_of_item(item), frame.line())
    hint = getattr(item, "__yield_hint__", "Yield an effect, a computation, or Return(value).")
    if isinstance(item, types.CoroutineType):
        item.close()
        hint = "Decorate the function with @computation, or await the coroutine."
    elif isinstance(item, types.AsyncGeneratorType):
        hint = "Decorate the function with @computation."
    elif callable(item):
        hint = "Did you forget to call it?"
    return NotAnEffectError(f"{item!r:.200}", frame.line(), hint)
