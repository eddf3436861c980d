"""Which computation a log is of: name, version, canonical arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Raw

from skuld_async._computation import Call, Ensured, Handled
from skuld_async._declared import Declared, Misfit, decode_plain, differences, encode_canonical
from skuld_async._errors import DivergenceError, UnencodableError

from .entry import NO_DATA

if TYPE_CHECKING:
    from skuld_async._computation import Computation
    from skuld_async._declared import Plain

    from .log import Log


def root_call(comp: Computation[Any]) -> Call | None:
    """The call inside `handle` and `ensure`; None for a bracket."""
    while isinstance(comp, (Handled, Ensured)):
        comp = comp.inner
    return comp if isinstance(comp, Call) else None


def declared_result(comp: Computation[Any]) -> Declared[Any]:
    """The declared type of the result."""
    call = root_call(comp)
    return Declared(Any, comp.name) if call is None else call.definition.result


def version_of(comp: Computation[Any]) -> str | None:
    """The version that the computation declares."""
    call = root_call(comp)
    return None if call is None else call.definition.version


def canonical_arguments(comp: Computation[Any]) -> Raw:
    """The arguments by name, as canonical JSON; raises `UnencodableError`."""
    call = root_call(comp)
    if call is None:
        return NO_DATA
    values = call.definition.arguments(call)
    for name, value in values.items():
        try:
            call.definition.parameter(name).admit(value)
        except (Misfit, TypeError, ValueError) as error:
            raise UnencodableError(f"argument {name!r} of {comp.name}", str(error)) from None
    return Raw(encode_canonical(values))


def identify(log: Log, comp: Computation[Any]) -> None:
    """Write into an empty *log* what it is the log of."""
    log.header.computation = comp.name
    log.header.version = version_of(comp)
    log.header.arguments = canonical_arguments(comp)


def check_identity(log: Log, comp: Computation[Any]) -> None:
    """Raise `DivergenceError` where *log* is of another computation, or of other arguments."""
    header = log.header
    call = root_call(comp)
    if not header.computation:
        raise DivergenceError("this log is empty: it is of no run", way_out="begin a run with start(comp, *handlers)")
    if header.computation != comp.name:
        raise DivergenceError(
            f"this is the log of {header.computation}, not of {comp.name}",
            expected=header.computation,
            received=comp.name,
            cause="the wrong log, or the function was moved or renamed",
            way_out="resume with the log's own computation; @computation(name=...) keeps a name in logs",
        )
    arguments = canonical_arguments(comp)
    if header.arguments == arguments or (call is not None and _same(call, header.arguments, arguments)):
        return
    version = None if call is None else call.definition.version
    changed = (
        f"; the log was written by version {header.version}, this is {version}" if header.version != version else ""
    )
    raise DivergenceError(
        f"run {header.run} of {comp.name} was started with other arguments",
        expected=bytes(header.arguments).decode(errors="replace"),
        received=bytes(arguments).decode(errors="replace"),
        differences=list(differences(_plain(header.arguments), _plain(arguments))),
        cause=f"the wrong log, or other arguments than the run was started with{changed}",
        way_out="call it with the arguments that the log holds: resume(comp.from_json(log.header.arguments), log, ...)",
    )


def _same(call: Call, logged: Raw, today: Raw) -> bool:
    """Whether the logged arguments, read with today's types, are today's."""
    plain: Plain = _plain(logged)
    if not isinstance(plain, dict) or plain.keys() != _plain(today).keys():
        return False
    try:
        again, now = (
            {name: call.definition.parameter(name).decode(encode_canonical(value)) for name, value in one.items()}
            for one in (plain, _plain(today))
        )
    except Misfit:
        return False
    return encode_canonical(again) == bytes(today) or again == now


def _plain(raw: Raw) -> Any:
    try:
        return decode_plain(raw)
    except ValueError:
        return None
