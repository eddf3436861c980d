"""The books of the counter: every call that was ever made, and what is wrong with it.

The rules that a call is held against:

1. A step of a run has one key, and a key belongs to one step, with one value.
2. Once a log that holds the outcome was committed, nobody calls again: neither who wrote it, nor anybody who took the
   run later. Only a worker that was fenced off meanwhile, whose token is smaller, may still be in its last call.
3. Under one lease nothing is called twice: where an append fails, it is the append that is repeated.
4. What is called at most once is called at most once.

And an append against these: a number is written once, tokens grow with the numbers, and a run ends once.
"""

from collections import defaultdict

import msgspec

ENDED = ("completed", "failed", "cancelled")


class Call(msgspec.Struct, frozen=True):
    """An effect, as it arrives at its receiver."""

    run: str
    key: str
    step: str
    value: int
    token: int
    """The fencing token of the lease under which it is made."""
    worker: str
    once: bool = False


class Kept(msgspec.Struct, frozen=True):
    """What a worker knows to be committed: it wrote it, or found it."""

    run: str
    keys: list[str]
    """Of the calls whose outcome the log holds."""
    token: int
    number: int = 0
    """Of the append; 0 where it was found."""
    status: str | None = None
    """That the append gave to the run."""


class Tally(msgspec.Struct, frozen=True):
    """What became of all calls."""

    keys: int
    """Effects that happened."""
    calls: int
    late: int
    """Calls of workers that were fenced off, after the outcome was kept by another one."""
    most: int
    """Calls of the effect that was called most often."""
    appends: int
    wrong: list[str]

    @property
    def repeated(self) -> int:
        """Calls that would not have been made without a fault."""
        return self.calls - self.keys


class Line(msgspec.Struct, frozen=True):
    """One effect of a run."""

    step: str
    tokens: list[int]
    """Of the leases under which it was called."""
    kept: int | None
    """The smallest token under which its outcome was known to be committed."""


def answer_to(step: str, value: int) -> int:
    """What the counter answers."""
    return (value * 31 + sum(step.encode())) % 1_000_003


class Books:
    """Of one counter."""

    def __init__(self) -> None:
        self._calls: dict[str, list[Call]] = defaultdict(list)
        self._keys: dict[tuple[str, str], str] = {}
        self._kept: dict[str, int] = {}
        self._appends: dict[str, dict[int, int]] = defaultdict(dict)
        self._ends: dict[str, set[int]] = defaultdict(set)
        self._late = 0
        self._wrong: list[str] = []

    def call(self, call: Call) -> int:
        """Note a call; gives the answer."""
        earlier = self._calls[call.key]
        kept = self._kept.get(call.key)
        if self._keys.setdefault((call.run, call.step), call.key) != call.key:
            self._wrong.append(f"{call.run}: {call.step} is called under two keys, the second is {call.key}")
        if earlier and (earlier[0].step, earlier[0].value) != (call.step, call.value):
            self._wrong.append(f"{call.key} belongs to two calls: {earlier[0]}, {call}")
        if call.once and earlier:
            self._wrong.append(f"{call.key} ({call.step}) is called twice: {earlier[0]}, {call}")
        if kept is not None and call.token >= kept:
            self._wrong.append(f"{call.key} ({call.step}) is called again, its outcome was kept under {kept}: {call}")
        self._late += kept is not None
        if any(one.token == call.token for one in earlier):
            self._wrong.append(f"{call.key} ({call.step}) is called again under the same lease: {call}")
        earlier.append(call)
        return answer_to(call.step, call.value)

    def keep(self, kept: Kept) -> None:
        """Note that outcomes are committed."""
        for key in kept.keys:
            self._kept[key] = min(self._kept.get(key, kept.token), kept.token)
        if not kept.number:
            return
        if self._appends[kept.run].setdefault(kept.number, kept.token) != kept.token:
            self._wrong.append(f"{kept.run}: append {kept.number} was written twice")
        if kept.status in ENDED:
            self._ends[kept.run].add(kept.number)
            if len(self._ends[kept.run]) > 1:
                self._wrong.append(f"{kept.run} has ended twice")

    def of(self, run: str) -> list[Line]:
        """The effects of one run."""
        calls = [calls for calls in self._calls.values() if calls and calls[0].run == run]
        return [Line(each[0].step, [one.token for one in each], self._kept.get(each[0].key)) for each in calls]

    def tally(self) -> Tally:
        """All that is known."""
        wrong = list(self._wrong)
        for run, tokens in self._appends.items():
            written = [tokens[number] for number in sorted(tokens)]
            if written != sorted(written):
                wrong.append(f"{run}: a worker that was fenced off has written, tokens by append: {written}")
        lengths = [len(calls) for calls in self._calls.values() if calls]
        return Tally(
            keys=len(lengths),
            calls=sum(lengths),
            late=self._late,
            most=max(lengths, default=0),
            appends=sum(map(len, self._appends.values())),
            wrong=wrong,
        )
