"""The verbs: start, resume, replay, rerun, open_session.

================  ============  =====================  ==================  ===================  =====================
verb              running       suspended              completed           failed               cancelled
================  ============  =====================  ==================  ===================  =====================
start             writes a new log; it takes none
resume            goes on       suspends again         the same result     the same failure     finishes the cleanup
resume(answer=)   refused       goes on                refused             refused              refused
replay            Suspended     suspends again         the same result     the same failure     the same, verified
rerun             refused       refused                refused             runs it again        refused
================  ============  =====================  ==================  ===================  =====================

"refused" is an error that leaves the log as it was; "the same" is verified, and a difference is a `DivergenceError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typing_extensions import TypeVar, Unpack

from skuld_async._computation import check_computation
from skuld_async._declared import Misfit, encode_value
from skuld_async._errors import DeclarationError, DeploymentError, UnencodableError
from skuld_async._run import new_id

from .identity import identify
from .log import Log, copy_of
from .questions import NO_ANSWER, answers_of
from .rerunning import cut
from .session import Session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from skuld_async._computation import Computation
    from skuld_async._handler import Handler

    from .log import Wait
    from .options import Options
    from .outcome import Outcome

T = TypeVar("T")


async def start(
    comp: Computation[T],
    /,
    *handlers: Handler,
    id: str | None = None,
    seed: str | None = None,
    **options: Unpack[Options],
) -> Outcome[T]:
    """Start a run and go on until it ends or suspends; nothing of it stays in this process.

    Args:
        comp: The computation, called with its arguments.
        handlers: The outermost scope.
        id: Id of the run, the first part of each idempotency key; random if None.
        seed: Text that the derived effects are derived from; random if None.
        **options: See `Options`.

    Returns:
        `Completed`, `Suspended`, `Failed` or `Cancelled`, each with its log.

    Raises:
        DeploymentError: No handler, a misuse, an argument that cannot be logged; ``.log`` holds what was performed.
    """
    async with open_session(comp, *handlers, id=id, seed=seed, **options) as session:
        return await session.outcome()


async def resume(
    comp: Computation[T],
    log: Log,
    /,
    *handlers: Handler,
    answer: Any = NO_ANSWER,
    to: Wait | str | None = None,
    answers: Mapping[str, Any] | None = None,
    allow_divergence: bool = False,
    **options: Unpack[Options],
) -> Outcome[T]:
    """Go on with a run from its log: with an answer, or without one after a crash or a timer.

    Args:
        comp: The same computation, called with the same arguments.
        log: Its log; it stays as it is, the outcome holds the new one.
        handlers: The outermost scope.
        answer: A value of the type that the question declares; None is an answer too.
        to: The wait, or its ``ref``, that the answer is meant for; the open one if None, and if there is only one.
        answers: Several answers, by the ``ref`` of their waits.
        allow_divergence: Accept that the computation was changed; the outcome lists what came of it.
        **options: See `Options`.

    Returns:
        The outcome, with the new log.

    Raises:
        AnswerError: The answer is refused, and the wait stays open.
        DivergenceError: The computation asks for something else than the log holds; nothing was performed.
        DeploymentError: ``.log`` holds what was performed; after the fix, `resume` goes on from there.

    Gotchas:
        Without a store nothing prevents a second answer to the same log.
    """
    given = answers_of(answer, to, answers)
    async with open_log(comp, log, handlers, options, answers=given, allow_divergence=allow_divergence) as session:
        return await session.outcome()


async def replay(comp: Computation[T], log: Log, /, *handlers: Handler, **options: Unpack[Options]) -> Outcome[T]:
    """Verify that *comp* still does what *log* holds; nothing external is performed.

    Returns:
        The outcome as the log has it; `Suspended` without a wait for a run that was stopped on its way.

    Raises:
        DivergenceError: It does something else.
    """
    async with open_log(comp, log, handlers, options, budget=0) as session:
        return await session.outcome()


async def rerun(
    comp: Computation[T], log: Log, /, *handlers: Handler, force: bool = False, **options: Unpack[Options]
) -> Outcome[T]:
    """Run a failed run again, from the effect that failed it.

    That effect is performed under its own key, because what was recorded as an error may have happened all the same;
    under a new one where the operation declares the error (``raises=``), because then its receiver has answered.

    Args:
        comp: The same computation, called with the same arguments.
        log: The log of a failed run; it stays as it is.
        handlers: The outermost scope.
        force: Run it again although external effects were performed after the failure; they stay in ``log.dropped``.
        **options: See `Options`.

    Raises:
        RerunRefusedError: The run did not fail; or it performed external effects after its failure; or what failed it
            is the result of a call that was made, or of one that is made at most once.
    """
    _filled(log, options)
    async with open_log(comp, cut(log, force=force), handlers, options) as session:
        return await session.outcome()


def open_session(
    comp: Computation[T],
    /,
    *handlers: Handler,
    log: Log | None = None,
    id: str | None = None,
    seed: str | None = None,
    allow_divergence: bool = False,
    **options: Unpack[Options],
) -> Session[T]:
    """Open a run that stays hot.

        async with open_session(comp, *handlers) as session:
            outcome = await session.outcome()

    While it waits for an answer the strand stays parked in its task, with all that it holds. Leaving suspends it cold.

    Args:
        comp: The computation.
        handlers: The outermost scope.
        log: A log to go on from; a new run if None.
        id: Id of a new run.
        seed: Seed of a new run.
        allow_divergence: As in `resume`.
        **options: See `Options`.
    """
    if log is not None:
        return open_log(comp, log, handlers, options, allow_divergence=allow_divergence)
    check_computation(comp, "start")
    fresh = Log()
    fresh.header.run = new_id() if id is None else id
    fresh.header.seed = new_id() if seed is None else seed
    _refuse_unwritable(fresh.header.run, "the id of the run")
    _refuse_unwritable(fresh.header.seed, "the seed of the run")
    identify(fresh, comp)
    return open_log(comp, fresh, handlers, options)


def open_log(
    comp: Computation[T], log: Log, handlers: tuple[Handler, ...], options: Options, **more: Any
) -> Session[T]:
    """A session on a copy of *log*, or on ``into``."""
    check_computation(comp, "resume")
    try:
        return Session(comp, _filled(log, options), handlers, options, **more)
    except DeploymentError as error:
        error.log = log
        raise


def _filled(log: Log, options: Options) -> Log:
    """A copy of *log*, which is the caller's ``into`` if there is one: filled before anything can go wrong."""
    if not isinstance(log, Log):  # pyright: ignore[reportUnnecessaryIsInstance] - not everybody has a type checker
        raise DeclarationError(f"{log!r:.80}", "this is no log", "give outcome.log, or Log.from_json(data)")
    own = copy_of(log)
    into = options.get("into")
    if into is None:
        return own
    into.header, into.entries, into.dropped = own.header, own.entries, own.dropped
    return into


def _refuse_unwritable(text: str, place: str) -> None:
    try:
        encode_value(text)
    except Misfit as error:
        refused = UnencodableError(place, str(error))
        refused.log = Log()  # there is none that could be written
        raise refused from None
