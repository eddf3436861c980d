"""Divergence: explaining a mismatch, and what an accepted one came to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from skuld_async._declared import decode_plain, differences
from skuld_async._errors import WAY_OUT, DivergenceError
from skuld_async.effects.transaction import Begin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from msgspec import Raw

    from .codec import Codec
    from .entry import Entry
    from .log import Log


class Divergence(msgspec.Struct, frozen=True):
    """What ``allow_divergence=True`` accepted; ids of entries."""

    performed: tuple[str, ...] = ()
    """New effects, performed now."""
    dropped: tuple[str, ...] = ()
    """Entries that the computation passed over."""
    unconsumed: tuple[str, ...] = ()
    """Entries that were left when it ended."""


def mismatch(codec: Codec, data: Raw, entries: Sequence[Entry], cursor: int, line: str) -> DivergenceError:
    """The computation requests something else than the entry at *cursor*."""
    entry = entries[cursor]
    later = any(codec.sig == other.sig and codec.same(other.data, data) for other in entries[cursor + 1 :])
    found: list[str] = []
    if entry.sig in codec.names:
        what = f"{codec.label} is requested with other data than the log holds"
        found = list(differences(decode_plain(entry.data), decode_plain(data)))
        cause = (
            "the data come from something that is not an effect (the time, a random number, a set's order), or changed"
        )
        way_out = (
            "make it an effect (Clock.now(), Fresh.uuid(), Random, a Reader, a port), or sort; if the code changed, "
        )
    else:
        what = f"{codec.label} is requested where the log holds {_short(entry.sig)}"
        cause = f"{codec.label} was added to the computation, or an if took another path"
        way_out = ""
    if later:
        other = ", or the order of a set is another" if entry.sig in codec.names else ""
        cause = f"{_short(entry.sig)} was removed from the computation here, or moved{other}"
    return DivergenceError(
        what,
        line=line,
        entry=entry.id,
        expected=f"{_short(entry.sig)} {bytes(entry.data).decode(errors='replace')}",
        received=f"{codec.label} {bytes(data).decode(errors='replace')}",
        differences=found,
        matched=last_matched(entries, cursor),
        cause=cause,
        way_out=f"{way_out}{WAY_OUT}",
    )


def unconsumed(entries: Sequence[Entry], cursor: int, ended: str) -> DivergenceError:
    """The computation ended although the log goes on."""
    entry = entries[cursor]
    left = len(entries) - cursor
    return DivergenceError(
        f"the computation {ended}, but the log goes on with {_short(entry.sig)} (entries left: {left})",
        entry=entry.id,
        expected=f"{_short(entry.sig)} {bytes(entry.data).decode(errors='replace')}",
        received="the end of the computation",
        matched=last_matched(entries, cursor),
        cause="effects at the end were removed from the computation, or an if took another path",
    )


def beyond(codec: Codec, data: Raw, log: Log, line: str) -> DivergenceError:
    """The computation requests something behind the last entry of a run that has ended."""
    return DivergenceError(
        f"{codec.label} is requested, but run {log.header.run} has ended ({log.header.status}), and its log with it",
        line=line,
        received=f"{codec.label} {bytes(data).decode(errors='replace')}",
        matched=last_matched(log.entries, len(log.entries)),
        cause=f"{codec.label} was added to the computation, or an if took another path",
    )


def of_pruned(codec: Codec, data: Raw, entries: Sequence[Entry], cursor: int, line: str) -> DivergenceError:
    """Other branches are requested than those that the entry at *cursor* holds the results of."""
    error = mismatch(codec, data, entries, cursor, line)
    error.cause = "the branches were changed; their entries were pruned, so it is not known what they performed"
    error.way_out = "run the code that wrote this log; without prune_branches the change could be accepted"
    return error


def inside(around: Entry, entries: Sequence[Entry], cursor: int, line: str) -> DivergenceError:
    """The computation requests something new in a transaction, or in a concurrent effect, that has ended."""
    kind = "transaction" if around.sig == Begin.__sig__ else around.sig
    way_out = "run the code that wrote this log, or request what is new behind the transaction"
    return DivergenceError(
        f"something new is requested in the {kind} {around.id}, which has ended",
        line=line,
        matched=last_matched(entries, cursor),
        cause=f"an effect was added to the {kind}, or an if took another path",
        way_out=way_out if around.sig == Begin.__sig__ else WAY_OUT,
    )


def without_winner(race: Entry, line: str) -> DivergenceError:
    """The branch that has won a race in the log does not return any more."""
    won = None if race.strands is UNSET else race.strands.won
    return DivergenceError(
        f"branch {won} has won {race.id}, but does not return now",
        line=line,
        entry=race.id,
        cause="the branch was changed, or the winner in the log was",
    )


def last_matched(entries: Sequence[Entry], cursor: int) -> list[str]:
    """The last five entries before *cursor*, as text."""
    return [f"{entry.id}  {_short(entry.sig)}" for entry in entries[max(0, cursor - 5) : cursor]]


def _short(sig: str) -> str:
    return sig.rpartition(":")[2]
