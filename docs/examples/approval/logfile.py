"""One run, one file: written so that a crash leaves the old log or the new one, never half of one."""

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from workflow import Purchase

from skuld_async import DeploymentError, Log, LogDecodeError


class Arguments(msgspec.Struct, frozen=True):
    """What `approval` was called with, as the header of its log keeps it."""

    purchase: Purchase


def read_log(path: Path) -> Log:
    """The log in this file; raises `LogDecodeError` if it holds anything else."""
    return Log.from_json(path.read_bytes())


def purchase_of(log: Log) -> Purchase:
    """The purchase that this run is about: the command that goes on need not be told again."""
    try:
        return msgspec.json.decode(log.header.arguments, type=Arguments).purchase
    except msgspec.MsgspecError as error:
        raise LogDecodeError(str(error)) from error


def write_log(path: Path, log: Log) -> None:
    """Replace the file by this log, in one step, and not before all of it is on the disk."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(log.to_json())
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise


@contextmanager
def kept_on_error(path: Path, before: Log | None = None) -> Generator[None, None, None]:
    """Keep what a run performed before the deployment failed it: after the fix, the run goes on from there."""
    try:
        yield
    except DeploymentError as error:
        if error.log != before:
            write_log(path, error.log)
        raise
