"""Ports: what a computation needs from outside, as a contract or as a function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, ClassVar, Concatenate, Generic, Protocol, get_type_hints, overload

import msgspec
from typing_extensions import ParamSpec, TypeVar

from skuld_async._effect import Effect, define_effect
from skuld_async._errors import DeclarationError
from skuld_async._handler import Handler, Installed, answering
from skuld_async._retry import Retry

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class PortCall(Effect[T_co], frozen=True):
    """Family of all port calls: one class for each operation, one field for each parameter."""


class Declared(msgspec.Struct, frozen=True):
    """What `operation` and `port` were told of a call."""

    raises: Sequence[type[Exception]]
    sig: str | None
    aliases: Sequence[str]
    retry: Retry | None
    at_most_once: bool


class _Callable(Generic[P, T]):
    """What operations and function ports share: parameters, and an effect class made of them."""

    def __init__(self, function: Callable[..., Any], declared: Declared) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.declared = declared
        self.sig = declared.sig
        self.label: str = function.__qualname__.rpartition("<locals>.")[2]
        self.parameters: list[inspect.Parameter] = []
        self._effect: type[Any] | None = None
        self._direct: type[Any] | None = None
        """The effect class, where a call's arguments are its fields as they stand."""

    def _declare(self, parameters: Sequence[inspect.Parameter], module: str) -> None:
        self.sig = self.sig or f"{module}:{self.label}"
        self.parameters = list(parameters)
        for parameter in parameters:
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                problem = f"the parameter *{parameter.name} has no fixed shape for the log"
                raise DeclarationError(self.label, problem, f"take a list: {parameter.name}: list[...]")
        with suppress(NameError):  # an annotation that is defined further down: compiled at the first call
            self._make_effect()

    def _make_effect(self) -> type[Any]:
        hints = get_type_hints(self.function)
        self._effect = define_effect(
            PortCall,
            self.label,
            [_field(parameter, hints.get(parameter.name, Any)) for parameter in self._fields()],
            sig=self.sig,
            answer=hints.get("return", Any),
            raises=tuple(self.declared.raises),
            aliases=tuple(self.declared.aliases),
            retry=self.declared.retry,
            at_most_once=self.declared.at_most_once,
        )
        if self._fields() == self.parameters and all(one.kind is not one.KEYWORD_ONLY for one in self.parameters):
            self._direct = self._effect
        return self._effect

    def _fields(self) -> list[inspect.Parameter]:
        """The parameters, those without a default first, as a struct wants them."""
        return sorted(self.parameters, key=lambda parameter: parameter.default is not parameter.empty)

    @property
    def effect(self) -> type[Any]:
        """The effect class of the calls."""
        return self._effect or self._make_effect()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Effect[T]:
        direct = self._direct
        if direct is not None and not kwargs and len(args) == len(self.parameters):
            call: Effect[T] = direct(*args)
            return call
        named: dict[str, Any] = dict(kwargs)
        positional = [p.name for p in self.parameters if p.kind is not p.KEYWORD_ONLY]
        if len(args) > len(positional):
            message = f"{self.label}() takes {len(positional)} positional arguments but {len(args)} were given"
            raise TypeError(message)
        for name, value in zip(positional, args, strict=False):
            if name in named:
                message = f"{self.label}() got multiple values for argument {name!r}"
                raise TypeError(message)
            named[name] = value
        try:
            effect: Effect[T] = self.effect(**named)
        except TypeError as error:
            raise TypeError(f"{self.label}(): {error}") from None
        return effect

    def always(self, answer: T) -> Handler:
        """A handler that gives the same *answer* to each call, for tests."""
        handler: Handler = self.effect.always(answer)
        return handler

    def handled_by(self, function: Callable[P, Awaitable[T] | T]) -> Handler:
        """A handler that answers by *function* of the call's arguments: sync, async, or a computation."""
        return PortHandler(self.label, {self.effect: self._caller(function)})

    def _caller(self, function: Callable[..., Any]) -> Callable[[Any], Any]:
        names = [p.name for p in self.parameters if p.kind is not p.KEYWORD_ONLY]
        keywords = [p.name for p in self.parameters if p.kind is p.KEYWORD_ONLY]
        self._refuse_misfit(function, names, keywords)

        def call(effect: Any) -> Any:
            return function(
                *[getattr(effect, name) for name in names], **{name: getattr(effect, name) for name in keywords}
            )

        return answering(function, self.label, call)

    def _refuse_misfit(self, function: Any, names: Sequence[str], keywords: Sequence[str]) -> None:
        if not callable(function):
            raise DeclarationError(self.label, f"{function!r:.80} is not callable", f"write {self._shape()}")
        try:
            signature = inspect.signature(function)
        except ValueError:
            return  # a builtin that does not tell
        try:
            signature.bind(*names, **dict.fromkeys(keywords))
        except TypeError as error:
            problem = f"{getattr(function, '__qualname__', function)}{signature} does not take its arguments ({error})"
            raise DeclarationError(self.label, problem, f"write {self._shape()}") from None
        taken = [p.name for p in signature.parameters.values() if p.kind is not p.KEYWORD_ONLY][: len(names)]
        if taken != names and sorted(taken) == sorted(names):
            problem = f"{getattr(function, '__qualname__', function)}{signature} takes its arguments in another order"
            raise DeclarationError(self.label, problem, f"write {self._shape()}")

    def _shape(self) -> str:
        return f"async def {self.label.rpartition('.')[2]}{inspect.Signature(self.parameters)}"


_MUTABLE: tuple[type[Any], ...] = (list, dict, set, bytearray)


def _field(parameter: inspect.Parameter, kind: Any) -> Any:
    if parameter.default is parameter.empty:
        return (parameter.name, kind)
    default: Any = parameter.default
    if isinstance(default, _MUTABLE):
        return (parameter.name, kind, msgspec.field(default_factory=lambda: type(default)(default)))
    return (parameter.name, kind, default)


class Operation(_Callable[P, T]):
    """One operation of a contract; calling it on the contract's class gives an effect."""

    def __init__(self, function: Callable[..., Any], declared: Declared) -> None:
        super().__init__(function, declared)
        self._declare(list(inspect.signature(function).parameters.values())[1:], function.__module__)


class PortFunction(_Callable[P, T]):
    """A function as a port; its body is the implementation where `default` is installed."""

    def __init__(self, function: Callable[..., Any], declared: Declared) -> None:
        super().__init__(function, declared)
        self._declare(list(inspect.signature(function).parameters.values()), function.__module__)

    def default(self) -> Handler:
        """A handler that calls the function's own body."""
        return self.handled_by(self.function)


class PortHandler(Handler):
    """Answers port calls by functions of their arguments."""

    def __init__(self, label: str, routes: dict[Any, Callable[[Any], Any]]) -> None:
        self.label = label
        self._routes = routes

    def install(self) -> Installed:
        """Make the routes for one scope."""
        return Installed(self._routes)


class Port(Protocol):
    """Base of contracts.

        class Validator(Port, Protocol):
            @operation
            async def validate(self, purchase: Purchase) -> ValidPurchase: ...

    ``Validator.validate(purchase)`` is an ``Effect[ValidPurchase]``; ``Validator.handler(implementation)`` answers it.
    """

    __slots__: ClassVar[Sequence[str]] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, member in vars(cls).items() if Protocol in cls.__bases__ else ():
            if inspect.iscoroutinefunction(member):
                place = f"{cls.__qualname__.rpartition('<locals>.')[2]}.{name}"
                raise DeclarationError(place, "it is no operation", f"mark it: @operation async def {name}(...)")

    @classmethod
    def handler(cls, implementation: object) -> Handler:
        """A handler that calls *implementation*: any object with the contract's methods.

        They are sync, async, or computations.

        Raises:
            DeclarationError: A method is missing, or does not take the operation's arguments.
        """
        routes: dict[Any, Callable[[Any], Any]] = {}
        for name, one in cls._operations().items():
            method = getattr(implementation, name, None)
            if isinstance(implementation, type) and inspect.isfunction(
                inspect.getattr_static(implementation, name, None)
            ):
                way_out = f"give an object of it: {cls.__name__}.handler({implementation.__name__}(...))"
                raise DeclarationError(one.label, f"{implementation.__name__} is a class", way_out)
            if method is None:
                problem = f"{type(implementation).__qualname__} has no method {name}"
                raise DeclarationError(one.label, problem, f"write {one._shape()}")  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
            routes[one.effect] = one._caller(method)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        return PortHandler(cls.__qualname__.rpartition("<locals>.")[2], routes)

    @classmethod
    def _operations(cls) -> dict[str, Operation[Any, Any]]:
        found: dict[str, Operation[Any, Any]] = {}
        for base in reversed(cls.__mro__):
            found |= {name: member for name, member in vars(base).items() if isinstance(member, Operation)}
        if not found:
            way_out = f"mark its methods with @operation, and call {cls.__name__}.handler(implementation)"
            raise DeclarationError(cls.__qualname__, "the contract has no operations", way_out)
        return found


class _OperationDecorator(Protocol):
    def __call__(self, function: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]], /) -> Operation[P, T]: ...


class _PortDecorator(Protocol):
    def __call__(self, function: Callable[P, Coroutine[Any, Any, T]], /) -> PortFunction[P, T]: ...


@overload
def operation(function: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]], /) -> Operation[P, T]: ...
@overload
def operation(
    *,
    raises: Sequence[type[Exception]] = (),
    sig: str | None = None,
    aliases: Sequence[str] = (),
    retry: Retry | None = None,
    at_most_once: bool = False,
) -> _OperationDecorator: ...
def operation(
    function: Any = None,
    /,
    *,
    raises: Sequence[type[Exception]] = (),
    sig: str | None = None,
    aliases: Sequence[str] = (),
    retry: Retry | None = None,
    at_most_once: bool = False,
) -> Any:
    """Mark a method of a contract as an operation.

    On the contract's class, ``Contract.method(...)`` is an effect. ``Contract.method.always(answer)`` and
    ``Contract.method.handled_by(function)`` are handlers of this operation alone.

    Args:
        function: The method; its annotations are compiled here.
        raises: Errors that are answers of the receiver: they arrive as themselves, and `rerun` asks under a new key.
        sig: The stable name in logs, by default ``module:Contract.method``.
        aliases: Names that old logs may hold.
        retry: How often a call is tried, and when again; ``Contract.method(...).retried(policy)`` for one call.
        at_most_once: A call that was begun is never made again: where its outcome was lost, `OutcomeUnknown` is raised.

    Raises:
        DeclarationError: What is declared cannot work.
    """
    declared = Declared(raises, sig, aliases, retry, at_most_once)
    if function is None:
        return functools.partial(_operation, declared=declared)
    return _operation(function, declared)


def _operation(function: Callable[..., Any], declared: Declared) -> Operation[..., Any]:
    return Operation(function, declared)


@overload
def port(function: Callable[P, Coroutine[Any, Any, T]], /) -> PortFunction[P, T]: ...
@overload
def port(
    *,
    raises: Sequence[type[Exception]] = (),
    sig: str | None = None,
    aliases: Sequence[str] = (),
    retry: Retry | None = None,
    at_most_once: bool = False,
) -> _PortDecorator: ...
def port(
    function: Any = None,
    /,
    *,
    raises: Sequence[type[Exception]] = (),
    sig: str | None = None,
    aliases: Sequence[str] = (),
    retry: Retry | None = None,
    at_most_once: bool = False,
) -> Any:
    """Make a port of an async function: ``quote(supplier)`` is an effect.

    Its handlers are ``quote.default()``, which calls the function's body, ``quote.always(answer)`` and
    ``quote.handled_by(function)``.

    Args:
        function: The function; its annotations are compiled here.
        raises: Errors that are answers of the receiver.
        sig: The stable name in logs, by default ``module:function``.
        aliases: Names that old logs may hold.
        retry: How often a call is tried, and when again.
        at_most_once: A call that was begun is never made again.

    Raises:
        DeclarationError: What is declared cannot work.
    """
    declared = Declared(raises, sig, aliases, retry, at_most_once)
    if function is None:
        return functools.partial(_port, declared=declared)
    return _port(function, declared)


def _port(function: Callable[..., Any], declared: Declared) -> PortFunction[..., Any]:
    return PortFunction(function, declared)
