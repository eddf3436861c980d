"""The workflows that a runtime knows, by name: what goes on with a run in another process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skuld_async._computation import Call, Definition
from skuld_async._errors import DeclarationError

from .errors import UnknownWorkflowError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from skuld_async._computation import Computation

    from .records import RunRecord


class Workflows:
    """Definitions by their stable names."""

    def __init__(self, definitions: Iterable[Definition[..., Any]]) -> None:
        self._known: dict[str, Definition[..., Any]] = {}
        for one in definitions:
            if not isinstance(one, Definition):  # pyright: ignore[reportUnnecessaryIsInstance] - not everybody has a type checker
                problem = f"{one!r:.80} is no computation"
                raise DeclarationError("Runtime(store, [...])", problem, "give functions with @computation, uncalled")
            if one.name in self._known:
                problem = f"two workflows have the name {one.name}"
                raise DeclarationError("Runtime(store, [...])", problem, 'give one of them @computation(name="...")')
            self._known[one.name] = one

    @property
    def names(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self._known)

    def call(self, comp: Computation[Any]) -> Call:
        """*comp* as a call that another process can make again from its name and arguments."""
        if not isinstance(comp, Call):
            problem = (
                f"{comp!r:.80} is not the call of a workflow" if not hasattr(comp, "inner") else "it has a wrapping"
            )
            way_out = "start the call alone, and give handlers to the Runtime: runtime.start(approval(purchase))"
            raise DeclarationError("runtime.start(...)", problem, way_out)
        if comp.name not in self._known:
            raise UnknownWorkflowError(comp.name, self.names)
        return comp

    def definition(self, workflow: str) -> Definition[..., Any]:
        """The workflow of that name."""
        if workflow not in self._known:
            raise UnknownWorkflowError(workflow, self.names)
        return self._known[workflow]

    def computation(self, record: RunRecord) -> Computation[Any]:
        """The call that the run of *record* was started with; raises `DeclarationError`, `UnknownWorkflowError`."""
        return self.definition(record.workflow).from_json(record.arguments)
