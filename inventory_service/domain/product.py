"""The ledger of one product: every unit received, reserved, released, deducted.

The state is counters only, so that a product that a million orders wanted is as small as a new one; which
order holds what is kept by that order's reservation.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from millrace import REPEATED, CommandRefused, Decider, DomainEvent, Repeated, SnapshotPolicy, json_codec
from schemas.events.inventory import (
    PriceChanged,
    ProductListed,
    StockReceived,
    UnitsDeducted,
    UnitsReleased,
    UnitsReserved,
)
from schemas.money import Money

SKU_PATTERN: Final = r"^[A-Z0-9][A-Z0-9._-]{0,63}$"


@dataclass(frozen=True, slots=True)
class Product:
    """A product's stock. Always 0 <= reserved <= on_hand. Without a price it was never listed."""

    sku: str = ""
    name: str = ""
    price: Money | None = None
    on_hand: int = 0
    reserved: int = 0

    @property
    def available(self) -> int:
        """Units that an order can still have."""
        return self.on_hand - self.reserved


@dataclass(frozen=True, slots=True)
class ListProduct:
    """Offer a product; its stock starts at zero."""

    sku: str
    name: str
    price: Money


@dataclass(frozen=True, slots=True)
class ReceiveStock:
    """Units came in."""

    quantity: int


@dataclass(frozen=True, slots=True)
class ChangePrice:
    """Ask another price from now on, in the same currency."""

    price: Money


@dataclass(frozen=True, slots=True)
class ReserveUnits:
    """Set units aside for an order."""

    order_id: UUID
    quantity: int


@dataclass(frozen=True, slots=True)
class ReleaseUnits:
    """Give units that an order had back to everybody."""

    order_id: UUID
    quantity: int


@dataclass(frozen=True, slots=True)
class DeductUnits:
    """Units that an order had leave the house."""

    order_id: UUID
    quantity: int


ProductCommand = ListProduct | ReceiveStock | ChangePrice | ReserveUnits | ReleaseUnits | DeductUnits


def decide_product(product: Product, command: ProductCommand) -> Sequence[DomainEvent]:
    """What follows for a product's ledger.

    Refusals: product_already_listed, product_not_found, currency_change, insufficient_stock, not_reserved.
    """
    if isinstance(command, ListProduct):
        if product.price is not None:
            raise CommandRefused(
                "product_already_listed", f"{command.sku} is listed already", sku=command.sku
            )
        return [ProductListed(sku=command.sku, name=command.name, price=command.price)]
    if product.price is None:
        raise CommandRefused("product_not_found", "There is no such product.")
    sku = product.sku
    match command:
        case ReceiveStock(quantity):
            return [StockReceived(sku=sku, quantity=quantity)]
        case ChangePrice(price):
            return _change_price(product, product.price, price)
        case ReserveUnits(order_id, quantity):
            _require(quantity, product.available, "insufficient_stock", f"{sku}: not that many available")
            return [UnitsReserved(sku=sku, order_id=order_id, quantity=quantity)]
        case ReleaseUnits(order_id, quantity):
            _require(quantity, product.reserved, "not_reserved", f"{sku}: not that many reserved")
            return [UnitsReleased(sku=sku, order_id=order_id, quantity=quantity)]
        case DeductUnits(order_id, quantity):
            _require(quantity, product.reserved, "not_reserved", f"{sku}: not that many reserved")
            return [UnitsDeducted(sku=sku, order_id=order_id, quantity=quantity)]


def _change_price(product: Product, old: Money, new: Money) -> Sequence[DomainEvent]:
    if new == old:
        return []
    if new.currency != old.currency:
        raise CommandRefused(
            "currency_change",
            f"{product.sku} is sold in {old.currency}; its currency can't change to {new.currency}",
            currency=old.currency,
        )
    return [PriceChanged(sku=product.sku, price=new)]


def _require(wanted: int, there: int, code: str, message: str) -> None:
    if wanted > there:
        raise CommandRefused(code, message, requested=wanted, available=there)


def evolve_product(product: Product, event: DomainEvent) -> Product:
    """The ledger after `event`."""
    match event:
        case UnitsReserved(quantity=quantity):
            return replace(product, reserved=product.reserved + quantity)
        case UnitsReleased(quantity=quantity):
            return replace(product, reserved=product.reserved - quantity)
        case UnitsDeducted(quantity=quantity):
            return replace(product, on_hand=product.on_hand - quantity, reserved=product.reserved - quantity)
        case StockReceived(quantity=quantity):
            return replace(product, on_hand=product.on_hand + quantity)
        case PriceChanged(price=price):
            return replace(product, price=price)
        case ProductListed(sku=sku, name=name, price=price):
            return Product(sku=sku, name=name, price=price)
        case _:
            return product


def product_command_of(event: DomainEvent) -> ProductCommand | Repeated | None:
    """The command that `event` stands for, to be decided again behind events that were missing when it was
    appended.

    ProductListed   refused if the SKU was listed meanwhile: which name and price hold is for a person to say.
    PriceChanged    the price that was asked for last holds. Refused if the currency is another one by now.
    StockReceived   units came in, whatever else happened to the product. (A delivery that an operator booked
                    once more,
                    because the restored store did not show it, counts twice: the same request has the same
                    event id and does not, a second request can't be recognised.)
    Units...        one half: the other half is the reservation, in another stream. To decide only one of them
                    again would
                    make them disagree. The consumer of order events decides both in one transaction.
    """
    match event:
        case ProductListed():
            return ListProduct(event.sku, event.name, event.price)
        case PriceChanged():
            return ChangePrice(event.price)
        case StockReceived():
            return ReceiveStock(event.quantity)
        case UnitsReserved() | UnitsReleased() | UnitsDeducted():
            return REPEATED
    return None


PRODUCT: Decider[Product, ProductCommand] = Decider(Product(), decide_product, evolve_product)

# A ledger grows with every order that wants the product. Raise the version with every change after which the
# same events fold into another Product, a new meaning of a field included: older snapshots are dropped then.
PRODUCT_SNAPSHOTS: Final = json_codec(Product, schema_version=1)
PRODUCT_POLICY: Final = SnapshotPolicy(every=200, codec=PRODUCT_SNAPSHOTS)
