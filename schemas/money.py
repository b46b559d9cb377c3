"""Money: an integer of minor units and an ISO 4217 currency. Never a float."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$", description="ISO 4217 code", examples=["EUR"])]


class Money(BaseModel):
    """An amount in minor units (cents), such as 1299 EUR for 12.99 euro."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    amount: int = Field(strict=True, ge=0, le=10**15, description="minor units, e.g. cents")
    currency: Currency

    def times(self, quantity: int) -> Self:
        """This amount `quantity` times."""
        return self.model_copy(update={"amount": self.amount * quantity})
