"""6.4, 6.5 with strands: matching is per strand; what was performed is never performed again."""

from typing import Any

import anyio
import pytest

from skuld_async import (
    Computation,
    Divergence,
    DivergenceError,
    Effect,
    Effectful,
    Log,
    Parallel,
    Return,
    Won,
    computation,
    open_session,
    replay,
    start,
)

from .parts import (
    Ask,
    Call,
    Desk,
    Release,
    again,
    asks,
    calls,
    cancelled,
    completed,
    failed,
    ids,
    notes,
    states,
    stored,
    suspended,
    tells,
    waits_by_name,
)


class Deliver(Effect[str], frozen=True):
    name: str


async def delivers(effect: Deliver) -> str:
    """A handler that tells, and opens branches which tell."""
    await notes.tell(effect.name)
    await Parallel.all(tells("x"), tells("y"))
    return effect.name


PAID = ("charge a", "charge b", "charge c")


def root(comp: Any) -> Computation[Any]:
    """*comp* as a root of one name, then a question, so that what was done is there to be compared."""

    @computation(name="strands:job")
    async def job() -> Effectful[Any]:
        found = yield comp
        yield Ask("more?")
        yield Return(found)

    return job()


async def parked(comp: Any, desk: Desk | None = None) -> Log:
    return suspended(await start(root(comp), *(desk or Desk()).handlers, id="r")).log


# -- strict ----------------------------------------------------------------------------------------------------------


@computation(name="strands:branch")
async def branch(*names: str) -> Effectful[str]:
    last = ""
    for name in names:
        last = yield Call(name)
    yield Return(last)


CHANGES: dict[str, tuple[Any, str]] = {
    "another-call": (Parallel.all(branch("a", "other"), branch("c")), "Call is requested with other data"),
    "a-call-added": (
        Parallel.all(branch("a", "b", "new"), branch("c")),
        "something new is requested in the Parallel.all 0/2",
    ),
    "a-call-removed": (Parallel.all(branch("a"), branch("c")), r"of branch 1 returned, but the log goes on"),
    "a-branch-added": (
        Parallel.all(branch("a", "b"), branch("c"), branch("d")),
        "Parallel.all is requested with other",
    ),
    "a-branch-removed": (Parallel.all(branch("a", "b")), "Parallel.all is requested with other"),
    "branches-swapped": (Parallel.all(branch("c"), branch("a", "b")), "Call is requested with other data"),
    "a-race-instead": (Parallel.race(a=branch("a", "b"), b=branch("c")), "Parallel.race is requested where"),
    "a-map-instead": (Parallel.map(branch, ["a", "c"]), "Parallel.map is requested where"),
    "gone": (branch("a", "b"), "Call is requested where the log holds Parallel.all"),
    "settle": (Parallel.all(branch("a", "b"), branch("c"), settle=True), "Parallel.all is requested with other"),
}


@pytest.mark.parametrize("change", list(CHANGES))
async def test_a_change_is_a_divergence(change: str) -> None:
    """6.4 Strict by default: a change in a concurrent effect that is over is a divergence, and nothing is performed."""
    changed, message = CHANGES[change]
    log = await parked(Parallel.all(branch("a", "b"), branch("c")))
    desk = Desk()
    with pytest.raises(DivergenceError, match=message) as caught:
        await again(root(changed), log, *desk.handlers, answer="yes")
    assert desk.arrived == []
    assert caught.value.log.to_json() == log.to_json()


async def test_the_error_names_the_line_in_the_branch() -> None:
    """6.4 The error names source file and line of the request in the branch, and the entries of that strand."""
    name = "a2"

    @computation
    async def changes() -> Effectful[str]:
        yield Call("a1")
        yield Call(name)
        yield Return((yield Ask("a")))

    comp = Parallel.all(changes(), asks("b"), calls("c1", "c2", "c3"))
    log = suspended(await start(comp, *Desk().handlers)).log
    name = "changed"
    with pytest.raises(DivergenceError) as caught:
        await again(comp, log, *Desk().handlers)
    error = caught.value
    file, _, line = error.line.rpartition(":")
    assert file == __file__
    with open(__file__, encoding="utf-8") as source:  # noqa: PTH123, ASYNC230
        assert "yield Call(name)" in source.read().splitlines()[int(line) - 1]
    assert error.entry == "0/1.1/2"
    assert error.differences == ('$.name: "a2" -> "changed"',)
    assert [one.split()[0] for one in error.matched] == ["0/1.1/1"]


async def test_a_change_in_a_branch_that_is_under_way() -> None:
    """6.4 A branch that still runs is compared like any strand: its end before its log is a divergence too."""
    long = True

    @computation
    async def shrinks() -> Effectful[str]:
        yield Call("a")
        if long:
            yield Call("b")
        yield Return("")

    comp = Parallel.all(shrinks(), asks("c"))
    log = suspended(await start(comp, *Desk().handlers)).log
    long = False
    desk = Desk()
    with pytest.raises(DivergenceError, match="of branch 1 returned, but the log goes on with Call"):
        await again(comp, log, *desk.handlers)
    assert desk.arrived == []


async def test_another_winner_is_a_divergence() -> None:
    """6.4 The recorded winner is gone from the code, or does something else: refused, not decided anew."""
    desk = Desk("x")

    def race(**more: Any) -> Computation[Any]:
        return Parallel.race(**more)

    log = await parked(race(a=calls("x"), b=calls("y", "hang")), released(desk))
    for other in (race(c=calls("x"), b=calls("y", "hang")), race(a=calls("z"), b=calls("y", "hang"))):
        later = Desk()
        with pytest.raises(DivergenceError):
            await again(root(other), log, *later.handlers, answer="yes")
        assert later.arrived == []


def released(desk: Desk) -> Desk:
    desk.let("x")
    return desk


async def test_a_branch_that_returns_another_value() -> None:
    """6.4 What the branches return is code: with the same effects, another result replays as the code says now."""
    word = "one"

    @computation
    async def says() -> Effectful[str]:
        yield Call("a")
        yield Return(word)

    comp = Parallel.all(says(), calls("b"))
    outcome = completed(await start(comp, *Desk().handlers))
    word = "two"
    with pytest.raises(DivergenceError, match="another result than the log holds"):
        await replay(comp, stored(outcome.log), *Desk().handlers)


async def test_a_branch_that_no_longer_fails() -> None:
    """6.4 The recorded error of a branch does not come again: the run ends otherwise than its log says."""
    broken = True

    @computation
    async def maybe() -> Effectful[str]:
        yield Call("a")
        if broken:
            message = "bug"
            raise ValueError(message)
        yield Return("fixed")

    comp = Parallel.all(maybe(), calls("hang"))
    outcome = failed(await start(comp, *Desk().handlers))
    broken = False
    desk = Desk()
    with pytest.raises(DivergenceError):
        await replay(comp, stored(outcome.log), *desk.handlers)
    assert desk.arrived == []


# -- accepted --------------------------------------------------------------------------------------------------------


def never_again(log: Log, desk: Desk) -> None:
    """No call that the log holds as executed was performed again."""
    done = [bytes(entry.data).decode() for entry in log.entries if entry.state == "executed" and "Call" in entry.sig]
    assert not [name for name in desk.arrived if f'{{"name":"{name}"}}' in done]


ACCEPTED: dict[str, tuple[Any, list[str], Any]] = {
    "branch-added": (
        Parallel.all(calls("charge a"), calls("charge b"), calls("charge c"), calls("new")),
        ["new"],
        ["CHARGE A", "CHARGE B", "CHARGE C", "NEW"],
    ),
    "branch-removed": (Parallel.all(calls("charge a"), calls("charge c")), [], ["CHARGE A", "CHARGE C"]),
    "branches-swapped": (
        Parallel.all(calls("charge c"), calls("charge a"), calls("charge b")),
        [],
        ["CHARGE C", "CHARGE A", "CHARGE B"],
    ),
    "a-branch-in-front": (
        Parallel.all(calls("new"), calls("charge a"), calls("charge b"), calls("charge c")),
        ["new"],
        ["NEW", "CHARGE A", "CHARGE B", "CHARGE C"],
    ),
    "moved-into-one": (Parallel.all(calls(*PAID)), [], ["CHARGE C"]),
    "a-call-in-front": (
        Parallel.all(calls("new", "charge a"), calls("charge b"), calls("charge c")),
        ["new"],
        ["CHARGE A", "CHARGE B", "CHARGE C"],
    ),
    "as-a-map": (Parallel.map(Call, PAID), [], ["CHARGE A", "CHARGE B", "CHARGE C"]),
    "one-after-the-other": (calls(*PAID), [], "CHARGE C"),
}


@pytest.mark.parametrize("change", list(ACCEPTED))
async def test_an_executed_call_is_never_performed_again(change: str) -> None:
    """6.5 With branches added, removed, swapped, or made into something else: what was performed is not repeated."""
    changed, new, value = ACCEPTED[change]
    log = await parked(Parallel.all(*(calls(name) for name in PAID)))
    desk = Desk()
    outcome = suspended(await again(root(changed), log, *desk.handlers, allow_divergence=True))
    assert desk.arrived == new
    never_again(log, desk)
    states(outcome.log)
    assert len(outcome.divergence.performed) >= len(new)
    strict = Desk()
    ended = completed(await again(root(changed), outcome.log, *strict.handlers, answer="yes"))
    assert ended.value == value
    assert strict.arrived == []


async def test_a_branch_under_way_that_was_moved() -> None:
    """6.5 Branches that still wait change places: each takes its calls and its answer along."""
    comp = Parallel.all(asks("a"), asks("b"))
    log = await parked(comp)
    desk = Desk()
    swapped = root(Parallel.all(asks("b"), asks("a")))
    outcome = suspended(await again(swapped, log, *desk.handlers, allow_divergence=True))
    assert desk.arrived == []
    answers = {wait.ref: bytes(wait.question).decode() for wait in outcome.waits}
    more = suspended(await again(swapped, outcome.log, *(later := Desk()).handlers, answers=answers))
    assert sorted(later.arrived) == ["after a", "after b"]
    ended = completed(await again(swapped, more.log, *Desk().handlers, answer="no"))
    assert ended.value == ['b: {"about":"b"}', 'a: {"about":"a"}']


async def test_a_log_that_fits_is_not_changed() -> None:
    """6.5 Where nothing diverges, ``allow_divergence`` changes nothing, in branches too."""
    comp = root(Parallel.all(asks("a"), calls("b", "c"), Parallel.race(x=calls("d"), y=asks("e"))))
    log = suspended(await start(comp, *Desk().handlers)).log
    desk = Desk()
    outcome = suspended(await again(comp, log, *desk.handlers, allow_divergence=True))
    assert outcome.divergence == Divergence()
    assert outcome.log.to_json() == log.to_json()
    assert desk.arrived == []


async def test_new_ids_are_new() -> None:
    """6.2 What is new in a branch takes an id that this log has never used, and so a key of its own."""
    log = await parked(Parallel.all(calls("charge a"), calls("charge b")))
    desk = Desk()
    changed = root(Parallel.all(calls("new", "charge a"), calls("charge b", "more")))
    outcome = suspended(await again(changed, log, *desk.handlers, allow_divergence=True))
    assert sorted(desk.arrived) == ["more", "new"]
    used = {f"r/{one}" for one in ids(log)}
    assert used.isdisjoint(desk.keys)
    assert completed(await again(changed, outcome.log, *Desk().handlers, answer="x")).value == ["CHARGE A", "MORE"]


async def test_a_changed_race_that_was_decided() -> None:
    """6.5 A race with another runner beside: what was performed is not repeated, and it is won again."""
    log = await parked(Parallel.race(a=calls("charge a"), b=asks("b")))
    desk = Desk()
    changed = root(Parallel.race(a=calls("charge a"), b=asks("b"), c=asks("c")))
    outcome: Any = await again(changed, log, *desk.handlers, allow_divergence=True)
    never_again(log, desk)
    ended: Any = completed(await again(changed, suspended(outcome).log, *Desk().handlers, answer="x"))
    assert ended.value in ({"name": "a", "value": "CHARGE A"}, Won("a", "CHARGE A"))


async def test_back_to_the_code_of_before() -> None:
    """6.5 There and back again: the calls of a branch that was gone in between are not performed again."""
    before = root(Parallel.all(calls("charge a"), calls("charge b")))
    without = root(Parallel.all(calls("charge a")))
    log = suspended(await start(before, *Desk().handlers)).log
    log = suspended(await again(without, log, *Desk().handlers, allow_divergence=True)).log
    desk = Desk()
    outcome = suspended(await again(before, log, *desk.handlers, allow_divergence=True))
    assert desk.arrived == []
    assert completed(await again(before, outcome.log, *Desk().handlers, answer="x")).value == ["CHARGE A", "CHARGE B"]


async def test_a_race_goes_on_without_a_branch_that_was_removed() -> None:
    """6.5 What a removed branch has logged is dropped: nobody waits for it, neither the race nor a run cancel."""
    log = suspended(await start(Parallel.race(a=asks("a"), b=asks("b"), c=asks("c")), *Desk().handlers)).log
    comp = Parallel.race(a=asks("a"), b=asks("b"))
    with anyio.fail_after(5):
        outcome = suspended(await again(comp, log, *Desk().handlers, allow_divergence=True))
        assert outcome.divergence == Divergence(dropped=("0/1.c/1", "0/1.c/2"))
        wait = waits_by_name(outcome)["b"]
        assert completed(await again(comp, outcome.log, *Desk().handlers, answer="x", to=wait)).value == Won(
            "b", "b: x"
        )
        async with open_session(comp, *Desk().handlers, log=stored(log), allow_divergence=True) as session:
            assert cancelled(await session.cancel()).log.waits == []


async def test_a_call_that_moved_brings_along_what_its_handler_did() -> None:
    """5.9, 6.5 The entries that a handler made stand under the call, wherever that now is: notes are told again."""
    desk = Desk()
    scope = [*desk.handlers, Deliver.handled_by(delivers)]
    log = suspended(await start(root(Parallel.all(Deliver("a"), Deliver("b"))), *scope)).log
    assert desk.arrived.count("x") == 2
    later = Desk()
    scope = [*later.handlers, Deliver.handled_by(delivers)]
    swapped = root(Parallel.all(Deliver("b"), Deliver("a")))
    outcome = suspended(await again(swapped, log, *scope, allow_divergence=True))
    assert later.arrived == []
    ended = completed(await again(swapped, outcome.log, *scope, answer="yes"))
    assert ended.value == ["b", "a"]
    assert ended.output(notes) == ["b", "x", "y", "a", "x", "y"]


@pytest.mark.parametrize("loser", ["question", "branches", "idle"])
async def test_a_changed_race_runs_its_losers_again_from_where_they_were_stopped(loser: str) -> None:
    """6.5 Undecided again: losers stand where they were before they were stopped, and no cleanup is performed twice."""

    @computation(name="strands:idles")
    async def idles() -> Effectful[str]:
        yield Call("begun")
        await anyio.sleep_forever()
        yield Return("")

    losers: dict[str, Computation[Any]] = {
        "question": asks("b"),
        "branches": Parallel.all(asks("b"), Parallel.race(x=asks("c").ensure(Release("deep")))),
        "idle": idles(),
    }
    slow = losers[loser].ensure(Release("slow"))
    desk = Desk("charge")
    comp = root(Parallel.race(a=calls("charge"), b=slow))
    async with open_session(comp, *desk.handlers) as session:
        await desk.at("begun" if loser == "idle" else "before b").wait()
        while len(session.log.waits) < {"question": 1, "branches": 2, "idle": 0}[loser]:
            await anyio.lowlevel.checkpoint()
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        desk.let("charge")
        suspended(await session.outcome())
    later = Desk()
    changed = root(Parallel.race(a=calls("charge"), b=slow, c=asks("d")))
    outcome = suspended(await again(changed, session.log, *later.handlers, allow_divergence=True))
    assert later.arrived in ([], ["before d"])
    assert "release slow" in desk.arrived
    ended = completed(await again(changed, outcome.log, *Desk().handlers, answer="x"))
    assert ended.value == {"name": "a", "value": "CHARGE"}
