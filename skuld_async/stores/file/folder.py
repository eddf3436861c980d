"""Folders: the files of the runs, and the lock that says whose they are. What is here blocks; it belongs to a thread.

The rules:

1. A file grows by whole lines, or is replaced by a new one under its name. It is known how many of its bytes count, so
   that what a failed write has left behind them can be cut off.
2. What was begun and not finished is removed when the folder is opened: a last line that is torn, a file that had not
   got its name.
3. A new name in a folder, or one less, is on the disk when the folder is.
"""

from __future__ import annotations

import os
import sys
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .errors import DamagedFileError, FolderInUseError
from .lines import read_lines
from .state import State, after_line

if TYPE_CHECKING:
    from collections.abc import Iterable

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_ENDING = ".jsonl"
_UNFINISHED = ".new"
_LOCK = "lock"
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")
_LONGEST = 200
"""Bytes of a name, without its ending: file systems allow 255."""


class Kept(NamedTuple):
    """A run, and how much of its file counts."""

    state: State
    lines: int
    size: int


class Write(NamedTuple):
    """What is to be done to the file of a run."""

    run: str
    size: int
    """How much of it counts until now; 0 where there is none."""
    lines: bytes
    """What is added to it."""
    anew: bool
    """Whether *lines* take the place of all that it holds; if there are none, the file is removed."""


def name_of(run: str) -> str:
    """The name of the file of a run: its id, with all but small letters, digits, ``-`` and ``_`` quoted as in a URL.

    Capital letters are no exception, since some file systems take them for small ones. Of an id that is too long for a
    name there are the beginning and a hash.
    """
    name = "".join(one if one in _PLAIN else "".join(f"%{byte:02x}" for byte in one.encode()) for one in run)
    if len(name) > _LONGEST:
        name = f"{name[: _LONGEST // 2]}~{sha256(run.encode()).hexdigest()}"
    name = name or "%"
    return name + _ENDING


class Folder:
    """A folder of runs, open in this process.

    Args:
        path: Of the folder; created where there is none.
        fsync: Whether what is written is on the disk before it counts.
    """

    def __init__(self, path: Path, *, fsync: bool) -> None:
        self.path = path
        self._fsync = fsync
        self._lock: int | None = None

    def open(self) -> list[Kept]:
        """Take the lock, and read all runs.

        Raises:
            FolderInUseError: Another store has the lock.
            DamagedFileError: A file does not hold what was written to it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(self.path)
        try:
            return [kept for file in sorted(self.path.iterdir()) if (kept := self._read(file)) is not None]
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the lock back."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def write(self, writes: Iterable[Write]) -> dict[str, OSError]:
        """Do all these, each for itself.

        Returns:
            What went wrong with which run; its file is as it was before.

        Raises:
            OSError: It is not known what the files hold.
        """
        failed: dict[str, OSError] = {}
        names_changed = False
        for write in writes:
            try:
                self._write(write)
            except OSError as error:
                failed[write.run] = error
                self._undo(write)
            else:
                names_changed = names_changed or write.anew or write.size == 0
        if names_changed:
            self._sync_names()
        return failed

    def _write(self, write: Write) -> None:
        file = self.path / name_of(write.run)
        if not write.anew:
            self._put(file, "ab", write.lines)
        elif write.lines:
            unfinished = file.with_suffix(_UNFINISHED)
            self._put(unfinished, "wb", write.lines)
            unfinished.replace(file)
        else:
            file.unlink(missing_ok=True)

    def _put(self, file: Path, mode: str, data: bytes) -> None:
        with file.open(mode, buffering=0) as stream:
            rest = memoryview(data)
            while rest:
                rest = rest[stream.write(rest) :]
            if self._fsync:
                os.fsync(stream.fileno())

    def _undo(self, write: Write) -> None:
        file = self.path / name_of(write.run)
        file.with_suffix(_UNFINISHED).unlink(missing_ok=True)
        if write.anew:
            return
        if write.size == 0:
            file.unlink(missing_ok=True)
        else:
            os.truncate(file, write.size)

    def _sync_names(self) -> None:
        if self._fsync and sys.platform != "win32":  # which writes names by itself, and opens no folder
            number = os.open(self.path, os.O_RDONLY)
            try:
                os.fsync(number)
            finally:
                os.close(number)

    def _read(self, file: Path) -> Kept | None:
        if file.suffix == _UNFINISHED:
            file.unlink()
        if file.suffix != _ENDING:
            return None
        data = file.read_bytes()
        lines, size = read_lines(str(file), data)
        if not lines:
            file.unlink()
            return None
        if size < len(data):
            os.truncate(file, size)
        state: State | None = None
        for line in lines:
            try:
                state = after_line(state, line)
            except (TypeError, ValueError, LookupError) as error:
                raise DamagedFileError(str(file), line.n, f"it does not follow from those before it: {error}") from None
        assert state is not None
        if file.name != name_of(state.record.id):
            problem = f"it is the file of the run {state.record.id!r}, which is called {name_of(state.record.id)}"
            raise DamagedFileError(str(file), 1, problem)
        return Kept(state, len(lines), size)


def _locked(folder: Path) -> int:
    """Take the lock of a folder; it is free when the process ends, however it does."""
    number = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if sys.platform == "win32":
            os.lseek(number, 1 << 30, os.SEEK_SET)  # behind the text: what is locked cannot be read
            msvcrt.locking(number, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.lseek(number, 0, os.SEEK_SET)
        holder = os.read(number, 100).decode(errors="replace") or "another process"
        os.close(number)
        raise FolderInUseError(str(folder), holder) from None
    os.truncate(number, 0)
    os.lseek(number, 0, os.SEEK_SET)
    os.write(number, f"process {os.getpid()}".encode())
    return number
