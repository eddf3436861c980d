"""DomainError: errors that are part of a domain, declared like data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, get_type_hints

import msgspec
from typing_extensions import TypeVar, dataclass_transform

from skuld_async._declared import Declared, Misfit
from skuld_async._errors import DeclarationError, SkuldError

if TYPE_CHECKING:
    from collections.abc import Sequence

E = TypeVar("E", bound=Exception)


@dataclass_transform()
class DomainError(SkuldError):
    """Base of errors with fields: they arrive in the body as themselves, on the first run and on each replay.

        class Declined(DomainError):
            code: int
            reason: str = "unknown"

        raise Declined(7, reason="no funds")

    The fields are the class's annotations; the constructor takes them in order or by name.
    """

    __fields_struct__: ClassVar[Any] = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.__fields_struct__ = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        fields = _struct_of(type(self))(*args, **kwargs)
        values = msgspec.structs.asdict(fields)
        super().__init__(*values.values())
        for name, value in values.items():
            setattr(self, name, value)

    def __str__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in _struct_of(type(self)).__struct_fields__)
        return f"{type(self).__name__}({shown})"


def _struct_of(cls: type[DomainError]) -> Any:
    """The struct that stores the fields of *cls*, made when it is first needed."""
    if cls.__fields_struct__ is None:
        own = {
            name
            for base in cls.__mro__
            for name in vars(base).get("__annotations__", {})
            if issubclass(base, DomainError)
        }
        hints = {name: kind for name, kind in get_type_hints(cls).items() if name in own and not name.startswith("__")}
        fields = [
            (name, kind, getattr(cls, name)) if hasattr(cls, name) else (name, kind) for name, kind in hints.items()
        ]
        cls.__fields_struct__ = msgspec.defstruct(cls.__name__, fields, frozen=True)
    return cls.__fields_struct__


def _declared(fields: Any, cls: type[DomainError]) -> Declared[Any]:
    try:
        return Declared(fields, cls.__qualname__)
    except DeclarationError as error:
        raise Misfit(error.problem) from None


def fields_of(error: DomainError) -> bytes:
    """The JSON of the error's fields; raises `Misfit`."""
    kind = _struct_of(type(error))
    declared = _declared(kind, type(error))
    data, _ = declared.admit(kind(**{name: getattr(error, name) for name in kind.__struct_fields__}))
    return data


def rebuild(cls: type[DomainError], data: Any) -> DomainError:
    """The error again, by calling its class; raises `Misfit`."""
    fields = _declared(_struct_of(cls), cls).decode(data)
    return cls(**msgspec.structs.asdict(fields))


def find(type_name: str, bases: Sequence[type[E]]) -> type[E] | None:
    """The loaded class of that name among *bases* and what derives from them; a log never causes an import.

    Of two, the one that was defined last: a module that was reloaded catches by its new classes.
    """
    waiting = list(bases)
    while waiting:
        cls = waiting.pop(0)
        if f"{cls.__module__}:{cls.__qualname__}" == type_name:
            return cls
        waiting += reversed(cls.__subclasses__())
    return None
