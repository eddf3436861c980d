"""Random: chance that a replay repeats, derived from the run's seed and the entry's id."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, Protocol, cast

from typing_extensions import TypeVar

from skuld_async._context import current_strand
from skuld_async._effect import Effect, Kind
from skuld_async._handler import Cell, FunctionHandler, Handler, Installed

if TYPE_CHECKING:
    from skuld_async._frames import Frame
    from skuld_async._strand import Strand

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Source(Protocol):
    """Where draws come from."""

    def fraction(self) -> float:
        """A number from 0 up to, but without, 1."""
        ...

    def below(self, bound: int) -> int:
        """A whole number from 0 up to, but without, *bound*."""
        ...


class RandomEffect(Effect[T_co], frozen=True):
    """Family of `Random`."""

    __kind__ = Kind.DERIVED
    __label__ = "Random"

    def draw(self, source: Source) -> T_co:
        """The answer, as *source* has it."""
        raise NotImplementedError

    def __perform__(self, frame: Frame) -> T_co:  # pyright: ignore[reportIncompatibleVariableOverride] - in place of None
        return self.draw(Stream(frame.strand.seed, frame.place.current_id))


class RandomFraction(RandomEffect[float], frozen=True):
    """Effect of `Random.random`."""

    __sig__ = __label__ = "Random.random"

    def draw(self, source: Source) -> float:
        """A fraction."""
        return source.fraction()


class RandomInt(RandomEffect[int], frozen=True):
    """Effect of `Random.int`."""

    __sig__ = __label__ = "Random.int"
    low: int
    high: int

    def draw(self, source: Source) -> int:
        """A number of the range."""
        return self.low + source.below(self.high - self.low + 1)


class RandomChoice(RandomEffect[Any], frozen=True):
    """Effect of `Random.choice`."""

    __sig__ = __label__ = "Random.choice"
    options: list[Any]

    def draw(self, source: Source) -> Any:
        """One of the options."""
        return self.options[source.below(len(self.options))]


class RandomSample(RandomEffect[list[Any]], frozen=True):
    """Effect of `Random.sample`."""

    __sig__ = __label__ = "Random.sample"
    items: list[Any]
    count: int

    def draw(self, source: Source) -> list[Any]:
        """Some of the items."""
        return _drawn(self.items, self.count, source)


class RandomShuffle(RandomEffect[list[Any]], frozen=True):
    """Effect of `Random.shuffle`."""

    __sig__ = __label__ = "Random.shuffle"
    items: list[Any]

    def draw(self, source: Source) -> list[Any]:
        """All of the items."""
        return _drawn(self.items, len(self.items), source)


def _drawn(items: Sequence[Any], count: int, source: Source) -> list[Any]:
    """*count* of the items, drawn one by one (Fisher and Yates)."""
    left = list(items)
    for place in range(count):
        other = place + source.below(len(left) - place)
        left[place], left[other] = left[other], left[place]
    return left[:count]


_BLOCK = 512
"""Bits that one hash gives."""
_FRACTION = 53
"""Bits of a float's fraction."""
_SPARE = 64
"""Bits drawn beyond those of a bound: no number is likelier than another by more than one in 2**64."""


class Stream:
    """Bits that are a function of a text and of an entry's id, the same in each version of Python: BLAKE2b, counted."""

    def __init__(self, text: str, entry: str) -> None:
        self._name = f"{text}/{entry}".encode()
        self._blocks = 0

    def _bits(self, count: int) -> int:
        import hashlib  # noqa: PLC0415 - not needed to import the library

        value = bits = 0
        while bits < count:
            salt = self._blocks.to_bytes(16, "big")
            block = hashlib.blake2b(self._name, digest_size=_BLOCK // 8, salt=salt, person=b"skuld.random").digest()
            value = value << _BLOCK | int.from_bytes(block, "big")
            bits += _BLOCK
            self._blocks += 1
        return value >> (bits - count)

    def fraction(self) -> float:
        """A multiple of 2**-53, from 0 up to, but without, 1."""
        return self._bits(_FRACTION) / (1 << _FRACTION)

    def below(self, bound: int) -> int:
        """A whole number from 0 up to, but without, *bound*."""
        bits = bound.bit_length() + _SPARE
        return (self._bits(bits) * bound) >> bits


class Random:
    """Chance, derived from the run's seed and the entry's id: nothing is stored, a replay draws the same.

    Gotchas:
        The seed stands in the log: make no secrets of these.
    """

    @staticmethod
    def random() -> Effect[float]:
        """A fraction from 0 up to, but without, 1."""
        return RandomFraction()

    @staticmethod
    def int(low: builtins.int, high: builtins.int) -> Effect[builtins.int]:
        """A whole number from *low* to *high*, both included."""
        if low > high:
            message = f"Random.int({low}, {high}): the lower bound comes first; write Random.int({high}, {low})"
            raise ValueError(message)
        return RandomInt(low, high)

    @staticmethod
    def choice(options: Sequence[T]) -> Effect[T]:
        """One of *options*: the object itself."""
        ordered = _ordered(options, "choice(options)", "options")
        if not ordered:
            message = "Random.choice(options): there are no options; ask only `if options:`"
            raise ValueError(message)
        return RandomChoice(ordered)

    @staticmethod
    def shuffle(items: Sequence[T]) -> Effect[list[T]]:
        """The items in another order, as a new list."""
        return RandomShuffle(_ordered(items, "shuffle(items)", "items"))

    @staticmethod
    def sample(items: Sequence[T], count: builtins.int) -> Effect[list[T]]:
        """*count* of the items, each at most once, in the order in which they were drawn."""
        ordered = _ordered(items, "sample(items, count)", "items")
        if not 0 <= count <= len(ordered):
            message = (
                f"Random.sample(items, {count}): there are {len(ordered)} items; "
                f"take at most that many: Random.sample(items, min(count, len(items)))"
            )
            raise ValueError(message)
        return RandomSample(ordered, count)

    @staticmethod
    def seeded(text: str) -> Handler:
        """A handler whose draws are a function of *text* and the entry's id, whatever the run's seed; for tests."""

        def draw(effect: RandomEffect[Any]) -> Any:
            strand = cast("Strand", current_strand.get())
            return effect.draw(Stream(text, strand.stack[-1].place.current_id))

        return FunctionHandler(RandomEffect, draw, "Random.seeded")

    @staticmethod
    def fixed(*fractions: float) -> Handler:
        """A handler that uses *fractions* in turn, over and over; for tests.

        `random` gives the fraction itself; 0 stands for the first option or the lowest number, 0.999 for the last.
        `shuffle` and `sample` use one for each item that they draw.
        """
        if not fractions or not all(0 <= fraction < 1 for fraction in fractions):
            message = f"Random.fixed{fractions}: give fractions from 0 up to, but without, 1, as Random.fixed(0.5, 0.1)"
            raise ValueError(message)
        return _Fixed(fractions)


def _ordered(items: Sequence[T], call: str, name: str) -> list[T]:
    if isinstance(items, AbstractSet):
        message = f"Random.{call}: a set has another order in each process; write sorted({name})"
        raise ValueError(message)  # noqa: TRY004 - its order is what is wrong with it
    return list(items)


class _Fixed(Handler):
    label = "Random.fixed"

    def __init__(self, fractions: Sequence[float]) -> None:
        self._fractions = fractions

    def install(self) -> Installed:
        cell = Cell(self.label, int, 0)
        source = _InTurn(self._fractions, cell)

        def draw(effect: RandomEffect[Any]) -> Any:
            return effect.draw(source)

        # Each class by its own name, by which a replay finds what the handler of another effect has drawn.
        kinds = (RandomFraction, RandomInt, RandomChoice, RandomShuffle, RandomSample)
        return Installed(dict.fromkeys(kinds, draw), [cell])


class _InTurn:
    def __init__(self, fractions: Sequence[float], used: Cell[int]) -> None:
        self._fractions = fractions
        self._used = used

    def fraction(self) -> float:
        self._used.value += 1
        return self._fractions[(self._used.value - 1) % len(self._fractions)]

    def below(self, bound: int) -> int:
        part, whole = self.fraction().as_integer_ratio()
        return part * bound // whole
