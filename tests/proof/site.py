"""The site: what the scenarios of one proof share."""

import random
import tempfile
from pathlib import Path
from typing import NamedTuple

from .places import AnyPlace, Kind, OnPostgreSQL, OnSQLite
from .server import Server


class Row(NamedTuple):
    """What a scenario has shown."""

    runs: int
    kills: str
    repeated: int
    """Calls that would not have been made without faults; all of them under their key."""
    problems: list[str]
    note: str = ""


class Site:
    """Folder, PostgreSQL and chance.

    Args:
        folder: Where everything is kept.
        seed: What chance starts from.
        full: Whether there is much time.
    """

    def __init__(self, folder: Path, seed: int, *, full: bool) -> None:
        self.folder = folder
        self.seed = seed
        self.full = full
        self._server: Server | None = None
        self._places = 0

    def chance(self, scenario: str) -> random.Random:
        """That of a scenario, whatever was run before it."""
        return random.Random(f"{self.seed}/{scenario}")

    def place(self, kind: Kind, timeout: float = 30.0) -> AnyPlace:
        """A new one."""
        self._places += 1
        if kind == "sqlite":
            return OnSQLite(str(self.new_folder() / "runs.db"), timeout)
        return OnPostgreSQL(self.server.dsn, f"proof_{self._places}")

    def new_folder(self) -> Path:
        """An empty one."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    @property
    def server(self) -> Server:
        """PostgreSQL, started when it is first needed."""
        if self._server is None:
            self._server = Server(self.new_folder())
        return self._server

    def close(self) -> None:
        """Stop what was started."""
        if self._server is not None:
            self._server.close()
