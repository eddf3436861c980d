"""What a computation asks for: effects, how a handler recipe looks, `Return`, and a request on its way."""

from __future__ import annotations

import enum
import functools
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, Self, get_args, get_origin

import msgspec
from typing_extensions import TypeVar

from ._context import current_strand
from ._declared import Declared
from ._errors import DeclarationError
from ._handler import FunctionHandler, Handler
from ._misuse import OutsideStrandError
from ._retry import Retry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Sequence

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Kind(enum.Enum):
    """What a replay does with an effect's entry."""

    LOCAL = "local"
    """A pure function of handler state: performed again, its value checked."""
    RECORDED = "recorded"
    """Read once: replay returns the logged value."""
    DERIVED = "derived"
    """A pure function of the run's seed and the entry's id: nothing to store."""
    EXTERNAL = "external"
    """Touches the world: replay returns the logged value and never calls again. The default."""
    CONTROL = "control"
    """Part of the language (Yield, Throw, marks): each with its own rule."""
    UNLOGGED = "unlogged"
    """Has no entry and is read live, for clients and secrets."""


class Effect(msgspec.Struct, Generic[T_co], frozen=True):
    """One thing to be done, as data; ``T`` is the type of its answer.

    ``x = yield effect`` and ``x = await effect`` request it; only the latter is typed.

    Class attributes that a subclass may set: ``__kind__``, ``__sig__`` (the stable name in logs, by default
    ``module:qualname``), ``__aliases__`` (names that old logs may hold), ``__raises__`` (errors that are answers),
    ``__retry__`` (how often it is tried) and ``__at_most_once__`` (it is never called twice).

    Gotchas:
        Subclasses repeat ``frozen=True``. Fields are what the log compares on replay.
    """

    __kind__: ClassVar[Kind] = Kind.EXTERNAL
    __sig__: ClassVar[str] = "skuld_async:Effect"
    __aliases__: ClassVar[tuple[str, ...]] = ()
    __raises__: ClassVar[tuple[type[Exception], ...]] = ()
    __retry__: ClassVar[Retry | None] = None
    __at_most_once__: ClassVar[bool] = False
    __unretried__: ClassVar[type[Effect[Any]] | None] = None
    """Of a class that `retried` has made: what it was made of."""
    __opaque__: ClassVar[bool] = False
    """Its fields are code, not data: the entry holds only its value."""
    __answer_form__: ClassVar[Any] = T_co  # type: ignore[misc]
    __answer__: ClassVar[Declared[Any]] = Declared(Any, "Effect")
    __perform__: ClassVar[Any] = None
    """The effect's own handler, called as ``perform(effect, frame)`` where no other is in scope."""
    __codec__: ClassVar[Any] = None
    """The log's way to write and read this class, kept here once it was needed."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__sig__" not in cls.__dict__:
            cls.__sig__ = f"{cls.__module__}:{cls.__qualname__}"
        if "__answer_form__" not in cls.__dict__:
            cls.__answer_form__ = answer_form(cls)
        form = cls.__answer_form__
        if not isinstance(form, TypeVar_) and not getattr(form, "__parameters__", ()):
            cls.__answer__ = Declared(form, label_of(cls))
        if cls.__retry__ is not None or cls.__at_most_once__:
            _check_calls(cls)

    def __await__(self) -> Generator[Any, Any, T_co]:
        strand = current_strand.get()
        if strand is None:
            raise OutsideStrandError(label_of(type(self)), inside=False)
        if strand.guarded or not strand.running:
            strand.refuse_other_tasks(label_of(type(self)))
        answer: T_co = yield self
        return answer

    def retried(self, policy: Retry | None, /) -> Self:
        """The same request, with another policy than its operation declares; None for none.

        How often it is tried is no part of what a replay compares.
        """
        kind = type(self).__unretried__ or type(self)
        made = _with_policy(kind, policy)
        effect: Self = made(**{name: getattr(self, name) for name in self.__struct_fields__})
        return effect

    @classmethod
    def handled_by(cls, function: Callable[[Self], Awaitable[T_co] | T_co], /) -> Handler:
        """A handler that answers this effect, and its subclasses, by *function*: sync, async, or a computation.

        One that is not sync may request effects. It sees the handlers of the scope in which it was installed, but not
        itself: what it requests of its own effect goes to the next handler outwards, or to whoever answers questions.
        So an inner handler can decide for some requests, and change what an outer one answers::

            async def decide(question: Approval) -> str:
                return "approved" if question.amount < 100 else await question

            start(buy(order).handle(Approval.handled_by(decide)))
        """
        return FunctionHandler(cls, function, label_of(cls))

    @classmethod
    def always(cls, answer: T_co, /) -> Handler:  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
        """A handler that gives the same *answer* each time, for tests."""

        def same(_effect: object) -> T_co:
            return answer

        return FunctionHandler(cls, same, label_of(cls))


class Return(msgspec.Struct, Generic[T_co], frozen=True):
    """``yield Return(value)`` ends a body with *value*.

    The body is resumed only so that it can end: ``async with`` blocks exit normally and ``finally`` runs.
    """

    value: T_co


class Request(msgspec.Struct, frozen=True):
    """An effect on its way to its handler, numbered when it was requested."""

    effect: Effect[Any]
    id: str
    """Its place in the run, for example ``0/3``; with the run's id in front it is the idempotency key."""
    computation: str
    """Name of the computation that asks."""


class Perform(Protocol):
    """Passes a request on to the next interceptor, at last to the handler."""

    def __call__(self, request: Request, /) -> Awaitable[Any]: ...


class Interceptor(Protocol):
    """Sees each live request on its way to its handler: ``return await perform(request)``."""

    def __call__(self, request: Request, perform: Perform, /) -> Awaitable[Any]: ...


class Observation(msgspec.Struct, frozen=True):
    """What an observer is told when a request is settled."""

    request: Request
    replayed: bool
    """True where the answer came from the log."""
    answer: Any = None
    error: BaseException | None = None


TypeVar_: Any = type(T_co)


def _check_calls(cls: type[Effect[Any]]) -> None:
    """Refuse what cannot be said of how often *cls* is called."""
    policy: Any = cls.__retry__
    if cls.__kind__ is not Kind.EXTERNAL:
        problem = "it leaves the process alone, so there is nothing to try again"
        raise DeclarationError(label_of(cls), problem, "declare that of ports, commands and other external effects")
    if not isinstance(policy, Retry | None):
        raise DeclarationError(label_of(cls), f"{policy!r:.60} is no policy", "write retry=Retry(5)")
    if policy is not None and cls.__at_most_once__:
        problem = "what is called at most once cannot be tried again"
        raise DeclarationError(label_of(cls), problem, "declare either retry=Retry(...) or at_most_once=True")


@functools.lru_cache(maxsize=256)
def _with_policy(kind: type[Effect[Any]], policy: Retry | None) -> type[Any]:
    """*kind* with another policy; in logs and messages the same."""
    namespace: dict[str, Any] = {
        "__retry__": policy,
        "__unretried__": kind,
        "__sig__": kind.__sig__,
        "__label__": label_of(kind),
        "__qualname__": kind.__qualname__,
        "__answer_form__": kind.__answer_form__,
    }
    return msgspec.defstruct(kind.__name__, (), bases=(kind,), namespace=namespace, frozen=True, module=kind.__module__)


def define_effect(
    base: type[Effect[Any]] | tuple[type[Effect[Any]], ...],
    label: str,
    fields: Sequence[Any] = (),
    *,
    sig: str | None = None,
    answer: Any = Any,
    kw_only: bool = False,
    **attributes: Any,
) -> type[Any]:
    """An effect class made at run time, for one key or one operation.

    Args:
        base: The family, or several.
        label: Its name in messages; its name in logs too unless *sig* is given.
        fields: As `msgspec.defstruct` takes them.
        sig: The stable name in logs.
        answer: Type of the answer.
        kw_only: Whether fields are given by keyword only.
        attributes: Class attributes, as ``kind=Kind.LOCAL`` for ``__kind__``.
    """
    namespace = {f"__{name}__": value for name, value in attributes.items()}
    namespace |= {"__label__": label, "__sig__": sig or label, "__answer_form__": answer}
    bases = base if isinstance(base, tuple) else (base,)
    made: type[Any] = msgspec.defstruct(
        label, fields, bases=bases, namespace=namespace, frozen=True, kw_only=kw_only, module=bases[0].__module__
    )
    return made


def label_of(kind: type) -> str:
    """The effect class as messages show it."""
    return getattr(kind, "__label__", None) or kind.__qualname__.rpartition("<locals>.")[2]


def answer_form(cls: type[Any]) -> Any:
    """The answer's type as the class declares it: ``Effect[int]`` gives int, through generic bases too."""
    for base in cls.__dict__.get("__orig_bases__", ()):
        origin: Any = get_origin(base)
        if hasattr(origin, "__answer_form__"):
            form = origin.__answer_form__
            given = dict(zip(origin.__parameters__, get_args(base), strict=False))
            if isinstance(form, TypeVar_):
                return given.get(form, form)
            inner = getattr(form, "__parameters__", ())
            return form[tuple(given.get(name, name) for name in inner)] if inner else form
    return cls.__answer_form__
