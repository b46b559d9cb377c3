"""The HTTP door of inventory. Everybody may look at products; only operators change them."""

from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Path, Request, Response
from pydantic import BaseModel, Field, StringConstraints, TypeAdapter

from inventory_service.commands import ProductCommands
from inventory_service.domain import SKU_PATTERN, Product
from inventory_service.queries import StockQueries
from inventory_service.read_models.stock import ProductRow
from millrace import CommandRefused, Committed, EventStore
from millrace.http.actor import Operator
from millrace.http.command import ChangingCommand, CreatingCommand
from millrace.http.fields import RequestBody, Text
from millrace.http.history import HistoryDocument, HistoryPage, history, history_after
from millrace.http.paging import Page, encode_cursor, page
from millrace.http.problems import bad_field, not_found
from millrace.http.responses import answer
from millrace.http.routing import new_router
from millrace.http.waiting import MinVersion, Waiters
from schemas.events.inventory import product_stream
from schemas.money import Money

REFUSALS: Final = {"product_not_found": 404}

Sku = Annotated[str, StringConstraints(pattern=SKU_PATTERN)]
SkuInPath = Annotated[Sku, Path(examples=["TEA-1"])]


class ListProductBody(RequestBody):
    """A product to offer."""

    sku: Sku
    name: Text
    price: Money


class StockBody(RequestBody):
    """Units that came in."""

    quantity: int = Field(ge=1, le=1_000_000, strict=True)


class PriceBody(RequestBody):
    """What it costs from now on."""

    price: Money


class ProductDocument(BaseModel):
    """A product with its stock. `available` is what is on hand less what is reserved for orders."""

    sku: str
    name: str
    price: Money
    on_hand: int
    reserved: int
    available: int
    version: int


class ProductCommitted(ProductDocument):
    """A product after a command. `position` is null when nothing had to be done."""

    position: int | None


class ProductList(BaseModel):
    """A page of products, by SKU."""

    products: list[ProductDocument]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class InventoryResources:
    """What the doors need. `waiters` wait for the read model."""

    commands: ProductCommands
    queries: StockQueries
    store: EventStore
    waiters: Waiters[str]


async def _resources(request: Request) -> InventoryResources:
    resources: InventoryResources = request.app.state.resources
    return resources


Resources = Annotated[InventoryResources, Depends(_resources)]
ProductPage = Annotated[Page[tuple[str]], Depends(page(TypeAdapter(tuple[Sku])))]

router = new_router("products")


@router.post("/products", status_code=201, response_model=ProductCommitted)
async def list_product(
    body: ListProductBody, operator: Operator, call: CreatingCommand, resources: Resources
) -> Response:
    """Offer a product; its stock starts at zero."""
    context = call.context(operator, body)
    committed = await resources.commands.list_product(body.sku, body.name, body.price, context)
    return _committed(committed, status=201, location=f"/products/{body.sku}")


@router.get("/products", response_model=ProductList)
async def get_products(products: ProductPage, resources: Resources) -> Response:
    """All products, by SKU."""
    after = products.after[0] if products.after else ""
    rows = await resources.queries.products(after=after, limit=products.limit + 1)
    shown = rows[: products.limit]
    next_cursor = encode_cursor(shown[-1].sku) if len(rows) > products.limit else None
    return answer(ProductList(products=[_document(row) for row in shown], next_cursor=next_cursor))


@router.get("/products/{sku}", response_model=ProductDocument)
async def get_product(sku: SkuInPath, after: MinVersion, resources: Resources) -> Response:
    """A product with its price and stock."""
    row = await after.read(lambda: resources.queries.product(sku), resources.waiters, sku)
    if row is None:
        raise not_found("product")
    return answer(_document(row), version=row.version)


@router.post("/products/{sku}/stock", response_model=ProductCommitted)
async def receive_stock(
    sku: SkuInPath, body: StockBody, operator: Operator, call: ChangingCommand, resources: Resources
) -> Response:
    """Book units in. With an Idempotency-Key a repeat books nothing."""
    context = call.context(operator, body)
    return _committed(
        await resources.commands.receive_stock(
            sku, body.quantity, context, expected_version=call.expected_version
        )
    )


@router.put("/products/{sku}/price", response_model=ProductCommitted)
async def change_price(
    sku: SkuInPath, body: PriceBody, operator: Operator, call: ChangingCommand, resources: Resources
) -> Response:
    """Ask another price, in the same currency. Orders keep the price that they were placed at."""
    context = call.context(operator, body)
    try:
        committed = await resources.commands.change_price(
            sku, body.price, context, expected_version=call.expected_version
        )
    except CommandRefused as refusal:
        if refusal.code != "currency_change":
            raise
        remedy = f"send a price in {refusal.details['currency']}"
        raise bad_field(422, refusal.code, "price.currency", refusal.message, remedy) from refusal
    return _committed(committed)


@router.get("/products/{sku}/events", response_model=HistoryDocument)
async def get_history(
    sku: SkuInPath, _operator: Operator, events: HistoryPage, resources: Resources
) -> Response:
    """Every event of the product's ledger, oldest first."""
    after = history_after(events)
    found = await resources.store.read_stream(
        product_stream(sku), after_version=after, limit=events.limit + 1
    )
    if not found and not after:
        raise not_found("product")
    return answer(history(found, events.limit))


def _committed(committed: Committed[Product], *, status: int = 200, location: str | None = None) -> Response:
    product = committed.state
    assert product.price is not None, "a command that was not refused leaves a listed product"
    body = ProductCommitted(
        sku=product.sku,
        name=product.name,
        price=product.price,
        on_hand=product.on_hand,
        reserved=product.reserved,
        available=product.available,
        version=committed.version,
        position=committed.position,
    )
    return answer(body, status=status, version=committed.version, location=location)


def _document(row: ProductRow) -> ProductDocument:
    return ProductDocument(
        sku=row.sku,
        name=row.name,
        price=Money(amount=row.price_amount, currency=row.currency),
        on_hand=row.on_hand,
        reserved=row.reserved,
        available=row.available,
        version=row.version,
    )
