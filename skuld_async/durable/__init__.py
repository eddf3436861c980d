"""The runtime: runs that are kept, recovered after a crash, woken at their time, answered, and spread over workers."""

from .errors import LeaseLostError as LeaseLostError
from .errors import RecoveriesError as RecoveriesError
from .errors import RunActiveError as RunActiveError
from .errors import RunConflictError as RunConflictError
from .errors import RunError as RunError
from .errors import StoreClosedError as StoreClosedError
from .errors import StoreError as StoreError
from .errors import StoreSchemaError as StoreSchemaError
from .errors import StuckRunError as StuckRunError
from .errors import UnknownQuestionError as UnknownQuestionError
from .errors import UnknownRunError as UnknownRunError
from .errors import UnknownWaitError as UnknownWaitError
from .errors import UnknownWorkflowError as UnknownWorkflowError
from .errors import WaitTakenError as WaitTakenError
from .logs import RunLogFilter as RunLogFilter
from .progress import progress as progress
from .run import Run as Run
from .runtime import Page as Page
from .runtime import Runtime as Runtime
from .store import Store as Store
from .tokens import BadTokenError as BadTokenError
from .tokens import ExpiredTokenError as ExpiredTokenError
from .tokens import PlainTokens as PlainTokens
from .tokens import Tokens as Tokens
from .views import Accepted as Accepted
from .views import OpenWait as OpenWait
from .views import Problem as Problem
from .views import RunEvent as RunEvent
from .views import RunView as RunView
from .views import SentMessage as SentMessage

__all__ = [
    "Accepted",
    "BadTokenError",
    "ExpiredTokenError",
    "LeaseLostError",
    "OpenWait",
    "Page",
    "PlainTokens",
    "Problem",
    "RecoveriesError",
    "Run",
    "RunActiveError",
    "RunConflictError",
    "RunError",
    "RunEvent",
    "RunLogFilter",
    "RunView",
    "Runtime",
    "SentMessage",
    "Store",
    "StoreClosedError",
    "StoreError",
    "StoreSchemaError",
    "StuckRunError",
    "Tokens",
    "UnknownQuestionError",
    "UnknownRunError",
    "UnknownWaitError",
    "UnknownWorkflowError",
    "WaitTakenError",
    "progress",
]
