"""One attempt to deliver one notification, and what its outcome means."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from notification_service.contacts import (
    Contacts,
    CustomerDeactivated,
    UnknownCustomer,
    UserServiceUnavailable,
)
from notification_service.domain import (
    CUSTOMER_DEACTIVATED,
    MAIL_SERVER_UNAVAILABLE,
    MESSAGE_DEFERRED,
    MESSAGE_REFUSED,
    OUTCOME_UNKNOWN,
    RECIPIENT_DEFERRED,
    UNKNOWN_CUSTOMER,
    UNUSABLE_ADDRESS,
    USER_SERVICE_UNAVAILABLE,
)
from notification_service.mailer import (
    Mailer,
    MailServerUnavailable,
    MessageDeferred,
    MessageRefused,
    OutcomeUnknown,
    RecipientDeferred,
)
from notification_service.message import UnusableAddress, compose, message_id
from schemas.events.notifications import NotificationRequested


@dataclass(frozen=True, slots=True)
class Sent:
    """The mail server took it."""

    message_id: str


@dataclass(frozen=True, slots=True)
class Outage:
    """Nobody can be written to now. `detail` is for the log."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Deferred:
    """This message may be taken later. `detail` is for the log."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """The mail server has the message, or has not. `detail` is for the log."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Hopeless:
    """This message will never go out."""

    reason: str


DeliveryOutcome = Sent | Outage | Deferred | Unknown | Hopeless

_HOPELESS: Final[dict[type[Exception], str]] = {
    UnknownCustomer: UNKNOWN_CUSTOMER,
    CustomerDeactivated: CUSTOMER_DEACTIVATED,
    UnusableAddress: UNUSABLE_ADDRESS,
    MessageRefused: MESSAGE_REFUSED,
}


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Delivery:
    """Address from the user service, message, mail server."""

    def __init__(self, contacts: Contacts, mail_from: str, now: Callable[[], datetime] = _utc_now) -> None:
        self._contacts = contacts
        self._mail_from = mail_from
        self._now = now

    async def attempt(self, request: NotificationRequested, mailer: Mailer) -> DeliveryOutcome:
        """Try once, over the given SMTP session. Raises nothing that a notification can cause."""
        try:
            recipient = await self._contacts.find(request.customer_id)
            await mailer.send(compose(request, recipient, self._mail_from, self._now()))
        except UserServiceUnavailable as outage:
            return Outage(USER_SERVICE_UNAVAILABLE, str(outage))
        except MailServerUnavailable as outage:
            return Outage(MAIL_SERVER_UNAVAILABLE, str(outage))
        except RecipientDeferred as later:
            return Deferred(RECIPIENT_DEFERRED, str(later))
        except MessageDeferred as later:
            return Deferred(MESSAGE_DEFERRED, str(later))
        except OutcomeUnknown as unknown:
            return Unknown(OUTCOME_UNKNOWN, str(unknown))
        except tuple(_HOPELESS) as never:
            return Hopeless(_HOPELESS[type(never)])
        return Sent(message_id(request.notification_id))

    async def probe(self, mailer: Mailer) -> Outage | None:
        """Whether both servers answer, found out without a message: the outage that there is, or None."""
        try:
            await self._contacts.probe()
            await mailer.probe()
        except UserServiceUnavailable as outage:
            return Outage(USER_SERVICE_UNAVAILABLE, str(outage))
        except MailServerUnavailable as outage:
            return Outage(MAIL_SERVER_UNAVAILABLE, str(outage))
        return None
