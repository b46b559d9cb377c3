"""Whose fault a failed attempt is: the server's, this message's, or nobody knows whether it failed."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from notification_service.mailer import (
    Mailer,
    MailServerUnavailable,
    MessageDeferred,
    MessageRefused,
    OutcomeUnknown,
)
from notification_service.message import Email
from tests.integration.smtp_script import CLOSE, DOT, GREETING, HANG, ScriptedServer, scripted_server
from tests.support import eventually

EMAIL = Email("shop@example.com", "ada@example.com", b"Subject: hello\r\n\r\n.hidden\r\n")


@asynccontextmanager
async def mailer_to(answers: Mapping[str, str]) -> AsyncIterator[tuple[Mailer, ScriptedServer]]:
    async with (
        scripted_server(answers) as server,
        Mailer("127.0.0.1", server.port, timeout=0.3, final_timeout=0.5) as mailer,
    ):
        yield mailer, server


SERVER = [
    {GREETING: "421 busy"},
    {GREETING: "554 no"},
    {GREETING: CLOSE},
    {GREETING: HANG},
    {"EHLO": "421 busy"},
    {"EHLO": "451 busy", "HELO": "451 busy"},
    {"EHLO": CLOSE},
    {"EHLO": HANG},
    {"MAIL": "421 closing"},
    {"MAIL": "530 authenticate first"},  # the sender is the same for every mail
    {"MAIL": "550 shop@example.com is no customer of ours"},
    {"MAIL": CLOSE},
    {"MAIL": HANG},
    {"RCPT": "421 closing"},
    {"DATA": "421 closing"},
    {"DATA": "250 what?"},
    {DOT: "421 closing"},
]
THIS_MESSAGE_FOR_NOW = [
    {"MAIL": "451 try later"},
    {"MAIL": "452 insufficient storage"},
    {"RCPT": "450 greylisted"},
    {"RCPT": "451 try later"},
    {"RCPT": CLOSE},
    {"RCPT": HANG},
    {"DATA": "451 try later"},
    {"DATA": CLOSE},
    {"DATA": HANG},
    {DOT: "451 the scanner of this text is broken"},
]
THIS_MESSAGE_FOR_GOOD = [
    {"MAIL": "552 too large"},
    {"RCPT": "550 no such mailbox"},
    {"DATA": "554 no"},
    {DOT: "554 spam"},
]
UNKNOWN = [{DOT: CLOSE}, {DOT: HANG}, {DOT: "what?"}]


@pytest.mark.parametrize(
    ("answers", "fault"),
    [
        *((answers, MailServerUnavailable) for answers in SERVER),
        *((answers, MessageDeferred) for answers in THIS_MESSAGE_FOR_NOW),
        *((answers, MessageRefused) for answers in THIS_MESSAGE_FOR_GOOD),
        *((answers, OutcomeUnknown) for answers in UNKNOWN),
    ],
)
async def test_a_failure_is_the_servers_the_messages_or_unknown(
    answers: Mapping[str, str], fault: type[Exception]
) -> None:
    async with mailer_to(answers) as (mailer, server):
        with pytest.raises(fault) as failed:
            await mailer.send(EMAIL)
        assert "ada" not in str(failed.value)
        assert "shop" not in str(failed.value)
        server.answers.clear()
        await mailer.send(EMAIL)  # the next one goes out, whatever became of the first
    assert server.messages[-1] == b"Subject: hello\r\n\r\n..hidden\r\n.\r\n"


@pytest.mark.parametrize("answers", [{"RCPT": "450 later"}, {"DATA": "451 later"}, {DOT: "451 later"}])
async def test_after_a_refusal_the_session_goes_on(answers: Mapping[str, str]) -> None:
    async with mailer_to(answers) as (mailer, server):
        with pytest.raises(MessageDeferred):
            await mailer.send(EMAIL)
        server.answers.clear()
        await mailer.send(EMAIL)
    assert server.connections == 1


async def test_a_mail_server_may_take_long_over_the_last_answer() -> None:
    async with (
        scripted_server({DOT: HANG}) as server,
        Mailer("127.0.0.1", server.port, timeout=0.05, final_timeout=30.0) as mailer,
    ):
        sending = asyncio.create_task(mailer.send(EMAIL))
        await eventually(lambda: bool(server.messages), what="the message is under way")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(sending), 0.5)  # ten times what another answer may take
        mailer.give_up()
        with pytest.raises(OutcomeUnknown):
            await sending


async def test_a_server_is_probed_without_a_mail() -> None:
    async with mailer_to({}) as (mailer, server):
        await mailer.probe()
    assert server.said == ["EHLO", "QUIT"]


@pytest.mark.parametrize(
    "answers",
    [{GREETING: "421 busy"}, {GREETING: CLOSE}, {GREETING: HANG}, {"EHLO": CLOSE}, {"EHLO": "421 no"}],
)
async def test_a_probe_of_a_server_that_does_not_answer_fails(answers: Mapping[str, str]) -> None:
    async with mailer_to(answers) as (mailer, _server):
        with pytest.raises(MailServerUnavailable):
            await mailer.probe()
