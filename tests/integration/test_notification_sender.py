"""The sender: every notification becomes one e-mail, whatever is away for a while."""

import asyncio
import json
import os
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID, uuid4

import psutil
import pytest
from psycopg import AsyncConnection

from board.collector import Collector
from board.declared import Declared
from board.document import Stage, State
from infra.local.home import REPOSITORY
from infra.testing import DatabaseUrls, PostgresServer
from millrace.domain.events import EventRegistry
from millrace.domain.upcasting import Upcaster
from millrace.postgres.database import open_pool
from millrace.read_models.projector import Projector
from millrace.runtime.backoff import Backoff
from millrace.store import EventStore
from millrace.testing import running
from millrace.testing.certificates import tls_environment
from notification_service.breaker import DOUBTS, Breaker
from notification_service.dispatch import Pace
from notification_service.domain import MAX_REFUSALS, MAX_UNKNOWN
from notification_service.read_models.notifications import Notifications
from schemas.events.notifications import NOTIFICATION_EVENTS, NotificationRequested, notification_stream
from tests.integration.notification_kit import Rig, notification_rig
from tests.integration.smtp_script import GREETING, scripted_server
from tests.integration.user_kit import ADA, UserDeployment, UserService, as_customer, deployment
from tests.support import eventually

REQUESTED, DELAYED = "NotificationRequested", "NotificationDelayed"
SENT, FAILED = "NotificationSent", "NotificationFailed"


@pytest.fixture
async def user_service(postgres: PostgresServer) -> AsyncIterator[UserDeployment]:
    """It doesn't run yet."""
    async with deployment(postgres) as made:
        yield made


@pytest.fixture
async def users(user_service: UserDeployment) -> AsyncIterator[UserService]:
    async with user_service.serve() as running_service:
        yield running_service


@pytest.fixture
async def rig(database: DatabaseUrls, user_service: UserDeployment) -> AsyncIterator[Rig]:
    async with notification_rig(database, user_service.target) as made:
        yield made


@pytest.fixture
async def ada(users: UserService) -> UUID:
    return UUID(await users.register())


@dataclass(frozen=True)
class SenderProcess:
    """A sender in a process of its own, which freezes when something is due for the first time."""

    process: Process
    log: Path

    def states(self) -> list[str]:
        """As it logged them."""
        logged = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line["state"] for line in logged if line["event"] == "sender"]

    async def is_in(self, state: str) -> None:
        """Returns when it is the last that it said."""
        await eventually(lambda: self.states()[-1:] == [state], 20.0, f"it is {state}")

    async def is_frozen(self) -> None:
        """Returns when it has stopped itself."""
        process = psutil.Process(self.process.pid)
        await eventually(lambda: process.status() == psutil.STATUS_STOPPED, 20.0, "it is frozen")

    def thaw(self) -> None:
        """It goes on where it was."""
        self.process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def sender_process(
    rig: Rig, users: UserDeployment, log: Path, *, lease: float
) -> AsyncIterator[SenderProcess]:
    """Started, and killed in the end."""
    settings = {
        "SENDING_DATABASE_URL": rig.database.service,
        "SENDING_USERS": users.target,
        "SENDING_SMTP_PORT": str(rig.mail.port),
        "SENDING_LEASE": str(lease),
    }
    with log.open("w") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.integration.sender_process",
            env=os.environ | settings | tls_environment("notification", "SENDING_"),
            cwd=REPOSITORY,
            stdin=DEVNULL,
            stdout=out,
            stderr=out,
        )
    try:
        yield SenderProcess(process, log)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def put_in_doubt(database: DatabaseUrls) -> None:
    """As after a start of the server that nobody has compared with the topic yet."""
    async with await AsyncConnection.connect(database.superuser, autocommit=True) as owner:
        await owner.execute("UPDATE store_state SET verified_start = verified_start - interval '1 hour'")


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


async def test_nothing_is_sent_before_the_store_was_compared_with_its_topic(
    rig: Rig, ada: UUID, database: DatabaseUrls
) -> None:
    """A store that came back from a backup has forgotten which mails went out."""
    this = await rig.request(ada)
    await put_in_doubt(database)
    sender = rig.sender()
    async with running([sender]):
        await eventually(lambda: "has not been compared" in sender.health().detail)
        assert not sender.health().ready
        assert rig.mail.received == 0
        await rig.store.note_verified()
        await rig.row(this, "sent")
    assert rig.mail.ids() == {f"<{this}@millrace>": 1}


async def test_no_mail_of_a_batch_goes_out_once_the_store_is_in_doubt(
    rig: Rig, ada: UUID, database: DatabaseUrls
) -> None:
    """The server is replaced by an older copy while a batch is being sent."""
    order = uuid4()
    created = await rig.request(ada, "order_created", order)
    confirmed = await rig.request(ada, "order_confirmed", order)
    rig.mail.gate.clear()
    rig.mail.gated = "We have your order"
    sender = rig.sender()
    async with running([sender]):
        await eventually(lambda: rig.mail.received > 0, what="the first mail is under way")
        await put_in_doubt(database)
        rig.mail.gate.set()
        await eventually(lambda: "has not been compared" in sender.health().detail)
        assert rig.mail.received == 1
        await rig.store.note_verified()
        await rig.settled(confirmed)
    assert rig.mail.ids() == {f"<{this}@millrace>": 1 for this in (created, confirmed)}


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
    rig.mail.replies[ADA["email"]] = ["421 too busy"] * 2 * MAX_REFUSALS
    this = await rig.request(ada)
    async with running([rig.sender(breaker=Breaker(Backoff(initial=0.001, maximum=0.001)))]):

        async def tried_often() -> bool:
            return (await rig.events(this)).count(DELAYED) > MAX_REFUSALS

        await eventually(tried_often, what="more attempts than a recipient gets")
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
            assert "e-mails" in (await board.look()).headline.text
            await rig.mail.start()
            sent = await eventually(lambda: stage(State.UP_TO_DATE), 15.0, "sent")
            assert (sent.age, sent.pending) == (0.0, 0)
    assert len(rig.mail.mails) == 2


async def test_a_mail_server_that_is_away_is_probed_without_a_mail_and_used_as_soon_as_it_is_back(
    rig: Rig, ada: UUID
) -> None:
    async with scripted_server({GREETING: "421 starting"}) as server:
        wanted = [await rig.request(ada) for _ in range(3 * Pace().concurrency)]
        breaker = Breaker(Backoff(initial=0.02, maximum=3600.0, jitter=0.0))
        async with running([rig.sender(breaker=breaker, port=server.port)]):
            await somebody_delayed(rig, wanted)
            await eventually(
                lambda: server.connections > 30, within=20.0, what="it is probed again and again"
            )

            assert await attempts(rig) <= Pace().concurrency  # each attempt is an event, no probe is
            server.answers.clear()
            for this in wanted:
                assert (await rig.settled(this))[-1] == SENT
    assert len(server.messages) == len(wanted)


async def test_a_server_that_answers_and_takes_nothing_is_tried_less_and_less(rig: Rig, ada: UUID) -> None:
    async with scripted_server({"MAIL": "421 later"}) as server:
        this = await rig.request(ada)
        breaker = Breaker(Backoff(initial=0.02, maximum=3600.0, jitter=0.0))
        async with running([rig.sender(breaker=breaker, port=server.port)]):
            await eventually(
                lambda: server.connections > 40, within=20.0, what="it is probed again and again"
            )
            assert 2 <= (await rig.events(this)).count(DELAYED) <= 10


async def test_the_board_names_the_outage_that_there_is_now(
    database: DatabaseUrls, user_service: UserDeployment
) -> None:
    async with user_service.serve() as users:
        ada = UUID(await users.register())
    declared = Declared({"notification": "none"}, (), senders=("notification",))
    async with (
        notification_rig(database, user_service.target) as rig,
        Collector({"notification": rig.database.board}, "127.0.0.1:1", declared) as board,
    ):

        async def cause() -> str | None:
            [path] = (await board.look()).paths
            event = path.stages[-1].event
            return event.error if event is not None else None

        await rig.mail.stop()
        this = await rig.request(ada)
        async with running([rig.sender()]):
            row = await rig.row(this, "delayed")
            assert row.reason == "user_service_unavailable"
            async with user_service.serve():
                # No further attempt was made: this is what the probe has found.
                await eventually(
                    lambda: is_now(cause, "mail_server_unavailable"), within=20.0, what="the new cause"
                )
                await rig.mail.start()
                assert (await rig.settled(this))[-1] == SENT
    ((reason,),) = await rig.sql("SELECT reason FROM email_outage")
    assert reason is None


async def test_when_an_outage_ends_nobody_waits_for_an_old_guess(rig: Rig, ada: UUID) -> None:
    await rig.mail.stop()
    wanted = [await rig.request(ada) for _ in range(5)]
    async with running([rig.sender(breaker=Breaker(Backoff(initial=3600.0, maximum=3600.0)))]):
        delayed = await somebody_delayed(rig, wanted)
    await rig.mail.start()
    async with running([rig.sender()]):
        assert await rig.settled(delayed) == [REQUESTED, DELAYED, SENT]


async def test_with_the_user_service_down_notifications_are_delayed_and_sent_when_it_is_back(
    database: DatabaseUrls, user_service: UserDeployment
) -> None:
    async with user_service.serve() as users:
        ada = UUID(await users.register())
    async with notification_rig(database, user_service.target) as rig, running([rig.sender()]):
        wanted = [await rig.request(ada) for _ in range(5)]
        delayed = await somebody_delayed(rig, wanted)
        assert (await rig.row(delayed, "delayed")).reason == "user_service_unavailable"
        async with user_service.serve():
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


async def test_a_mail_that_is_deferred_after_its_data_holds_nobody_up_and_ends(
    rig: Rig, users: UserService, ada: UUID
) -> None:
    """Its text may be what a scanner chokes on: nobody else's mail has that text."""
    bob = UUID(await users.register({"name": "Bob", "email": "bob@example.com"}))
    rig.mail.verdicts[ADA["email"]] = ["451 try again later"] * 100
    sender = rig.sender(breaker=Breaker(Backoff(initial=3600.0, maximum=3600.0)))
    async with running([sender]):
        this = await rig.request(ada)
        others = [await rig.request(bob) for _ in range(10)]
        for other in others:
            assert await rig.settled(other) == [REQUESTED, SENT]
        assert await rig.settled(this) == [REQUESTED, *[DELAYED] * (MAX_REFUSALS - 1), FAILED]
        assert (await rig.row(this, "failed")).reason == "attempts_exhausted"
        assert sender.health().ready


async def test_a_mail_server_that_takes_no_mail_of_many_customers_in_a_row_is_an_outage(
    rig: Rig, users: UserService
) -> None:
    """A disk that is full: each mail on its own is merely deferred, and would be given up after its tenth
    attempt."""
    many = [f"customer{number}@example.com" for number in range(3 * DOUBTS)]
    customers = [UUID(await users.register({"name": "Bob", "email": email})) for email in many]
    for email in many:
        rig.mail.replies[email] = ["452 insufficient system storage"] * 100
    wanted = [await rig.request(customer) for customer in customers]
    sender = rig.sender(
        breaker=Breaker(Backoff(initial=0.5, maximum=0.5)),
        pace=Pace(recipient_initial=2.0, recipient_maximum=2.0),
    )
    async with running([sender]):
        waiting = "waiting: mail_server_accepts_nothing"
        await eventually(lambda: sender.health().detail == waiting, what="it is seen as an outage")
        assert await attempts(rig) <= DOUBTS + Pace().concurrency  # the others were not even tried
        rig.mail.replies.clear()
        for this in wanted:
            assert (await rig.settled(this))[-1] == SENT
    assert rig.mail.ids() == {f"<{this}@millrace>": 1 for this in wanted}


async def test_a_mail_of_which_nobody_knows_whether_it_arrived_is_repeated_twice_at_most(
    rig: Rig, users: UserService, ada: UUID
) -> None:
    bob = UUID(await users.register({"name": "Bob", "email": "bob@example.com"}))
    rig.mail.unanswered.add(ADA["email"])
    sender = rig.sender(breaker=Breaker(Backoff(initial=3600.0, maximum=3600.0)))
    async with running([sender]):
        this, other = await rig.request(ada), await rig.request(bob)
        assert await rig.settled(other) == [REQUESTED, SENT]
        assert await rig.settled(this) == [REQUESTED, *[DELAYED] * (MAX_UNKNOWN - 1), FAILED]
        assert (await rig.row(this, "failed")).reason == "outcome_unknown"
        assert sender.health().ready
    # All copies can be recognised as one mail.
    assert rig.mail.ids() == {f"<{this}@millrace>": MAX_UNKNOWN, f"<{other}@millrace>": 1}


async def test_a_mail_whose_outcome_is_unknown_shows_on_the_board_until_it_has_ended(
    rig: Rig, ada: UUID
) -> None:
    declared = Declared({"notification": "none"}, (), senders=("notification",))
    rig.mail.unanswered.add(ADA["email"])
    async with Collector({"notification": rig.database.board}, "127.0.0.1:1", declared) as board:

        async def shown() -> str | None:
            [path] = (await board.look()).paths
            event = path.stages[-1].event
            return event.error if event is not None else None

        this = await rig.request(ada)
        pace = Pace(recipient_initial=3600.0, recipient_maximum=3600.0)
        async with running([rig.sender(pace=pace)]):
            assert (await rig.row(this, "delayed")).reason == "outcome_unknown"
            await eventually(lambda: is_now(shown, "outcome_unknown"), what="the board shows it")
            await rig.mail.stop()
            await rig.request(ada, "order_confirmed")
            await eventually(
                lambda: is_now(shown, "mail_server_unavailable"), what="an outage goes before it"
            )


async def test_a_slow_last_answer_is_waited_for(rig: Rig, ada: UUID) -> None:
    """Longer than any other answer: a mail server may look into the text. Who hangs up gets a second copy
    delivered."""
    rig.mail.gate.clear()
    this = await rig.request(ada)
    async with running([rig.sender()]):
        await eventually(lambda: rig.mail.received == 1, what="the mail is under way")
        asyncio.get_running_loop().call_later(3.0, rig.mail.gate.set)  # other answers have 2 s
        assert await rig.settled(this) == [REQUESTED, SENT]
    assert rig.mail.ids() == {f"<{this}@millrace>": 1}


async def test_a_stop_records_a_mail_whose_last_answer_does_not_come_as_unknown(rig: Rig, ada: UUID) -> None:
    """Otherwise each restart would send one more copy."""
    rig.mail.gate.clear()
    this = await rig.request(ada)
    sender = rig.sender(pace=Pace(recipient_initial=3600.0, last_answer=0.2))
    async with running([sender]):
        await eventually(lambda: rig.mail.received == 1, what="the mail is under way")
    assert await rig.events(this) == [REQUESTED, DELAYED]
    assert (await rig.row(this, "delayed")).reason == "outcome_unknown"


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


NEXT_REGISTRY = EventRegistry(
    [
        *(cls for cls in NOTIFICATION_EVENTS.classes if cls is not NotificationRequested),
        type("NotificationRequested", (NotificationRequested,), {"__module__": __name__}, version=2),
    ],
    upcasters=[Upcaster("NotificationRequested", 1, dict)],
)
"""What the next release's process reads."""


async def request_as_next(rig: Rig, customer: UUID) -> UUID:
    """As the next release's process writes it."""
    this, order = uuid4(), uuid4()
    data = NotificationRequested(
        notification_id=this, kind="order_created", order_id=order, customer_id=customer
    )
    await rig.sql(
        "INSERT INTO events (stream_id, version, event_id, type, schema_version, data, metadata)"
        " VALUES (%s, 1, gen_random_uuid(), 'NotificationRequested', 2, %s, '{\"correlation_id\": \"c\"}')"
        " RETURNING 1",
        notification_stream(this),
        data.to_json().decode(),
    )
    return this


async def test_a_sender_leaves_what_a_newer_program_wrote_to_a_newer_sender(rig: Rig, ada: UUID) -> None:
    """The old process goes on sending what it can read, and does not end; it gives up the lead for a
    while."""
    old = rig.sender()
    async with (
        open_pool(rig.database.service, name="next", max_size=3) as pool,
        EventStore(pool, NEXT_REGISTRY) as store,
    ):
        next_rig = replace(rig, store=store)
        async with running([old, Projector(store, Notifications(), pool)]):
            newer = await request_as_next(rig, ada)
            await eventually(lambda: "waits for a newer program" in old.health().detail)
            await rig.settled(await rig.request(ada))
            assert old.health().alive
            assert await rig.events(newer) == [REQUESTED]
            async with running([next_rig.sender()]):
                assert await next_rig.settled(newer) == [REQUESTED, SENT]
    assert rig.mail.ids()[f"<{newer}@millrace>"] == 1


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


async def test_a_sender_that_is_frozen_is_replaced_and_sends_nothing_again_when_it_thaws(
    rig: Rig, user_service: UserDeployment, ada: UUID, tmp_path: Path
) -> None:
    successor = rig.sender(lease=1.0)
    async with sender_process(rig, user_service, tmp_path / "log", lease=1.0) as process:
        await process.is_in("sending")
        wanted = [await rig.request(ada) for _ in range(3)]
        await process.is_frozen()  # it holds the lock, and what it is about to send
        async with running([successor]):
            for this in wanted:
                assert await rig.settled(this) == [REQUESTED, SENT]
            said = len(process.states())
            process.thaw()

            await eventually(lambda: len(process.states()) > said, 20.0, "it steps down")
            assert "did not renew its lease" in process.states()[said]
            await process.is_in("standing by")
            assert successor.health().detail == "sending"
        wanted.append(await rig.request(ada))  # and it is well: it takes over in its turn
        assert await rig.settled(wanted[-1]) == [REQUESTED, SENT]
    assert rig.mail.ids() == {f"<{this}@millrace>": 1 for this in wanted}


async def test_a_sender_that_waits_long_for_the_mail_server_keeps_its_lease(rig: Rig, ada: UUID) -> None:
    rig.mail.gate.clear()
    this = await rig.request(ada)
    sender, other = rig.sender(lease=1.0), rig.sender(lease=1.0)
    async with running([sender]):
        await eventually(lambda: rig.mail.received == 1, what="the mail is under way")
        async with running([other]):
            began = time.monotonic()
            await eventually(lambda: time.monotonic() - began > 2.5, what="more than two leases pass")
            assert other.health().detail == "standing by"
            rig.mail.gate.set()
            assert await rig.settled(this) == [REQUESTED, SENT]
            assert other.health().detail == "standing by"
    assert rig.mail.ids() == {f"<{this}@millrace>": 1}


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
        "SELECT concat(e, '') FROM events e UNION ALL SELECT concat(n, '') FROM"
        " notifications_v1.notifications n"
    )
    assert len(stored) == 7
    assert "Lovelace" not in str(stored)
    assert "ada@" not in str(stored)


async def somebody_delayed(rig: Rig, wanted: list[UUID]) -> UUID:
    """Waits until one of them had a failed attempt."""

    async def look() -> list[UUID]:
        return [this for this in wanted if DELAYED in await rig.events(this)]

    return (await eventually(look, what="somebody is delayed"))[0]


async def is_now(look: Callable[[], Awaitable[str | None]], wanted: str) -> bool:
    """Whether it is what is wanted, for `eventually`."""
    return await look() == wanted


async def attempts(rig: Rig) -> int:
    ((count,),) = await rig.sql("SELECT count(*) FROM events WHERE type = 'NotificationDelayed'")
    return int(count)
