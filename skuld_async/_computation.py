"""Computations: recipes of a function and its arguments. Making one starts nothing."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import suppress
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Concatenate,
    Generic,
    Protocol,
    Self,
    TypeAlias,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

import anyio
import msgspec
from typing_extensions import ParamSpec, TypeVar

from ._context import current_strand
from ._declared import Declared, Misfit, describe
from ._effect import Effect, Return
from ._errors import DeclarationError
from ._hop import hop
from ._misuse import OutsideStrandError
from ._parameters import Parameters
from ._scopes import open_scope
from ._signals import RunCancel

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from ._frames import Frame
    from ._handler import Handler

P = ParamSpec("P")
Q = ParamSpec("Q")
S = TypeVar("S")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

CLEANUP_GRACE = 5.0
"""Seconds that cleanup has, shielded, once its run or its caller was cancelled."""


def grace_ends() -> float:
    """When cleanup that begins now has had its time, on the clock of the event loop."""
    return anyio.current_time() + CLEANUP_GRACE


class Computation(msgspec.Struct, Generic[T_co], frozen=True, eq=False):
    """A recipe that gives a ``T`` when it is run: by `run`, `start`, or ``yield``/``await`` in another one."""

    __is_computation__: ClassVar[bool] = True

    def __await__(self) -> Generator[Any, Any, T_co]:
        strand = current_strand.get()
        if strand is None:
            raise OutsideStrandError(self.name, inside=False)
        strand.refuse_other_tasks(self.name)
        value: T_co = yield self
        return value

    @property
    def name(self) -> str:
        """The computation's stable name."""
        raise NotImplementedError

    def handle(self, *handlers: Handler) -> Computation[T_co]:
        """The same computation with *handlers* in an inner scope; those inside shadow those outside."""
        return Handled(self, handlers)

    def ensure(self, cleanup: Computation[Any] | Effect[Any]) -> Computation[T_co]:
        """The same computation, followed by *cleanup* at return, error and cancellation, never at a suspension.

        Under a cancellation the cleanup is shielded and has 5 seconds.
        """
        return Ensured(self, cleanup)


class Wrapped(Computation[T_co], frozen=True, eq=False):
    """A computation of the library's own, written against its frame; its requests are never refused under a cancel."""

    transparent: ClassVar[bool] = False
    """Whether the first computation that it enters keeps its activation number."""

    async def enter(self, frame: Frame) -> T_co:
        """Run it."""
        raise NotImplementedError


class Around(Wrapped[T_co], frozen=True, eq=False):
    """What stands around a computation and gives its result."""

    inner: Computation[T_co]

    @property
    def name(self) -> str:
        return self.inner.name


class Call(Computation[Any], frozen=True, eq=False):
    """A function with its arguments."""

    definition: Any
    """The `Definition`; named so, it would be taken for a method by type checkers, because it has a `__get__`."""
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def name(self) -> str:
        name: str = self.definition.name
        return name


class Handled(Around[T_co], frozen=True, eq=False):
    """A computation in a scope of its own."""

    transparent: ClassVar[bool] = True
    handlers: Sequence[Handler]

    async def enter(self, frame: Frame) -> T_co:
        outer = frame.table
        async with open_scope(outer.scope, self.handlers, _path(frame), outer.bind) as scope:
            frame.table = scope.table
            value: T_co = await hop(self.inner)
            return value


def _path(frame: Frame) -> str:
    """The path of a scope that *frame* opens; of two around one computation, the inner one's is longer."""
    path = f"{frame.place.prefix}{frame.activation}:"
    outer = frame.table.scope.path
    return f"{outer}:" if outer.startswith(path) else path


class Ensured(Around[T_co], frozen=True, eq=False):
    """A computation with its cleanup."""

    transparent: ClassVar[bool] = True
    cleanup: Computation[Any] | Effect[Any]

    async def enter(self, frame: Frame) -> T_co:
        try:
            value: T_co = await hop(self.inner)
        except BaseException as error:
            await self._clean_up(frame, cancelled=isinstance(error, anyio.get_cancelled_exc_class()))
            raise
        await self._clean_up(frame, cancelled=False)
        return value

    async def _clean_up(self, frame: Frame, *, cancelled: bool) -> None:
        stopped = frame.strand.sticky
        if stopped is not None and not isinstance(stopped, RunCancel):
            return
        # What the body made of its cancellation does not matter: the scope that was cancelled is still around this
        # frame.
        frame.shielded = True  # a run cancel that comes now does not stop it either
        if cancelled or stopped is not None or anyio.current_effective_deadline() == -math.inf:
            with anyio.move_on_after(CLEANUP_GRACE, shield=True):
                await hop(self.cleanup)
        else:
            await hop(self.cleanup)


def check_computation(given: Any, verb: str) -> None:
    """Raise `DeclarationError` unless *given* is what *verb* takes: a computation, called with its arguments."""
    if isinstance(given, Computation):
        return
    if isinstance(given, Definition):
        name = given.__wrapped__.__name__
        raise DeclarationError(given.name, "it is not called", f"write {verb}({name}(...), *handlers)")
    if isinstance(given, Effect):
        problem, way_out = "an effect is requested by a computation", "put it into one, and give that"
    else:
        problem, way_out = "this is no computation", f"write {verb}(comp(...), *handlers), comp being a @computation"
    raise DeclarationError(f"{given!r:.80}", problem, way_out)


Effectful: TypeAlias = AsyncGenerator[Effect[Any] | Computation[Any] | Return[T], Any]
"""What the body of a computation is annotated with: an async generator that returns a ``T`` through `Return`."""


class Definition(Generic[P, T_co]):
    """What ``@computation`` makes of a function: calling it gives a recipe and starts nothing.

    Attributes:
        name: The stable name that logs hold, by default ``module:qualname``.
        version: Free text that logs hold; shown when a log diverges.
    """

    __is_definition__: ClassVar[bool] = True
    __wrapped__: Callable[P, Any]

    def __init__(self, body: Callable[P, Any], name: str | None, version: str | None) -> None:
        functools.update_wrapper(self, body)
        self.name: str = name or f"{body.__module__}:{body.__qualname__}"
        self.version = version
        self._is_generator: bool = inspect.isasyncgenfunction(body)
        if not self._is_generator and not inspect.iscoroutinefunction(body):
            way_out = f"write `async def {body.__name__}(...)` and yield or await effects in it"
            raise DeclarationError(self.name, "a computation is an async function", way_out)
        with suppress(NameError):  # a name that is defined further down: compiled at the first use
            self._result  # noqa: B018 - compiled here, where it is declared

    def __repr__(self) -> str:
        return f"<computation {self.name}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Computation[T_co]:
        return Call(self, args, kwargs)

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self: Definition[Concatenate[S, Q], T], instance: S, owner: type) -> Callable[Q, Computation[T]]: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else functools.partial(self, instance)

    @functools.cached_property
    def _hints(self) -> dict[str, Any]:
        return get_type_hints(self.__wrapped__)

    @functools.cached_property
    def _result(self) -> Declared[Any]:
        return Declared(self._result_type(), self.name)

    @functools.cached_property
    def _parameters(self) -> Parameters:  # only needed where the computation is the root of a logged run
        return Parameters(self.__wrapped__, self._hints, self.name)

    def _result_type(self) -> Any:
        annotation = self._hints.get("return", Any)
        if not self._is_generator:
            if get_origin(annotation) is AsyncGenerator:
                way_out = "a body without any yield returns natively: annotate it `-> T` instead of `-> Effectful[T]`"
                raise DeclarationError(self.name, "the body is annotated as a generator, but yields nothing", way_out)
            return annotation
        if annotation is not Any and get_origin(annotation) is not AsyncGenerator:
            problem = f"a body that yields is no function that returns {describe(annotation)}"
            raise DeclarationError(self.name, problem, f"annotate it -> Effectful[{describe(annotation)}]")
        for part in get_args(next(iter(get_args(annotation)), Any)):
            origin: Any = get_origin(part)
            if origin is Return:
                return get_args(part)[0]
        return Any if annotation is Any else None

    def from_json(self, arguments: bytes | msgspec.Raw) -> Computation[T_co]:
        """The call with the arguments that a log holds: ``approval.from_json(log.header.arguments)``.

        Parameters that were added since take their defaults.

        Raises:
            DeclarationError: Today's annotations cannot read them.
        """
        try:
            bound = self._parameters.read(arguments)
        except Misfit as error:
            problem = f"its arguments cannot be read from {bytes(arguments)[:200]!r} ({error})"
            raise DeclarationError(self.name, problem, "give new parameters a default and keep the old ones") from None
        return Call(self, bound.args, bound.kwargs)


@overload
def computation(
    body: Callable[P, AsyncGenerator[Effect[Any] | Computation[Any] | Return[T], Any]], /
) -> Definition[P, T]: ...
@overload
def computation(body: Callable[P, Coroutine[Any, Any, T]], /) -> Definition[P, T]: ...
@overload
def computation(*, name: str | None = None, version: str | None = None) -> _Decorator: ...
def computation(body: Any = None, /, *, name: str | None = None, version: str | None = None) -> Any:
    """Make a computation of an async function.

    The body is an async generator annotated ``Effectful[T]``, which yields effects and ends with ``yield
    Return(value)``; or, where it only awaits, a plain coroutine function with a native ``return``.

    Args:
        body: The function.
        name: The stable name in logs; give one before you move or rename the function.
        version: Free text that logs hold.

    Raises:
        DeclarationError: It is no async function, or its result type cannot be read back from a log.
    """
    if body is None:
        return functools.partial(_define, name=name, version=version)
    return _define(body, name, version)


def _define(body: Callable[..., Any], name: str | None, version: str | None) -> Definition[..., Any]:
    return Definition(body, name, version)


if TYPE_CHECKING:

    class _Decorator(Protocol):
        @overload
        def __call__(
            self, body: Callable[P, AsyncGenerator[Effect[Any] | Computation[Any] | Return[T], Any]], /
        ) -> Definition[P, T]: ...
        @overload
        def __call__(self, body: Callable[P, Coroutine[Any, Any, T]], /) -> Definition[P, T]: ...
