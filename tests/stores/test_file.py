"""FileStore: what a person finds in a folder of runs, and whose it is."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from skuld_async.durable.errors import StoreClosedError
from skuld_async.durable.records import Folded
from skuld_async.stores.file import FileStore
from skuld_async.stores.file.errors import FolderInUseError
from skuld_async.stores.file.folder import name_of
from skuld_async.testing.stores.samples import answer, deposit, event, owned, question

from .file_parts import append, file_of, names_in, record_of, states_in

WORKER = Path(__file__).with_name("file_worker.py")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_a_person_can_read_thefile_of(folder: Path) -> None:
    """Each change is a line of JSON, in which chunks, questions, answers and events stand as the JSON that they are."""
    async with FileStore(folder) as store:
        await owned(store, chunk=b'[0,{"entry":"1"}]')
        await append(store, chunk=b'[1,["second"]]', opens=(question(),), events=(event(1),))
        await store.answer(answer())
        await append(store, chunk=b"\x00\xff", status="completed", result=b'{"total": 3}', release=True)
    assert names_in(folder) == ["lock", "run.jsonl"]
    lines = [json.loads(line) for line in file_of(folder).read_text().splitlines()]
    assert [line["n"] for line in lines] == [1, 2, 3, 4]
    assert lines[0]["run"]["arguments"] == {"number": 1}
    assert [lines[0]["log"], lines[1]["log"]] == [[[0, {"entry": "1"}]], [[1, ["second"]]]]
    assert lines[1]["waits"][0]["question"] == {"amount": 5}
    assert lines[1]["events"] == [{"offset": 1, "at": event(1).at, "data": {"done": 1}}]
    assert lines[2]["waits"] == [
        {"id": "0/1", "state": "answered", "answer": "yes", "answered_by": "ann", "answered": answer().at}
    ]
    assert "log" not in lines[2]
    assert lines[3]["run"]["result"] == {"total": 3}
    assert lines[3]["log_base64"] == ["AP8="]


PAYLOADS = [
    b"",
    b"null",
    b"1",
    b' {"a": 1}',
    b'{"a": 1} ',
    b'{"a":\n1}',
    b'{"a":\r1}',
    b"\xff",
    b'"\xff"',
    b"{",
    b"1 1",
]


@pytest.mark.parametrize("payload", PAYLOADS, ids=repr)
async def test_every_byte_comes_back(folder: Path, payload: bytes) -> None:
    """Whatever the bytes are, and wherever they stand, they are the same when the folder is read again."""
    async with FileStore(folder) as store:
        await owned(store, arguments=payload, chunk=payload)
        wait = question(question=payload, schema=payload)
        await append(store, chunk=payload, opens=(wait,), events=(replace(event(1), data=payload),))
        await store.answer(answer(body=payload))
        await append(store, chunk=b"[]", status="failed", error=payload, result=payload)
        before = {"run": store.state("run")}
        assert await store.load("run") == ((payload, payload, b"[]"), (await store.inbox("run")))
    assert await states_in(folder) == before


async def test_a_new_log_takes_the_place_of_the_old_one(folder: Path) -> None:
    """An append with the whole log leaves a file of one line, with all that belongs to the run; others follow it."""
    async with FileStore(folder) as store:
        await owned(store)
        for offset in range(1, 30):
            await append(store, chunk=b"[%d]" % offset, opens=(question(id=f"0/{offset}"),), events=(event(offset),))
        await store.deposit(deposit())
        await append(store, chunk=b'["whole"]', replace=True, trim=28, folded=(Folded(1, "late"),))
        assert len(file_of(folder).read_bytes().splitlines()) == 1
        await append(store, chunk=b'["more"]')
        assert len(file_of(folder).read_bytes().splitlines()) == 2
        before = {"run": store.state("run")}
        assert (await store.load("run"))[0] == (b'["whole"]', b'["more"]')
    assert await states_in(folder) == before


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2, max_size=2, unique=True))
def test_each_id_has_a_file_of_its_own(ids: list[str]) -> None:
    """Any two ids have two names, also for a file system that takes capital letters for small ones."""
    names = [name_of(one) for one in ids]
    assert names[0].casefold() != names[1].casefold()
    assert all(len(name.encode()) < 250 and name.isascii() and "/" not in name and name[0] != "~" for name in names)


ODD = [
    "",
    ".",
    "..",
    "a/b",
    "A",
    "a",
    "Ä" * 500,
    "Ä" * 501,
    "lock",
    "con.jsonl",
    "x.new",
    "\x00",
    '*?<>|:"\\',
    "~",
    "%41",
]


async def test_runs_may_have_any_id(folder: Path) -> None:
    """Ids that are no names of files, or would be those of others, are kept and found again."""
    async with FileStore(folder) as store:
        for run in ODD:
            await owned(store, run, chunk=run.encode())
    async with FileStore(folder) as store:
        for run in ODD:
            assert (await store.load(run))[0] == (run.encode(),)
        for run in ODD:
            await append(store, run, release=True, status="completed")
            assert await store.delete(run) == "deleted"
    assert names_in(folder) == ["lock"]


def _process(folder: Path, task: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(WORKER), str(folder), task]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


async def test_a_second_process_is_told_who_has_the_folder(folder: Path) -> None:
    """It is refused with the process that has it and the way out, until that one has ended, however it did."""
    with _process(folder, "hold") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        with pytest.raises(FolderInUseError) as caught:
            await FileStore(folder).__aenter__()
        assert str(caught.value) == (
            f"{folder} is in use by process {process.pid}: a FileStore belongs to one process, and to one store in it. "
            'End the other one, or take SQLiteStore("workflows.db"), which several processes may share'
        )
        process.kill()
        process.wait()
    assert [*await states_in(folder)] == ["run"]


async def test_a_second_store_of_this_process_is_refused(folder: Path) -> None:
    """Two stores would not see what the other one does; one store may be entered twice, and is closed by the last."""
    async with FileStore(folder) as store:
        with pytest.raises(FolderInUseError, match=f"process {os.getpid()}"):
            await FileStore(folder).__aenter__()
        async with store:
            await owned(store)
        await append(store)
    with pytest.raises(StoreClosedError, match="FileStore"):
        await store.get("run")
    with pytest.raises(StoreClosedError, match="FileStore"):
        await store.delete("run")
    async with store:
        assert len((await store.load("run"))[0]) == 2


@pytest.mark.parametrize("seed", range(5))
async def test_a_process_that_is_killed_loses_nothing(folder: Path, seed: int) -> None:
    """All appends that it was told of are there after a SIGKILL in a stream of them, and at most one more."""
    with _process(folder, "write") as process:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(random.Random(seed).randrange(1, 150))]
        process.kill()
        told += process.stdout.readlines()
    last = int([line for line in told if line.endswith("\n")][-1])
    async with FileStore(folder) as store:
        record = await record_of(store)
        assert record.appends - last in {0, 1}
        begin = record.appends // 50 * 50 or 1
        assert (await store.load("run"))[0] == tuple(b"[%d]" % number for number in range(begin, record.appends + 1))
        await append(store)
