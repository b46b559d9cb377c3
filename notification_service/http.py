"""The HTTP door of the notification service: what was sent, and what is still on its way."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

from fastapi import Depends, Query, Request, Response
from pydantic import BaseModel, TypeAdapter

from millrace.http.actor import AnyActor
from millrace.http.paging import BigInt, Page, encode_cursor, page
from millrace.http.responses import answer
from millrace.http.routing import new_router
from notification_service.contacts import Contacts
from notification_service.queries import NotificationQueries

_FROM_THE_NEWEST: Final = 2**63 - 1


class NotificationDocument(BaseModel):
    """A message to a customer. `reason` says why it was delayed or failed; `next_attempt_at` is an
    estimate."""

    notification_id: UUID
    kind: str
    order_id: UUID
    status: str
    attempts: int
    reason: str | None
    next_attempt_at: datetime | None
    message_id: str | None
    requested_at: datetime
    sent_at: datetime | None


class NotificationsDocument(BaseModel):
    """A page of notifications."""

    notifications: list[NotificationDocument]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class NotificationResources:
    """What the routes and the sender need."""

    queries: NotificationQueries
    contacts: Contacts


async def _resources(request: Request) -> NotificationResources:
    resources: NotificationResources = request.app.state.resources
    return resources


Resources = Annotated[NotificationResources, Depends(_resources)]
NotificationsPage = Annotated[Page[tuple[BigInt]], Depends(page(TypeAdapter(tuple[BigInt])))]
OrderId = Annotated[UUID | None, Query(description="only what concerns this order")]

router = new_router("notifications")


@router.get("/notifications", response_model=NotificationsDocument)
async def list_notifications(
    actor: AnyActor, paging: NotificationsPage, resources: Resources, order_id: OrderId = None
) -> Response:
    """Newest first. A customer sees their own only: of somebody else's order there are none."""
    rows = await resources.queries.notifications(
        order_id=order_id,
        customer_id=None if actor.is_operator else actor.customer_id,
        before=paging.after[0] if paging.after else _FROM_THE_NEWEST,
        limit=paging.limit + 1,
    )
    shown = rows[: paging.limit]
    return answer(
        NotificationsDocument(
            notifications=[NotificationDocument.model_validate(asdict(row)) for row in shown],
            next_cursor=encode_cursor(shown[-1].position) if len(rows) > paging.limit else None,
        )
    )
