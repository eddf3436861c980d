"""What workflows and their ports log says of which run and entry it is, once."""

import logging

import pytest

from skuld_async import Effectful, Parallel, Return, computation
from skuld_async.durable import RunLogFilter
from skuld_async.stores.memory import MemoryStore

from .parts import Comment, Desk, Line, Office, comment, dying, open_waits, put_away, runtime, stands

logger = logging.getLogger("tests.durable.flow")


class Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self.addFilter(RunLogFilter())
        self.setFormatter(logging.Formatter("%(run)s %(entry)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(self.format(record))


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture(autouse=True)
def attached(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """What these loggers say comes to *lines*."""
    for name in ("tests.durable.flow", "skuld_async.runtime"):
        one = logging.getLogger(name)
        monkeypatch.setattr(one, "handlers", [lines])
        monkeypatch.setattr(one, "propagate", False)
    logger.setLevel(logging.INFO)


class Logging(Desk):
    async def do(self, what: str) -> str:
        logger.info("called %s", what)
        return await super().do(what)

    once = do


@computation
async def tells(name: str) -> Effectful[str]:
    logger.info("begins %s", name)
    yield Office.do("a")
    logger.info("has called")
    said = yield Comment(name)
    logger.info("was told %s", said)
    yield Office.do("b")
    yield Return(said)


async def test_nothing_is_logged_again_by_a_replay(lines: Lines) -> None:
    """Each line comes once, though the run is loaded again; with run and entry, in body and port."""
    async with runtime(MemoryStore(), Logging(), workflows=[tells], idle=0) as one:
        run = await one.start(tells("x"), id="one")
        (wait,) = await open_waits(one)
        await put_away(one)
        await one.answer(wait, "said")
        await run.result(10)
    assert lines.said == [
        "one 0/0 begins x",
        "one 0/1 called a",
        "one 0/1 has called",
        "one 0/2 was told said",
        "one 0/3 called b",
    ]


async def test_a_crash_repeats_what_it_repeats(lines: Lines) -> None:
    """What is performed again is logged again: nothing that happened is hidden."""
    store = MemoryStore()
    line = Line(store)
    line.breaks_at(1, "before", dies=True)
    async with dying(line, Logging(), workflows=[tells]) as one:
        await one.start(tells("x"), id="one")
        await line.cut.wait()
    async with runtime(store, Logging(), workflows=[tells]) as two:
        await stands(two, "one")
    assert [said for said in lines.said if said.startswith("one") and "cannot be written" not in said] == [
        *("one 0/0 begins x", "one 0/1 called a") * 2,
        "one 0/1 has called",
    ]


async def test_branches_are_told_apart(lines: Lines) -> None:
    """Each line has the entry of its own strand."""

    @computation
    async def both() -> Effectful[tuple[str, str]]:
        yield Return((yield Parallel.all(tells("left"), tells("right"))))

    async with runtime(MemoryStore(), Logging(), workflows=[both, comment]) as one:
        await one.start(both(), id="one")
        await open_waits(one, count=2)
    assert sorted(lines.said) == [
        "one 0/2.1/0 begins left",
        "one 0/2.1/1 called a",
        "one 0/2.1/1 has called",
        "one 0/2.2/0 begins right",
        "one 0/2.2/1 called a",
        "one 0/2.2/1 has called",
    ]


def test_records_of_others_pass(lines: Lines) -> None:
    """Outside of a run there is neither; the record is kept."""
    logger.info("outside")
    assert lines.said == ["- - outside"]


async def test_what_goes_wrong_is_logged_with_its_run(lines: Lines) -> None:
    """A store that fails, and a run that needs attention, are errors of the logger ``skuld_async.runtime``."""
    line = Line(MemoryStore())
    line.breaks_at(1, "before")
    async with runtime(line, Logging(), workflows=[tells]) as one:
        await one.start(tells("x"), id="one")
        await stands(one, "one")
    assert [said for said in lines.said if "cannot be written" in said and "run one" in said]
