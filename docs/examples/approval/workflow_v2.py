"""The same workflow after a careless change: amounts are rounded up to whole euros before they are validated.

A run that was started by `workflow.approval` has been validated with other data. Going on with it would ask the
manager about one sum and pay another, so the library refuses, performs nothing and leaves the log as it was.
"""

from dataclasses import replace
from decimal import ROUND_UP

from workflow import (
    Actions,
    ApprovalNeeded,
    Purchase,
    PurchaseApproved,
    PurchaseRejected,
    Receipt,
    Refusal,
    Validator,
    events,
)

from skuld_async import Effectful, Return, computation


@computation(name="approval")
async def approval(purchase: Purchase) -> Effectful[Receipt | Refusal]:
    """Round, validate, ask, and pay if the manager agrees."""
    rounded = replace(purchase, amount=purchase.amount.to_integral_value(ROUND_UP))
    valid = yield Validator.validate(rounded)
    decision = yield ApprovalNeeded(valid)
    if decision == "approved":
        receipt = yield Actions.execute(valid)
        yield events.emit(PurchaseApproved(valid.id))
        yield Return(receipt)
    else:
        yield events.emit(PurchaseRejected(valid.id))
        yield Return(Refusal(valid.id))
