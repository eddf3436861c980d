"""Parking: what is written of a run that cannot go on until a person has looked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from skuld_async._answers import AnswerError
from skuld_async._errors import (
    DeclarationError,
    DivergenceError,
    LogDecodeError,
    UndecodableError,
    UnencodableError,
    UnhandledEffectError,
)
from skuld_async._misuse import MisuseError
from skuld_async.log.failures import encodable

from .errors import RecoveriesError, UnknownWorkflowError
from .records import Append

if TYPE_CHECKING:
    from .clock import RunClock
    from .records import RunRecord, RunStatus

UNKNOWN_WORKFLOW = "unknown-workflow"
"""Why a run needs attention whose workflow no worker knows."""


def parking(record: RunRecord, status: RunStatus, attention: str, error: Exception, clock: RunClock) -> Append:
    """What parks a run that cannot be moved."""
    assert record.owner is not None
    return Append(
        run=record.id,
        worker=record.owner,
        token=record.token,
        number=record.appends + 1,
        at=clock.seconds(),
        status=status,
        attention=attention,
        error=as_data(error),
        release=True,
        progress=False,
    )


_WORDS: dict[type[Exception], str] = {
    DivergenceError: "divergence",
    UnhandledEffectError: "no-handler",
    UndecodableError: "undecodable",
    DeclarationError: "undecodable",
    UnencodableError: "unencodable",
    LogDecodeError: "damaged",
    AnswerError: "answer",
    MisuseError: "misuse",
    UnknownWorkflowError: UNKNOWN_WORKFLOW,
    RecoveriesError: "recoveries",
}


def word_of(error: Exception) -> str:
    """What kind of attention *error* needs."""
    return next((word for kind, word in _WORDS.items() if isinstance(error, kind)), "error")


def as_data(error: Exception) -> bytes:
    """*error* as a run's record has it."""
    kind = type(error)
    return msgspec.json.encode({"type": f"{kind.__module__}:{kind.__qualname__}", "message": encodable(f"{error}")})
