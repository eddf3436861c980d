"""FileStore: what was not written to the end is left out, and what was damaged is found."""

import shutil
from pathlib import Path
from unittest.mock import patch

import pytest

from skuld_async.durable.errors import StoreSchemaError
from skuld_async.durable.records import Closing
from skuld_async.stores.file import FileStore
from skuld_async.stores.file.errors import DamagedFileError
from skuld_async.stores.file.state import State
from skuld_async.testing.stores.samples import owned, question

from .file_parts import append, file_of, names_in, states_in


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def _with_last_line(folder: Path) -> tuple[bytes, int, dict[str, State | None]]:
    """What a file holds, where its last line begins, and the states without that."""
    async with FileStore(folder, fsync=False) as store:
        await owned(store)
        await append(store, opens=(question(),))
        states = {"run": store.state("run")}
        await append(store, chunk=b'["last"]', closes=(Closing("0/1", answered=False),))
    data = file_of(folder).read_bytes()
    return data, data[:-1].rindex(b"\n") + 1, states


async def _is_ignored(folder: Path, data: bytes, states: dict[str, State | None]) -> None:
    file_of(folder).write_bytes(data)
    async with FileStore(folder, fsync=False) as store:
        assert {"run": store.state("run")} == states
        await append(store, chunk=b'["again"]')
    after = await states_in(folder)
    assert after["run"] is not None
    assert [*after["run"].chunks] == [b"first", b"next", b'["again"]']


async def test_a_last_line_that_is_torn_anywhere_is_ignored(folder: Path) -> None:
    """Cut off at each of its bytes, the file gives what was there before it; the next append follows that."""
    data, begin, states = await _with_last_line(folder)
    assert len(data) - begin > 100
    for end in range(begin, len(data)):
        await _is_ignored(folder, data[:end], states)


async def test_a_last_line_of_which_parts_are_missing_is_ignored(folder: Path) -> None:
    """A disk may have written the end of a line and not its middle, or have made a file longer and written nothing."""
    data, begin, states = await _with_last_line(folder)
    for place in range(begin, len(data)):
        await _is_ignored(folder, data[:place] + b"\0" + data[place + 1 :], states)
    await _is_ignored(folder, data[:begin] + bytes(5000), states)


async def test_a_run_that_was_only_begun_is_none(folder: Path) -> None:
    """A file whose only line is torn is removed, and so is one that had not got its name."""
    async with FileStore(folder) as store:
        await owned(store)
    data = file_of(folder).read_bytes()
    file_of(folder).write_bytes(data[:-1])
    file_of(folder, "other").with_suffix(".new").write_bytes(data)
    assert await states_in(folder) == {}
    assert names_in(folder) == ["lock"]


async def _damaged(folder: Path, data: bytes) -> DamagedFileError:
    file_of(folder).write_bytes(data)
    with pytest.raises(DamagedFileError) as caught:
        await FileStore(folder).__aenter__()
    assert caught.value.file == str(file_of(folder))
    assert file_of(folder).read_bytes() == data
    return caught.value


async def test_damage_before_the_last_line_is_an_error(folder: Path) -> None:
    """Each byte of the first lines counts: an error names file, line and way out, and nothing is touched."""
    data, begin, _ = await _with_last_line(folder)
    lines = data[:begin].splitlines(keepends=True)
    for place in range(begin):
        if data[place] != ord("\n"):
            error = await _damaged(folder, data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
            assert error.line == 1 + (place >= len(lines[0]))
    assert str(error).startswith(
        f"{file_of(folder)}, line 2: its checksum is not that of its content. Put the file back"
    )


async def test_lines_that_are_missing_or_twice_are_damage(folder: Path) -> None:
    """A line in another's place is recognised by its number."""
    data, _, _ = await _with_last_line(folder)
    one, two, three = data.splitlines(keepends=True)
    for lines in ([one, three], [one, one, two, three], [two, three], [one, two, three, three]):
        error = await _damaged(folder, b"".join(lines))
        assert "it is the line that was written as number" in str(error)


async def test_a_copy_under_another_name_is_refused(folder: Path) -> None:
    """Two files of one run cannot both be right."""
    async with FileStore(folder) as store:
        await owned(store)
    shutil.copy(file_of(folder), folder / "run copy.jsonl")
    with pytest.raises(DamagedFileError, match=r"file of the run 'run', which is called run\.jsonl"):
        await FileStore(folder).__aenter__()
    (folder / "run copy.jsonl").unlink()
    assert [*await states_in(folder)] == ["run"]


async def test_a_file_of_a_later_release_is_named(folder: Path) -> None:
    """A format that this release does not know is no damage."""
    with patch("skuld_async.stores.file.lines.FORMAT", 2):
        async with FileStore(folder) as store:
            await owned(store)
    with pytest.raises(StoreSchemaError, match="format 2, and this release knows 1"):
        await FileStore(folder).__aenter__()


async def test_other_files_are_left_alone(folder: Path) -> None:
    """What is no file of a run stays where it is, whatever it holds."""
    folder.mkdir()
    (folder / "README.md").write_text("mine")
    assert await states_in(folder) == {}
    assert (folder / "README.md").read_text() == "mine"
