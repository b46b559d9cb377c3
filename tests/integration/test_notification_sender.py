"""The sender: every notification becomes one e-mail, whatever is away for a while."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import pytest

from chassis.backoff import Backoff
from chassis.migrations import migrate
from chassis.service import Role
from infra.board.collector import Collector
from infra.board.declared import Declared
from infra.board.document import Stage, State
from infra.testing import DatabaseUrls, PostgresServer
from notification_service.app import DEFINITION as NOTIFICATION_SERVICE
from notification_service.breaker import Breaker
from notification_service.dispatch import Pace
from notification_service.domain import MAX_REFUSALS
from tests.integration.notification_kit import Rig, notification_rig
from tests.integration.service_kit import running
from tests.integration.user_kit import ADA, UserService, as_customer, serve, settings_for
from tests.support import eventually
from user_service.app import DEFINITION as USER_SERVICE
from user_service.settings import UserSettings

REQUESTED, DELAYED = "NotificationRequested", "NotificationDelayed"
SENT, FAILED = "NotificationSent", "NotificationFailed"


@pytest.fixture
async def user_settings(postgres: PostgresServer) -> AsyncIterator[UserSettings]:
    """For a user service with a migrated database of its own; it doesn't run yet."""
    database = await postgres.create_database()
    await migrate(database.migrator, USER_SERVICE.migrations, USER_SERVICE.read_models)
    yield settings_for(database)
    await postgres.drop_database(database.name)


@pytest.fixture
async def users(user_settings: UserSettings) -> AsyncIterator[UserService]:
    async with serve(user_settings, frozenset({Role.HTTP, Role.GRPC})) as running_service:
        yield running_service


@asynccontextmanager
async def rig_for(database: DatabaseUrls, settings: UserSettings) -> AsyncIterator[Rig]:
    async with notification_rig(database, f"127.0.0.1:{settings.grpc_port}") as rig:
        yield rig


@pytest.fixture
async def rig(database: DatabaseUrls, user_settings: UserSettings) -> AsyncIterator[Rig]:
    async with rig_for(database, user_settings) as made:
        yield made


@pytest.fixture
async def ada(users: UserService) -> UUID:
    return UUID(await users.register())


async def test_a_notification_is_sent_once_to_the_customers_address(rig: Rig, ada: UUID) -> None:
    async with running([rig.sender()]):
        this = await rig.request(ada)
        row = await rig.row(this, "sent")
    (mail,) = rig.mail.mails
    assert mail.recipient == ADA["email"]
    assert mail.message["To"] == "Ada Lovelace <ada@example.com>"
    assert mail.message["From"] == "Shop <shop@example.com>"
    assert mail.id == f"<{this}@millrace>"
    assert [part.get_content_type() for part in mail.message.iter_parts()] == ["text/plain", "text/html"]
    assert await rig.events(this) == [REQUESTED, SENT]
    assert (row.attempts, row.reason, row.message_id) == (1, None, mail.id)
    assert row.sent_at is not None


async def test_many_notifications_share_a_few_connections(rig: Rig, ada: UUID) -> None:
    wanted = [await rig.request(ada) for _ in range(40)]
    async with running([rig.sender()]):
        for this in wanted:
            assert await rig.settled(this) == [REQUESTED, SENT]
    assert rig.mail.ids() == {f"<{this}@millrace>": 1 for this in wanted}
    assert rig.mail.connections < len(wanted) / 2


async def test_the_mails_of_one_order_go_out_in_the_order_of_what_happened(rig: Rig, ada: UUID) -> None:
    order = uuid4()
    created = await rig.request(ada, "order_created", order)
    confirmed = await rig.request(ada, "order_confirmed", order)
    rig.mail.gate.clear()
    rig.mail.gated = "We have your order"
    async with running([rig.sender()]):
        await eventually(lambda: rig.mail.received > 0, what="the first mail is under way")
        # Time for the second one to overtake it, if it could.
        asyncio.get_running_loop().call_later(0.3, rig.mail.gate.set)
        await rig.settled(confirmed)
    assert [mail.id for mail in rig.mail.mails] == [f"<{created}@millrace>", f"<{confirmed}@millrace>"]


async def test_with_the_mail_server_down_notifications_are_delayed_and_sent_when_it_is_back(
    rig: Rig, ada: UUID
) -> None:
    await rig.mail.stop()
    wanted = [await rig.request(ada) for _ in range(20)]
    async with running([rig.sender()]):
        delayed = await somebody_delayed(rig, wanted)
        row = await rig.row(delayed, "delayed")
        assert row.reason == "mail_server_unavailable"
        assert row.next_attempt_at is not None
        await rig.mail.start()
        for this in wanted:
            assert (await rig.settled(this))[-1] == SENT
    assert rig.mail.ids() == {f"<{this}@millrace>": 1 for this in wanted}


async def test_an_outage_does_not_use_up_attempts(rig: Rig, ada: UUID) -> None:
    await rig.mail.stop()
    this = await rig.request(ada)
    async with running([rig.sender(breaker=Breaker(Backoff(initial=0.001, maximum=0.001)))]):

        async def tried_often() -> bool:
            return (await rig.events(this)).count(DELAYED) > MAX_REFUSALS

        await eventually(tried_often, what="more attempts than a recipient gets")
        await rig.mail.start()
        assert (await rig.settled(this))[-1] == SENT


async def test_an_outage_is_probed_and_not_hammered(rig: Rig, ada: UUID) -> None:
    await rig.mail.stop()
    for _ in range(30):
        await rig.request(ada)
    sender = rig.sender(breaker=Breaker(Backoff(initial=3600.0, maximum=3600.0)))
    async with running([sender]):
        waiting = "waiting: mail_server_unavailable"
        await eventually(lambda: sender.health().detail == waiting, what="the outage is noticed")
        assert sender.health().alive
        assert not sender.health().ready
        # Those that were under way together, and nobody after them.
        assert 1 <= await attempts(rig) <= Pace().concurrency


async def test_e_mails_that_an_outage_holds_up_show_on_the_board_until_they_are_sent(
    rig: Rig, ada: UUID
) -> None:
    await migrate(rig.database.migrator, NOTIFICATION_SERVICE.migrations)
    declared = Declared({"notification": "none"}, (), senders=("notification",))
    async with Collector({"notification": rig.database.board}, "127.0.0.1:1", declared) as board:

        async def stage(state: State) -> Stage:
            [path] = (await board.look()).paths
            assert (path.id, path.stages[-1].state) == ("notification/e-mails", state), path
            return path.stages[-1]

        first = await rig.request(ada)
        stopped = await eventually(lambda: stage(State.STOPPED), 10.0, "nobody sends")
        assert stopped.pending == 1
        await rig.mail.stop()
        async with running([rig.sender()]):
            await rig.request(ada, "order_confirmed")
            stuck = await eventually(lambda: stage(State.STUCK), 12.0, "stuck")

            assert stuck.pending == 2
            requested = (await rig.sql("SELECT min(recorded_at), clock_timestamp() FROM events"))[0]
            assert stuck.age == pytest.approx((requested[1] - requested[0]).total_seconds(), abs=0.5)
            assert stuck.event is not None
            assert stuck.event.stream_id == f"notification-{first}"
            assert stuck.event.error == "mail_server_unavailable"
            [path] = (await board.look()).paths
            assert (path.age or 0.0) > 5.0
            assert "e-mails" in (await board.look()).answer.text
            await rig.mail.start()
            sent = await eventually(lambda: stage(State.UP_TO_DATE), 15.0, "sent")
            assert (sent.age, sent.pending) == (0.0, 0)
    assert len(rig.mail.mails) == 2


async def test_when_an_outage_ends_nobody_waits_for_an_old_guess(rig: Rig, ada: UUID) -> None:
    await rig.mail.stop()
    wanted = [await rig.request(ada) for _ in range(5)]
    async with running([rig.sender(breaker=Breaker(Backoff(initial=3600.0, maximum=3600.0)))]):
        delayed = await somebody_delayed(rig, wanted)
    await rig.mail.start()
    async with running([rig.sender()]):
        assert await rig.settled(delayed) == [REQUESTED, DELAYED, SENT]


async def test_with_the_user_service_down_notifications_are_delayed_and_sent_when_it_is_back(
    database: DatabaseUrls, user_settings: UserSettings
) -> None:
    async with serve(user_settings, frozenset({Role.HTTP, Role.GRPC})) as users:
        ada = UUID(await users.register())
    async with rig_for(database, user_settings) as rig, running([rig.sender()]):
        wanted = [await rig.request(ada) for _ in range(5)]
        delayed = await somebody_delayed(rig, wanted)
        assert (await rig.row(delayed, "delayed")).reason == "user_service_unavailable"
        async with serve(user_settings, frozenset({Role.HTTP, Role.GRPC})):
            for this in wanted:
                assert (await rig.settled(this))[-1] == SENT
    assert rig.mail.ids() == {f"<{this}@millrace>": 1 for this in wanted}


async def test_who_is_unknown_or_deactivated_gets_no_mail_and_holds_nobody_up(
    rig: Rig, users: UserService, ada: UUID
) -> None:
    gone = await users.register({"name": "Bob", "email": "bob@example.com"})
    await users.http.post(f"/users/{gone}/deactivate", headers=as_customer(gone))
    async with running([rig.sender()]):
        unknown, deactivated = await rig.request(uuid4()), await rig.request(UUID(gone))
        fine = await rig.request(ada)
        assert (await rig.row(unknown, "failed")).reason == "unknown_customer"
        assert (await rig.row(deactivated, "failed")).reason == "customer_deactivated"
        assert await rig.settled(fine) == [REQUESTED, SENT]
    assert [mail.recipient for mail in rig.mail.mails] == [ADA["email"]]


async def test_a_refusal_for_good_ends_it(rig: Rig, ada: UUID) -> None:
    rig.mail.replies[ADA["email"]] = ["550 no such mailbox: ada@example.com"]
    async with running([rig.sender()]):
        this = await rig.request(ada)
        assert await rig.settled(this) == [REQUESTED, FAILED]
        assert (await rig.row(this, "failed")).reason == "message_refused"
        next_one = await rig.request(ada, "order_shipped")
        assert await rig.settled(next_one) == [REQUESTED, SENT]


async def test_a_recipient_who_is_deferred_is_tried_again_and_holds_nobody_up(
    rig: Rig, users: UserService, ada: UUID
) -> None:
    bob = UUID(await users.register({"name": "Bob", "email": "bob@example.com"}))
    rig.mail.replies[ADA["email"]] = ["450 greylisted", "450 greylisted"]
    async with running([rig.sender(breaker=Breaker(Backoff(initial=3600.0, maximum=3600.0)))]):
        this, other = await rig.request(ada), await rig.request(bob)
        assert await rig.settled(other) == [REQUESTED, SENT]
        assert await rig.settled(this) == [REQUESTED, DELAYED, DELAYED, SENT]


async def test_a_recipient_who_is_deferred_for_ever_is_given_up(rig: Rig, ada: UUID) -> None:
    rig.mail.replies[ADA["email"]] = ["450 mailbox full"] * 100
    async with running([rig.sender()]):
        this = await rig.request(ada)
        assert await rig.settled(this) == [REQUESTED, *[DELAYED] * (MAX_REFUSALS - 1), FAILED]
        assert (await rig.row(this, "failed")).reason == "attempts_exhausted"


async def test_a_mail_whose_acceptance_was_lost_goes_out_again_recognisably(rig: Rig, ada: UUID) -> None:
    rig.mail.hang_up = 1
    async with running([rig.sender()]):
        this = await rig.request(ada)
        assert await rig.settled(this) == [REQUESTED, DELAYED, SENT]
    assert rig.mail.ids() == {f"<{this}@millrace>": 2}


async def test_a_mail_that_is_sent_later_goes_to_the_address_of_then(
    rig: Rig, users: UserService, ada: UUID
) -> None:
    await rig.mail.stop()
    async with running([rig.sender()]):
        this = await rig.request(ada)
        await rig.row(this, "delayed")
        moved = {"name": "Ada King", "email": "king@example.com"}
        await users.http.put(f"/users/{ada}/contact", json=moved, headers=as_customer(str(ada)))
        await rig.mail.start()
        await rig.settled(this)
    assert [mail.recipient for mail in rig.mail.mails] == ["king@example.com"]


async def test_two_senders_send_each_mail_once_and_the_second_takes_over(rig: Rig, ada: UUID) -> None:
    senders = [rig.sender(), rig.sender()]
    async with running(senders):
        wanted = [await rig.request(ada) for _ in range(30)]
        for this in wanted:
            assert await rig.settled(this) == [REQUESTED, SENT]
        leader, other = sorted(senders, key=lambda sender: sender.health().detail)
        assert (leader.health().detail, other.health().detail) == ("sending", "standing by")
        await leader.stop()
        await eventually(lambda: other.health().detail == "sending", what="the other one takes over")
        wanted.append(await rig.request(ada))
        await rig.settled(wanted[-1])
    assert rig.mail.ids() == {f"<{this}@millrace>": 1 for this in wanted}


async def test_a_sender_that_lost_its_lock_finishes_one_mail_and_begins_no_other(rig: Rig, ada: UUID) -> None:
    rig.mail.gate.clear()
    order = uuid4()
    under_way = await rig.request(ada, "order_created", order)
    after_it = await rig.request(ada, "order_confirmed", order)
    async with running([rig.sender()]):
        await eventually(lambda: rig.mail.received == 1, what="the first mail is under way")
        ended = await rig.sql(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name = 'millrace-notification sender'"
        )
        assert ended == [(True,)]
        async with running([rig.sender()]):
            await eventually(lambda: rig.mail.received == 2, what="another sender has taken over")
            rig.mail.gate.set()
            assert await rig.settled(under_way) == [REQUESTED, SENT]
            assert await rig.settled(after_it) == [REQUESTED, SENT]
    # The one that was in the mail server's hands at that moment is the known exception.
    assert rig.mail.ids() == {f"<{under_way}@millrace>": 2, f"<{after_it}@millrace>": 1}


async def test_a_stop_lets_the_mail_under_way_be_answered_and_recorded(rig: Rig, ada: UUID) -> None:
    rig.mail.gate.clear()
    wanted = [await rig.request(ada) for _ in range(20)]
    async with running([rig.sender()]):
        await eventually(lambda: rig.mail.received > 0, what="mails are under way")
        asyncio.get_running_loop().call_later(0.2, rig.mail.gate.set)
    sent = [this for this in wanted if await rig.events(this) == [REQUESTED, SENT]]
    assert rig.mail.ids() == {f"<{this}@millrace>": 1 for this in sent}
    assert 0 < len(sent) < len(wanted)


async def test_no_personal_data_stay_with_the_notification_service(rig: Rig, ada: UUID) -> None:
    rig.mail.replies[ADA["email"]] = ["450 greylisted ada@example.com", "550 no mailbox ada@example.com"]
    async with running([rig.sender()]):
        await rig.settled(await rig.request(ada))
        this = await rig.request(ada, "order_shipped")
        await rig.settled(this)
        await rig.row(this, "sent")
    stored = await rig.sql(
        "SELECT concat(e, '') FROM events e UNION ALL SELECT concat(n, '') FROM notifications_v1.notifications n"
    )
    assert len(stored) == 7
    assert "Lovelace" not in str(stored)
    assert "ada@" not in str(stored)


async def somebody_delayed(rig: Rig, wanted: list[UUID]) -> UUID:
    """Waits until one of them had a failed attempt."""

    async def look() -> list[UUID]:
        return [this for this in wanted if DELAYED in await rig.events(this)]

    return (await eventually(look, what="somebody is delayed"))[0]


async def attempts(rig: Rig) -> int:
    ((count,),) = await rig.sql("SELECT count(*) FROM events WHERE type = 'NotificationDelayed'")
    return int(count)
