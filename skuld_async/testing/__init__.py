"""For tests of workflows: a virtual clock, scripted answers, and `always_cold`."""

from .clock import VirtualClock as VirtualClock
from .cold import ColdMismatchError as ColdMismatchError
from .cold import always_cold as always_cold
from .script import Script as Script
from .script import ScriptError as ScriptError

__all__ = ["ColdMismatchError", "Script", "ScriptError", "VirtualClock", "always_cold"]
