"""What the order service is measured beside: a FastAPI POST with the same body that does nothing.

uvicorn benchmarks.bare:app
"""

from typing import Annotated
from uuid import UUID, uuid4

from fastapi import FastAPI, Header
from pydantic import BaseModel, ConfigDict, Field

app = FastAPI()


class Line(BaseModel):
    """A line of an order, checked as the order service checks it."""

    model_config = ConfigDict(extra="forbid")

    sku: str = Field(pattern=r"^[A-Z0-9][A-Z0-9._-]{0,63}$")
    quantity: int = Field(ge=1, le=10_000)


class Order(BaseModel):
    """The body of POST /orders."""

    model_config = ConfigDict(extra="forbid")

    lines: list[Line] = Field(min_length=1, max_length=100)


class Answer(BaseModel):
    """An answer as long as the order service's."""

    order_id: UUID
    status: str
    lines: list[Line]
    version: int
    position: int


@app.post("/orders", status_code=201)
async def place(
    order: Order, x_customer_id: Annotated[UUID, Header()], idempotency_key: Annotated[str, Header()]
) -> Answer:
    """Checks the request, and answers."""
    return Answer(order_id=uuid4(), status="pending", lines=order.lines, version=1, position=1)
