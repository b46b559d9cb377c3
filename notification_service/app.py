"""What the notification service is made of. The only file that knows all others."""

from collections.abc import AsyncIterator, Sequence
from functools import partial

from millrace import Http, Migrations, Runtime, Service, StreamKind, Subscription, Worker
from notification_service import audit, http, reactions
from notification_service.contacts import Contacts
from notification_service.delivery import Delivery
from notification_service.domain import NOTIFICATION, command_of
from notification_service.http import NotificationResources
from notification_service.mailer import Mailer
from notification_service.queries import NotificationQueries
from notification_service.read_models.notifications import Notifications
from notification_service.sender import Sender
from notification_service.settings import NotificationSettings
from schemas.events.notifications import NOTIFICATION_EVENTS
from schemas.events.orders import ORDER_EVENTS
from schemas.topics import NOTIFICATIONS, ORDERS

service: Service[NotificationSettings, NotificationResources] = Service(
    "notification-service",
    NotificationSettings,
    topic=NOTIFICATIONS,
    events=NOTIFICATION_EVENTS,
    streams=[StreamKind("notification-", NOTIFICATION, command_of=command_of)],
    read_models=[Notifications()],
    # It has reacted since the first event: every order that was ever decided got its mail.
    subscriptions=[Subscription(reactions.requests, {ORDERS: ORDER_EVENTS}, begins="history")],
    http=Http("Millrace notifications", http.router, "What customers were told, and when."),
    migrations=[Migrations("notification_service", "notification_service.migrations")],
    invariants=audit.invariants,
)


@service.resources
async def resources(run: Runtime[NotificationSettings]) -> AsyncIterator[NotificationResources]:
    """What the doors and the sender need."""
    async with run.channel_to("user", run.settings.user_grpc_target, timeout=3.0) as users:
        yield NotificationResources(NotificationQueries(run.reading), Contacts(users))


@service.workers
def sender(run: Runtime[NotificationSettings], resources: NotificationResources) -> Sequence[Worker]:
    """What sends the e-mails."""
    settings = run.settings
    return [
        Sender(
            url=settings.database_url,
            store=run.store,
            queries=resources.queries,
            delivery=Delivery(resources.contacts, settings.mail_from),
            mailer=partial(Mailer, settings.smtp_host, settings.smtp_port),
            projected=run.projected(Notifications),
            metrics=run.metrics,
        )
    ]
