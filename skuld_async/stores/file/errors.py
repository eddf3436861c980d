"""What goes wrong with a folder of runs."""

from __future__ import annotations

from skuld_async.durable.errors import StoreError


class FolderInUseError(StoreError):
    """A folder is open in another process, or in another store of this one."""

    def __init__(self, folder: str, holder: str) -> None:
        super().__init__(folder, holder)
        self.folder = folder
        self.holder = holder

    def __str__(self) -> str:
        return (
            f"{self.folder} is in use by {self.holder}: a FileStore belongs to one process, and to one store in it. "
            'End the other one, or take SQLiteStore("workflows.db"), which several processes may share'
        )


class DamagedFileError(StoreError):
    """A file of a run does not hold what was written to it."""

    def __init__(self, file: str, line: int, problem: str) -> None:
        super().__init__(file, line, problem)
        self.file = file
        self.line = line
        self.problem = problem

    def __str__(self) -> str:
        return (
            f"{self.file}, line {self.line}: {self.problem}. Put the file back from a back-up, or move it out of its "
            "folder: the other runs can then be opened without this one"
        )
