"""Durable workflows as a Python library: ordinary async code that stops, is kept as a small log, and goes on elsewhere.

Names are imported from their homes when they are first used, so that importing the package costs a program nothing that
it does not use. Type checkers read the block below; a test compares it with the table behind it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._answers import AlreadyAnsweredError as AlreadyAnsweredError
    from ._answers import AnswerError as AnswerError
    from ._answers import InvalidAnswerError as InvalidAnswerError
    from ._answers import NotWaitingError as NotWaitingError
    from ._answers import OtherQuestionError as OtherQuestionError
    from ._answers import SeveralWaitsError as SeveralWaitsError
    from ._answers import TooLateError as TooLateError
    from ._clock import TimedOut as TimedOut
    from ._computation import Computation as Computation
    from ._computation import Definition as Definition
    from ._computation import Effectful as Effectful
    from ._computation import computation as computation
    from ._effect import Effect as Effect
    from ._effect import Interceptor as Interceptor
    from ._effect import Kind as Kind
    from ._effect import Observation as Observation
    from ._effect import Perform as Perform
    from ._effect import Request as Request
    from ._effect import Return as Return
    from ._errors import ChannelClosedError as ChannelClosedError
    from ._errors import DeclarationError as DeclarationError
    from ._errors import DeploymentError as DeploymentError
    from ._errors import DivergenceError as DivergenceError
    from ._errors import EffectError as EffectError
    from ._errors import LifetimeError as LifetimeError
    from ._errors import LogDecodeError as LogDecodeError
    from ._errors import NotCompletedError as NotCompletedError
    from ._errors import OutcomeUnknown as OutcomeUnknown
    from ._errors import RerunRefusedError as RerunRefusedError
    from ._errors import ResultError as ResultError
    from ._errors import RolledBackError as RolledBackError
    from ._errors import RunCancelledError as RunCancelledError
    from ._errors import SkuldError as SkuldError
    from ._errors import StillWaitingError as StillWaitingError
    from ._errors import TaskCancelledError as TaskCancelledError
    from ._errors import UndecodableError as UndecodableError
    from ._errors import UnencodableError as UnencodableError
    from ._errors import UnhandledEffectError as UnhandledEffectError
    from ._handler import Cell as Cell
    from ._handler import Handler as Handler
    from ._handler import Installed as Installed
    from ._handler import lifetime as lifetime
    from ._misuse import DeadlineAcrossYieldError as DeadlineAcrossYieldError
    from ._misuse import DeadlockError as DeadlockError
    from ._misuse import EndlessUnwindError as EndlessUnwindError
    from ._misuse import MissingReturnError as MissingReturnError
    from ._misuse import MisuseError as MisuseError
    from ._misuse import NotAnEffectError as NotAnEffectError
    from ._misuse import OutsideStrandError as OutsideStrandError
    from ._misuse import RequestAfterReturnError as RequestAfterReturnError
    from ._misuse import TransientScopeError as TransientScopeError
    from ._misuse import UnawaitedAnswerError as UnawaitedAnswerError
    from ._retry import Retry as Retry
    from ._retry import RetryAfter as RetryAfter
    from ._run import current_call as current_call
    from ._run import run as run
    from ._strand import CurrentCall as CurrentCall
    from ._tasks import Task as Task
    from .effects.atomic import AtomicState as AtomicState
    from .effects.bracket import bracket as bracket
    from .effects.channel import Channel as Channel
    from .effects.clock import Clock as Clock
    from .effects.command import Command as Command
    from .effects.events import EventAccumulator as EventAccumulator
    from .effects.fork import cancel as cancel
    from .effects.fork import fork as fork
    from .effects.fork import join as join
    from .effects.fresh import Fresh as Fresh
    from .effects.loop import mark_loop as mark_loop
    from .effects.parallel import Parallel as Parallel
    from .effects.parallel import Won as Won
    from .effects.port import Port as Port
    from .effects.port import operation as operation
    from .effects.port import port as port
    from .effects.random import Random as Random
    from .effects.reader import Reader as Reader
    from .effects.state import State as State
    from .effects.throw import Throw as Throw
    from .effects.timeout import with_timeout as with_timeout
    from .effects.transaction import Transaction as Transaction
    from .effects.transaction import rollback as rollback
    from .effects.transaction import transact as transact
    from .effects.writer import Writer as Writer
    from .effects.yield_ import Yield as Yield
    from .log.divergence import Divergence as Divergence
    from .log.domain import DomainError as DomainError
    from .log.entry import Entry as Entry
    from .log.log import Log as Log
    from .log.log import Wait as Wait
    from .log.outcome import Cancelled as Cancelled
    from .log.outcome import Completed as Completed
    from .log.outcome import Failed as Failed
    from .log.outcome import Outcome as Outcome
    from .log.outcome import Suspended as Suspended
    from .log.session import Session as Session
    from .log.verbs import open_session as open_session
    from .log.verbs import replay as replay
    from .log.verbs import rerun as rerun
    from .log.verbs import resume as resume
    from .log.verbs import start as start

__all__ = [
    "AlreadyAnsweredError",
    "AnswerError",
    "AtomicState",
    "Cancelled",
    "Cell",
    "Channel",
    "ChannelClosedError",
    "Clock",
    "Command",
    "Completed",
    "Computation",
    "CurrentCall",
    "DeadlineAcrossYieldError",
    "DeadlockError",
    "DeclarationError",
    "Definition",
    "DeploymentError",
    "Divergence",
    "DivergenceError",
    "DomainError",
    "Effect",
    "EffectError",
    "Effectful",
    "EndlessUnwindError",
    "Entry",
    "EventAccumulator",
    "Failed",
    "Fresh",
    "Handler",
    "Installed",
    "Interceptor",
    "InvalidAnswerError",
    "Kind",
    "LifetimeError",
    "Log",
    "LogDecodeError",
    "MissingReturnError",
    "MisuseError",
    "NotAnEffectError",
    "NotCompletedError",
    "NotWaitingError",
    "Observation",
    "OtherQuestionError",
    "Outcome",
    "OutcomeUnknown",
    "OutsideStrandError",
    "Parallel",
    "Perform",
    "Port",
    "Random",
    "Reader",
    "Request",
    "RequestAfterReturnError",
    "RerunRefusedError",
    "ResultError",
    "Retry",
    "RetryAfter",
    "Return",
    "RolledBackError",
    "RunCancelledError",
    "Session",
    "SeveralWaitsError",
    "SkuldError",
    "State",
    "StillWaitingError",
    "Suspended",
    "Task",
    "TaskCancelledError",
    "Throw",
    "TimedOut",
    "TooLateError",
    "Transaction",
    "TransientScopeError",
    "UnawaitedAnswerError",
    "UndecodableError",
    "UnencodableError",
    "UnhandledEffectError",
    "Wait",
    "Won",
    "Writer",
    "Yield",
    "bracket",
    "cancel",
    "computation",
    "current_call",
    "fork",
    "join",
    "lifetime",
    "mark_loop",
    "open_session",
    "operation",
    "port",
    "replay",
    "rerun",
    "resume",
    "rollback",
    "run",
    "start",
    "transact",
    "with_timeout",
]

_HOMES = {
    "AlreadyAnsweredError": "._answers",
    "AnswerError": "._answers",
    "AtomicState": ".effects.atomic",
    "Cancelled": ".log.outcome",
    "Cell": "._handler",
    "Channel": ".effects.channel",
    "ChannelClosedError": "._errors",
    "Clock": ".effects.clock",
    "Command": ".effects.command",
    "Completed": ".log.outcome",
    "Computation": "._computation",
    "CurrentCall": "._strand",
    "DeadlineAcrossYieldError": "._misuse",
    "DeadlockError": "._misuse",
    "DeclarationError": "._errors",
    "Definition": "._computation",
    "DeploymentError": "._errors",
    "Divergence": ".log.divergence",
    "DivergenceError": "._errors",
    "DomainError": ".log.domain",
    "Effect": "._effect",
    "EffectError": "._errors",
    "Effectful": "._computation",
    "EndlessUnwindError": "._misuse",
    "Entry": ".log.entry",
    "EventAccumulator": ".effects.events",
    "Failed": ".log.outcome",
    "Fresh": ".effects.fresh",
    "Handler": "._handler",
    "Installed": "._handler",
    "Interceptor": "._effect",
    "InvalidAnswerError": "._answers",
    "Kind": "._effect",
    "LifetimeError": "._errors",
    "Log": ".log.log",
    "LogDecodeError": "._errors",
    "MissingReturnError": "._misuse",
    "MisuseError": "._misuse",
    "NotAnEffectError": "._misuse",
    "NotCompletedError": "._errors",
    "NotWaitingError": "._answers",
    "Observation": "._effect",
    "OtherQuestionError": "._answers",
    "Outcome": ".log.outcome",
    "OutcomeUnknown": "._errors",
    "OutsideStrandError": "._misuse",
    "Parallel": ".effects.parallel",
    "Perform": "._effect",
    "Port": ".effects.port",
    "Random": ".effects.random",
    "Reader": ".effects.reader",
    "Request": "._effect",
    "RequestAfterReturnError": "._misuse",
    "RerunRefusedError": "._errors",
    "ResultError": "._errors",
    "Retry": "._retry",
    "RetryAfter": "._retry",
    "Return": "._effect",
    "RolledBackError": "._errors",
    "RunCancelledError": "._errors",
    "Session": ".log.session",
    "SeveralWaitsError": "._answers",
    "SkuldError": "._errors",
    "State": ".effects.state",
    "StillWaitingError": "._errors",
    "Suspended": ".log.outcome",
    "Task": "._tasks",
    "TaskCancelledError": "._errors",
    "Throw": ".effects.throw",
    "TimedOut": "._clock",
    "TooLateError": "._answers",
    "Transaction": ".effects.transaction",
    "TransientScopeError": "._misuse",
    "UnawaitedAnswerError": "._misuse",
    "UndecodableError": "._errors",
    "UnencodableError": "._errors",
    "UnhandledEffectError": "._errors",
    "Wait": ".log.log",
    "Won": ".effects.parallel",
    "Writer": ".effects.writer",
    "Yield": ".effects.yield_",
    "bracket": ".effects.bracket",
    "cancel": ".effects.fork",
    "computation": "._computation",
    "current_call": "._run",
    "fork": ".effects.fork",
    "join": ".effects.fork",
    "lifetime": "._handler",
    "mark_loop": ".effects.loop",
    "open_session": ".log.verbs",
    "operation": ".effects.port",
    "port": ".effects.port",
    "replay": ".log.verbs",
    "rerun": ".log.verbs",
    "resume": ".log.verbs",
    "rollback": ".effects.transaction",
    "run": "._run",
    "start": ".log.verbs",
    "transact": ".effects.transaction",
    "with_timeout": ".effects.timeout",
}


if not TYPE_CHECKING:  # for a type checker every misspelt name would be there

    def __getattr__(name: str) -> Any:
        home = _HOMES.get(name)
        if home is None:
            message = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(message)
        value = globals()[name] = getattr(import_module(home, __name__), name)
        return value


def __dir__() -> list[str]:
    return __all__
