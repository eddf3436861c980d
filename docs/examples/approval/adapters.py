"""The workflow's contracts, kept by the company's HTTP service.

What the service answers falls into three classes. A result is decoded into the workflow's types. A problem that the
contract declares becomes its `DomainError`: the service has answered, and the workflow can tell what is wrong. The
rest (no connection, a timeout, a 500) says nothing about what the service did, so it stays undeclared: `rerun`
repeats that call under the same key, and a service that deduplicates pays once.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from decimal import Decimal
from http import HTTPStatus
from typing import TypeVar

import httpx
import msgspec
from msgspec import Struct
from workflow import (
    Actions,
    OverBudget,
    Purchase,
    Receipt,
    UnknownEmployee,
    UnknownManager,
    Validator,
    ValidPurchase,
    events,
)

from skuld_async import DomainError, Handler, current_call

T = TypeVar("T")


class ServiceUnavailable(DomainError):
    """The service gave no answer: whether it did anything is unknown."""

    url: str

    def __str__(self) -> str:
        return f"the service at {self.url} gave no answer; try again later."


class UnknownEmployeeProblem(Struct, frozen=True, tag_field="error", tag="unknown_employee"):
    """The service's words for `UnknownEmployee`."""

    employee: str

    def error(self) -> DomainError:
        """Say it in the workflow's words."""
        return UnknownEmployee(self.employee)


class UnknownManagerProblem(Struct, frozen=True, tag_field="error", tag="unknown_manager"):
    """The service's words for `UnknownManager`."""

    manager: str

    def error(self) -> DomainError:
        """Say it in the workflow's words."""
        return UnknownManager(self.manager)


class OverBudgetProblem(Struct, frozen=True, tag_field="error", tag="over_budget"):
    """The service's words for `OverBudget`."""

    department: str
    amount: Decimal
    available: Decimal

    def error(self) -> DomainError:
        """Say it in the workflow's words."""
        return OverBudget(self.department, self.amount, self.available)


DeclaredProblem = UnknownEmployeeProblem | UnknownManagerProblem | OverBudgetProblem


class HttpValidator:
    """Keeps `Validator` with `POST /validate`."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def validate(self, purchase: Purchase) -> ValidPurchase:
        """Ask the service to check a purchase."""
        return await _post(self._client, "/validate", purchase, ValidPurchase)


class HttpActions:
    """Keeps `Actions` with `POST /execute`."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def execute(self, purchase: ValidPurchase) -> Receipt:
        """Ask the service to pay; every attempt at this one call sends the same key."""
        return await _post(self._client, "/execute", purchase, Receipt, headers={"Idempotency-Key": current_call().key})


async def _post(
    client: httpx.AsyncClient, path: str, body: object, kind: type[T], headers: dict[str, str] | None = None
) -> T:
    try:
        response = await client.post(path, content=msgspec.json.encode(body), headers=headers)
    except httpx.TransportError as error:
        raise ServiceUnavailable(str(client.base_url)) from error
    if response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY:
        raise msgspec.json.decode(response.content, type=DeclaredProblem).error()
    response.raise_for_status()
    return msgspec.json.decode(response.content, type=kind)


@asynccontextmanager
async def connect(service: str) -> AsyncGenerator[httpx.AsyncClient, None]:
    """A client of the service at this address; directly, whatever proxy the environment names."""
    async with httpx.AsyncClient(base_url=service, timeout=10, trust_env=False) as client:
        yield client


def handlers(client: httpx.AsyncClient) -> list[Handler]:
    """All that `approval` needs."""
    return [
        Validator.handler(HttpValidator(client)),
        Actions.handler(HttpActions(client)),
        events.handler(),
    ]
