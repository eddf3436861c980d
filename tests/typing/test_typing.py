"""The design's north star, executed. That both checkers accept it is checked by check.py, in `nox -s types`."""

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from skuld_async import Completed, Computation, Failed, Log, Suspended, replay, resume, start
from skuld_async.testing import VirtualClock

from . import api
from .north_star import (
    WINDOW,
    ApprovalNeeded,
    Bookkeeping,
    ManagerDecision,
    Message,
    Order,
    Parrot,
    Placed,
    Price,
    Purchase,
    PurchaseApproved,
    PurchaseRejected,
    Receipt,
    Refusal,
    Refused,
    Supplier,
    UserTurn,
    ValidPurchase,
    approval,
    approval_awaited,
    cheapest,
    check_credit,
    check_fraud,
    decide,
    double_handlers,
    history,
    inbox,
    make_runtime,
    place,
    place_awaited,
    post_answer,
    put_purchase,
    quote,
    real_handlers,
    submit,
    turn,
)

PURCHASE = Purchase(42, "ada", Decimal("99.90"))
VALID = ValidPurchase("req-42", "ada", Decimal("99.90"))


class Company:
    """Answers the validator's requests, and counts them."""

    def __init__(self) -> None:
        self.requests = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        purchase = msgspec.json.decode(request.content, type=Purchase)
        valid = ValidPurchase(f"req-{purchase.number}", purchase.employee, purchase.amount)
        return httpx.Response(200, content=msgspec.json.encode(valid))

    def client(self) -> httpx.AsyncClient:
        """A client without a network."""
        return httpx.AsyncClient(transport=httpx.MockTransport(self), base_url="http://company")


async def test_an_approval_goes_from_one_process_to_the_next_by_a_json_file(tmp_path: Path) -> None:
    """The first part of the north star: validated once, asked once, executed once; the file holds the result."""
    company, actions, file = Company(), Bookkeeping(), tmp_path / "req-42.json"
    async with company.client() as client:
        asked = await submit(PURCHASE, file, real_handlers(client, actions))
    assert isinstance(asked, Suspended)
    assert asked.question == ApprovalNeeded(VALID)
    assert [wait.id for wait in asked.log.waits] == [wait.id for wait in Log.from_json(file.read_bytes()).waits]
    assert actions.booked == []

    async with company.client() as client:
        value, seen = await decide(PURCHASE, file, real_handlers(client, actions), "approved")
    assert value == Receipt("req-42", "booking-1")
    assert seen == [PurchaseApproved("req-42")]
    assert (company.requests, actions.booked) == (1, ["req-42"])
    assert Log.from_json(file.read_bytes()).header.status == "completed"


async def test_the_same_approval_meets_other_handlers_in_a_test(tmp_path: Path) -> None:
    """`FakeValidator` and `Actions.execute.always(receipt)` stand in; nothing else changes."""
    receipt, file = Receipt("req-42", "none"), tmp_path / "req-42.json"
    await submit(PURCHASE, file, double_handlers(receipt))
    assert await decide(PURCHASE, file, double_handlers(receipt), "approved") == (receipt, [PurchaseApproved("req-42")])

    await submit(PURCHASE, file, double_handlers(receipt))
    assert await decide(PURCHASE, file, double_handlers(receipt), "rejected") == (
        Refusal("req-42"),
        [PurchaseRejected("req-42")],
    )


async def test_await_and_yield_are_the_same_workflow() -> None:
    """`x = await effect` in place of `x = yield effect`: the same entries, the same result."""
    handlers = double_handlers(Receipt("req-42", "none"))
    yielded = await start(approval(PURCHASE), *handlers)
    awaited = await start(approval_awaited(PURCHASE), *handlers)
    yielded = await resume(approval(PURCHASE), yielded.log, *handlers, answer="approved")
    awaited = await resume(approval_awaited(PURCHASE), awaited.log, *handlers, answer="approved")
    assert yielded.value == awaited.value
    logs = [[(entry.id, entry.sig, entry.value) for entry in one.log.entries] for one in (yielded, awaited)]
    assert logs[0] == logs[1]


async def test_a_function_is_a_port_whose_body_is_the_default() -> None:
    """`quote.default()` installs the body of `@port async def quote`."""
    suppliers = [Supplier("a", Decimal(1)), Supplier("b", Decimal(3))]
    outcome = await start(cheapest(suppliers), quote.default())
    assert outcome.value == Price("b", Decimal(97))


async def test_an_order_is_checked_decided_and_quoted_side_by_side() -> None:
    """Both checks, then the decision against three days, then all quotes; by `yield` and by `await` the same."""
    order, suppliers = Order(7, Decimal(500)), [Supplier("a", Decimal(1)), Supplier("b", Decimal(3))]
    ports = [check_fraud.default(), check_credit.default(), quote.default()]
    for comp in (place(order, suppliers), place_awaited(order, suppliers)):
        clock = VirtualClock()
        asked = await start(comp, clock.handler(), *ports)
        assert isinstance(asked, Suspended)
        assert asked.question == ManagerDecision(order)
        assert asked.wake_at == clock.now + timedelta(days=3)

        decided = await resume(comp, asked.log, clock.handler(), *ports, answer="buy")
        clock.advance(timedelta(days=3))
        expired = await resume(comp, asked.log, clock.handler(), *ports)
        assert decided.value == Placed(7, Price("b", Decimal(97)))
        assert expired.value == Refused(7, "expired")
        assert (await replay(comp, decided.log, clock.handler(), *ports)).value == decided.value


async def test_a_web_app_submits_answers_and_shows_what_happened(tmp_path: Path) -> None:
    """The routes of the design: a purchase is submitted twice, listed, answered twice, and its history told."""
    async with make_runtime(tmp_path / "workflows.db", double_handlers(Receipt("req-42", "none"))) as runtime:
        first = msgspec.json.decode(await put_purchase(runtime, PURCHASE))
        assert msgspec.json.decode(await put_purchase(runtime, PURCHASE)) == first
        assert first["status"] == "suspended"
        [token] = await inbox(runtime)
        assert token == first["waits"][0]["token"]

        accepted = msgspec.json.decode(await post_answer(runtime, token, b'"approved"'))
        assert (accepted["run"], accepted["by"]) == ("req-42", "manager@example.com")
        assert msgspec.json.decode(await post_answer(runtime, token, b'"approved"'))["repeated"]

        value, told = await history(runtime, PURCHASE)
        assert isinstance(value, Receipt)
        assert told == ["step", "step"]


async def test_a_conversation_goes_on_over_many_cold_resumes_with_a_log_of_one_turn(tmp_path: Path) -> None:
    """The loop's log stays as small as one turn, its carry goes on, and no call of the model is repeated."""
    file, parrot = tmp_path / "conversation.json", Parrot()
    outcome = await turn(file, parrot, None)
    lengths: list[int] = []
    for number in range(8):
        outcome = await turn(file, parrot, f"line {number}")
        assert isinstance(outcome, Suspended)
        assert outcome.question == UserTurn([Message("assistant", f"line {number}! ({min(2 * number, WINDOW) + 1})")])
        assert parrot.calls == number + 1
        lengths.append(len(outcome.log.entries))
    assert len(set(lengths)) == 1

    outcome = await turn(file, parrot, "bye")
    assert isinstance(outcome, Completed)
    assert outcome.value.text == f"bye! ({WINDOW + 1})"
    assert parrot.calls == 9


@pytest.mark.parametrize(
    ("comp", "value"),
    [
        (api.effects_by_await(), 4),
        (api.effects_by_yield(), 4),
        (api.by_await(api.ORDER, retries=0), api.Cash(api.ORDER.total)),
        (api.named_by_await(api.ORDER), "o-1"),
        (api.returns_nothing(), None),
        (api.computations(), "corner: 8 h, False"),
        (api.ports(), "3:o-1!"),
        (api.retries(), "booked"),
        (api.states(), 10),
        (api.loops(), 3),
        (api.scopes(), "105: 8 h"),
        (api.chances(), ("paid", 3)),
        (api.commands(), api.Card("4")),
        (api.alls(), (api.Card("o-1"), api.ORDER.total, 4, "text", True, None)),
        (api.settled(), ["4", "OutOfStock"]),
        (api.maps(), [3, 1, 2]),
        (api.races(), "card"),
        (api.times(), (4, "no")),
        (api.tasks(), (4, "Clock.sleep")),
        (api.shared(), [3, 4]),
        (api.channels(), api.Card("7")),
    ],
)
async def test_what_the_checkers_are_shown_runs(comp: Computation[Any], value: object) -> None:
    """The types that both checkers see in api.py are those of values that arrive, and of a replay's."""
    handlers = [*api.own_effects(), *api.keys(), *api.port_handlers(), *api.command_handlers(), api.notes.handler()]
    outcome = await start(comp, *handlers)
    assert outcome.value == value
    assert (await replay(comp, outcome.log, *handlers)).value == value


async def test_what_handlers_the_checkers_are_shown_work() -> None:
    """Handlers, doubles, interceptors and observers of api.py do what their types say."""
    statuses = [type(outcome) for outcome in await api.verbs()]
    assert statuses == [Suspended, Suspended, Completed, Completed, Completed, Completed]
    handlers = [*api.lifetimes(), *api.doubles()]
    outcome = await start(api.by_yield(api.ORDER), *handlers, intercept=api.INTERCEPTORS)
    assert outcome.value == api.Card("o-1")
    counted = await start(api.effects_by_yield(), api.Counting(), intercept=api.INTERCEPTORS, observe=[api.saw])
    assert counted.value == 4
    assert isinstance(await start(api.never_comes_back()), Failed)
    assert await api.session() == "waits"
    assert (await api.deployment()).log.entries
    assert (await start(api.questions(), *api.question_handlers())).log.waits
