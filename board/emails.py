"""E-mails: the last stage of what a service does that sends them. What is to be sent now, and has not gone
out. Pure.

A mail server that is away stops no consumer: the notification is an event of its own store, and waits there.
So this is a path of its own, from that store to the mail server's yes. What the read model that the sender
looks into has not applied yet waits as well; the older of the two tells the age.
"""

from dataclasses import replace

from board.declared import Projection
from board.document import HeldEvent, StageKind
from board.measures import Measure, MeasuredPath, MeasuredStage, in_sight, unseen
from board.observations import EmailsRow, Views
from board.store_stages import consumer_of, projector_stage, store_stage

NAME = "e-mails"
READ_MODEL = "notifications"
CAP = 10_001
"""Mails of one kind that emails_waiting() counts at most: from here on nobody knows how many there are."""


def email_path(service: str, views: Views) -> MeasuredPath:
    """From the store of `service` to the mail server."""
    projection = Projection(service, NAME, "reaction")
    stages = [store_stage(service, views), _sender_stage(service, views)]
    return MeasuredPath(projection, None, service, None, None, stages)


def _sender_stage(service: str, views: Views) -> MeasuredStage:
    source, store = f"postgres-{service}", views.stores.get(service)
    model = Projection(service, READ_MODEL, "read model")
    listed = projector_stage(model, consumer_of(model, store)[0], views).total
    total = listed
    if store is not None and store.emails is not None:
        total = _waiting(store.emails, listed, views, fresh=in_sight(views, source), at=store.at)
        total = replace(total, alive=store.emails.senders > 0)
    key = f"read model {service}/{NAME}"
    return MeasuredStage(key, StageKind.READ_MODEL, NAME, total, problem=unseen(views, source))


def _waiting(emails: EmailsRow, listed: Measure, views: Views, *, fresh: bool, at: float) -> Measure:
    """`listed`: how far the read model is in which e-mails are looked up; what is behind that counts as not
    sent."""
    oldest = emails.oldest
    if oldest is None:
        return replace(listed, ordered=False)
    capped = emails.waiting >= CAP
    age = oldest.age + (views.at - at if fresh else 0.0)
    pending = (listed.pending or 0) + emails.waiting
    passed = min(oldest.position - 1, listed.passed or 0)
    if (listed.age or 0.0) > age:
        return replace(listed, pending=pending, capped=capped, passed=passed, ordered=False)
    event = HeldEvent(
        type="NotificationRequested", stream_id=f"notification-{oldest.notification_id}", version=1,
        position=oldest.position, committed_at=oldest.requested_at, waiting=age,
        attempts=oldest.attempts or None, error=oldest.reason or emails.reason,
    )  # fmt: skip
    return replace(listed, pending=pending, capped=capped, passed=passed, age=age, event=event, ordered=False)
