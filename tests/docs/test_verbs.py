"""docs/reference/verbs.md: its table is the one of the code, and each cell of it is true."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from skuld_async import (
    Cancelled,
    Completed,
    Computation,
    DeploymentError,
    Effectful,
    Failed,
    Handler,
    Log,
    Outcome,
    Return,
    Suspended,
    Yield,
    computation,
    open_session,
    port,
    replay,
    rerun,
    resume,
    start,
)
from skuld_async.log import verbs

from .pages import ROOT

PAGE = ROOT / "docs" / "reference" / "verbs.md"


def table_of_the_page() -> list[list[str]]:
    """The rows of the first table, without its rule."""
    rows = re.findall(r"^\|(.+)\|$", PAGE.read_text(encoding="utf-8").split("*Refused*")[0], re.MULTILINE)
    cells = [[cell.strip().replace("`", "") for cell in row.split("|")] for row in rows]
    return [row for row in cells if not row[0].startswith("---")]


def table_of_the_code() -> list[list[str]]:
    """The same of the module's docstring."""
    rows = str(verbs.__doc__).split("\n\n")[1].splitlines()
    return [re.split(r"\s{2,}", row) for row in rows if not row.startswith("===")]


TABLE = table_of_the_page()
CELLS = [
    pytest.param(row[0], status, cell, id=f"{row[0]} {status}")
    for row in TABLE[2:]
    for status, cell in zip(TABLE[0][1:], row[1:], strict=True)
]


class Question(Yield[str], frozen=True):
    text: str


@port
async def fetch(text: str) -> str:
    if text == "broken":
        raise ConnectionError(text)
    return text


@computation
async def asks(text: str) -> Effectful[str]:
    """Fails where the text is broken; else it asks."""
    found = yield fetch(text)
    answer = yield Question(found)
    yield Return(answer)


async def log_of(status: str) -> tuple[Computation[str], Log]:
    """A run of that status."""
    comp = asks("broken" if status == "failed" else "found")
    if status == "running":
        log = Log()
        with anyio.CancelScope() as caller:

            async def hang(text: str) -> str:
                caller.cancel()
                await anyio.sleep_forever()
                return text

            await start(comp, fetch.handled_by(hang), into=log)
        return comp, log
    async with open_session(comp, fetch.default()) as session:
        await session.outcome()
        if status == "completed":
            await session.answer("yes")
        elif status == "cancelled":
            await session.cancel("enough")
        outcome = await session.outcome()
    return comp, outcome.log


async def answered(comp: Computation[Any], log: Log, *handlers: Handler) -> Outcome[Any]:
    return await resume(comp, log, *handlers, answer="yes")


VERBS: dict[str, Callable[..., Awaitable[Outcome[Any]]]] = {
    "resume": resume,
    "resume(answer=)": answered,
    "replay": replay,
    "rerun": rerun,
}

EXPECTED: dict[str, tuple[type[Any], str]] = {
    "suspends again": (Suspended, "suspended"),
    "Suspended": (Suspended, "running"),
    "the same result": (Completed, "completed"),
    "the same failure": (Failed, "failed"),
    "finishes the cleanup": (Cancelled, "cancelled"),
    "the same, verified": (Cancelled, "cancelled"),
}
"""Outcome and status behind each cell; the others are told in the test."""


def test_the_table_of_the_page_is_that_of_the_code() -> None:
    """The page shows what `skuld_async/log/verbs.py` says."""
    page = [[cell for cell in row if cell] for row in TABLE]

    assert page == table_of_the_code()


@pytest.mark.parametrize(("verb", "status", "cell"), CELLS)
async def test_a_verb_does_what_its_cell_says(verb: str, status: str, cell: str) -> None:
    """For each status and each verb; and the log that was given stays as it was."""
    comp, log = await log_of(status)
    before = log.to_json()
    calls: list[str] = []

    def works(text: str) -> str:
        calls.append(text)
        return "now it works"

    assert log.header.status == status
    if cell == "refused":
        with pytest.raises(DeploymentError):
            await VERBS[verb](comp, log, fetch.handled_by(works))
    else:
        outcome = await VERBS[verb](comp, log, fetch.handled_by(works))
        if cell == "goes on" and verb == "resume(answer=)":
            assert isinstance(outcome, Completed)
        elif cell in {"goes on", "runs it again"}:
            assert isinstance(outcome, Suspended)
            assert calls == [asks_for(status)]
        else:
            assert (type(outcome), outcome.log.header.status) == EXPECTED[cell]
            assert calls == []
    assert log.to_json() == before


def asks_for(status: str) -> str:
    """What the run of that status fetches."""
    return "broken" if status == "failed" else "found"
