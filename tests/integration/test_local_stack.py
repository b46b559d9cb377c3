"""The local stack starts, says clearly why it can't, and keeps what it was given."""

import asyncio
import os
import smtplib
import socket
from collections.abc import AsyncIterator
from email.message import EmailMessage

import httpx
import psycopg
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from infra.local.errors import ComponentError, PortTaken, StackError
from infra.local.home import Home
from infra.local.stack import Stack
from infra.testing import unique
from infra.topology import SERVICES, Topology, free_topology
from millrace.kafka.topics import ensure_topics

ORDER = SERVICES[0]


@pytest.fixture
async def stack(test_home: Home) -> AsyncIterator[Stack]:
    """A stack of its own with one service, nothing started."""
    stack = Stack(Topology(free_topology().ports, services=(ORDER,)), test_home.root / unique("stack"))
    yield stack
    await stack.down()


async def servers_up(stack: Stack) -> None:
    await asyncio.gather(*(stack.start(name) for name in ("postgres-order", "kafka", "mailbox")))


def send_mail(stack: Stack, subject: str = "Your order", html: str = "") -> None:
    message = EmailMessage()
    message["From"] = "Shop <shop@example.com>"
    message["To"] = "Zoë <zoe@example.com>"
    message["Subject"] = subject
    message["Message-ID"] = "<notification-1@example.com>"
    message.set_content("Thank you, Zoë.")
    if html:
        message.add_alternative(html, subtype="html")
    with smtplib.SMTP("127.0.0.1", stack.mailbox.smtp_port) as smtp:
        smtp.send_message(message)


async def test_the_servers_start_on_free_ports_and_keep_their_data_through_down_and_up(stack: Stack) -> None:
    await servers_up(stack)
    url = stack.component("postgres-order").superuser_url()  # type: ignore[attr-defined]
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    await ensure_topics(stack.kafka.bootstrap_servers, stack.topology.topics)
    send_mail(stack)

    await stack.down()
    assert {status.state for status in await stack.status()} == {"stopped"}
    await servers_up(stack)

    async with await psycopg.AsyncConnection.connect(url) as connection:
        assert await (await connection.execute("SELECT answer FROM kept")).fetchone() == (42,)
    assert {topic.name for topic in stack.topology.topics} <= await topic_names(stack)
    async with httpx.AsyncClient(base_url=stack.url("mailbox")) as mailbox:
        listed = (await mailbox.get("/api/v1/messages")).json()
    assert [mail["Subject"] for mail in listed["messages"]] == ["Your order"]


async def topic_names(stack: Stack) -> set[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka.bootstrap_servers)
    await admin.start()
    try:
        return set(await admin.list_topics())
    finally:
        await admin.close()


async def test_a_taken_port_is_an_error_that_names_component_holder_and_setting(stack: Stack) -> None:
    # The port that is needed last: without a look at all of them first, everything else would be up by then.
    taken = socket.create_server(("127.0.0.1", stack.topology.ports["ORDER_HTTP"]))
    with taken, pytest.raises(PortTaken) as refused:
        await stack.up()
    message = str(refused.value)
    assert message.startswith("order: port")
    assert f"pid {os.getpid()}" in message
    assert "MILLRACE_ORDER_HTTP_PORT=" in message
    assert {status.state for status in await stack.status()} == {"stopped"}, "nothing is left half up"


async def test_a_component_that_can_not_start_shows_the_end_of_its_log(stack: Stack) -> None:
    await stack.start("postgres-order")
    await stack.stop("postgres-order")
    (stack.home.data("postgres-order") / "postgresql.conf").write_text("no such setting\n")
    with pytest.raises(ComponentError) as failed:
        await stack.start("postgres-order")
    assert str(failed.value).startswith("postgres-order: ended")
    assert str(stack.home.log("postgres-order")) in str(failed.value)
    assert "postgresql.conf" in failed.value.details


async def test_a_paused_component_is_seen_as_such_and_goes_on(stack: Stack) -> None:
    await stack.start("mailbox")
    await stack.pause("mailbox")
    assert await state(stack, "mailbox") == "paused"
    await stack.resume("mailbox")
    assert await state(stack, "mailbox") == "ready"


async def test_starting_a_paused_component_lets_it_go_on(stack: Stack) -> None:
    await stack.start("mailbox")
    await stack.pause("mailbox")
    await stack.start("mailbox")
    assert await state(stack, "mailbox") == "ready"


async def test_a_killed_component_is_stopped_and_starts_again_as_another_process(stack: Stack) -> None:
    await stack.start("mailbox")
    first = stack.component("mailbox").process.find()
    await stack.kill("mailbox")
    assert await state(stack, "mailbox") == "stopped"
    await stack.start("mailbox")
    second = stack.component("mailbox").process.find()
    assert first is not None
    assert second is not None
    assert first.pid != second.pid


async def test_a_second_start_leaves_a_running_component_alone(stack: Stack) -> None:
    await stack.start("mailbox")
    first = stack.component("mailbox").process.find()
    await stack.start("mailbox")
    assert stack.component("mailbox").process.find() == first


async def test_what_another_process_started_is_found_and_can_be_stopped(stack: Stack) -> None:
    await stack.start("mailbox")
    other = Stack(stack.topology, stack.home.root)
    assert await state(other, "mailbox") == "ready"
    await other.stop("mailbox")
    assert await state(stack, "mailbox") == "stopped"


async def test_an_unknown_component_is_refused_with_the_names_there_are(stack: Stack) -> None:
    with pytest.raises(StackError, match="no component 'kafak'; there are: postgres-order, kafka"):
        await stack.start("kafak")


async def state(stack: Stack, name: str) -> str:
    return next(status.state for status in await stack.status() if status.name == name)


async def test_a_message_is_read_through_the_mailboxs_api(stack: Stack) -> None:
    await stack.start("mailbox")
    send_mail(stack, "Grüße", html="<p>Thank you.</p>")
    async with httpx.AsyncClient(base_url=stack.url("mailbox")) as mailbox:
        listed = (await mailbox.get("/api/v1/messages")).json()
        identity = listed["messages"][0]["ID"]
        message = (await mailbox.get(f"/api/v1/message/{identity}")).json()
        assert listed["total"] == 1
        assert message["Subject"] == "Grüße"
        assert message["From"] == {"Name": "Shop", "Address": "shop@example.com"}
        assert message["To"] == [{"Name": "Zoë", "Address": "zoe@example.com"}]
        assert message["MessageID"] == "notification-1@example.com"
        assert message["Text"].strip() == "Thank you, Zoë."
        assert message["HTML"].strip() == "<p>Thank you.</p>"
        assert (await mailbox.get("/api/v1/message/nothing")).status_code == 404
        assert (await mailbox.delete("/api/v1/messages")).status_code == 200
        assert (await mailbox.get("/api/v1/messages")).json()["messages"] == []


async def test_the_mailboxs_pages_run_nothing_that_an_email_brings(stack: Stack) -> None:
    await stack.start("mailbox")
    send_mail(stack, "<script>alert(1)</script>", html="<script>alert(2)</script>'><script>alert(3)</script>")
    async with httpx.AsyncClient(base_url=stack.url("mailbox")) as mailbox:
        listed = await mailbox.get("/")
        identity = (await mailbox.get("/api/v1/messages")).json()["messages"][0]["ID"]
        shown = await mailbox.get(f"/view/{identity}")
    for page in (listed, shown):
        assert "&lt;script&gt;alert(1)" in page.text
        assert "<script" not in page.text
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert "<iframe sandbox title" in shown.text
