"""The user service over HTTP and gRPC, on a real Postgres."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import grpc
import psycopg
import pytest
from aiokafka import AIOKafkaConsumer

from infra.testing import DatabaseUrls, KafkaServer
from millrace.kafka.topics import ensure_topics
from millrace.runtime.worker import Role
from schemas.topics import USERS
from tests.integration.user_kit import ADA, OPERATOR, UserService, as_customer, serve
from user_service.app import service


@pytest.fixture
async def users(database: DatabaseUrls) -> AsyncIterator[UserService]:
    """All that needs no broker."""
    async with serve(database) as users:
        yield users


@pytest.fixture
async def commands_only(database: DatabaseUrls) -> AsyncIterator[UserService]:
    """Nothing is projected: read models stay empty."""
    async with serve(database, roles=frozenset({Role.HTTP, Role.GRPC})) as users:
        yield users


async def test_a_registered_user_can_read_themselves(users: UserService) -> None:
    registered = await users.http.post("/users", json=ADA)
    user_id = registered.json()["user_id"]
    assert registered.headers["Location"] == f"/users/{user_id}"
    assert registered.headers["ETag"] == '"1"'
    assert registered.json()["version"] == 1

    read = await users.http.get(f"/users/{user_id}?min_version=1&wait=10", headers=as_customer(user_id))
    assert read.json() == {"user_id": user_id, **ADA, "active": True, "version": 1}
    assert read.headers["ETag"] == '"1"'


async def test_an_operator_can_read_and_change_everybody(users: UserService) -> None:
    user_id = await users.register()
    changed = {"name": "Ada King", "email": "ada.king@example.com"}
    await users.http.put(f"/users/{user_id}/contact", json=changed, headers=OPERATOR)
    read = await users.http.get(f"/users/{user_id}?min_version=2&wait=10", headers=OPERATOR)
    assert read.json() == {"user_id": user_id, **changed, "active": True, "version": 2}


async def test_another_customer_is_refused_whether_or_not_the_user_exists(users: UserService) -> None:
    stranger = as_customer(str(uuid4()))
    for user_id in (await users.register(), str(uuid4())):
        answers = [
            await users.http.get(f"/users/{user_id}", headers=stranger),
            await users.http.put(f"/users/{user_id}/contact", json=ADA, headers=stranger),
            await users.http.post(f"/users/{user_id}/deactivate", headers=stranger),
        ]
        assert [answer.status_code for answer in answers] == [403, 403, 403]


async def test_who_asks_must_be_named(users: UserService) -> None:
    answer = await users.http.get(f"/users/{await users.register()}")
    assert answer.status_code == 401
    assert "X-Customer-Id" in answer.json()["detail"]


async def test_an_unknown_user_is_not_found(users: UserService) -> None:
    nobody = str(uuid4())
    assert (await users.http.get(f"/users/{nobody}", headers=OPERATOR)).status_code == 404
    changed = await users.http.put(f"/users/{nobody}/contact", json=ADA, headers=OPERATOR)
    assert (changed.status_code, changed.json()["type"]) == (404, "/problems/user_not_found")
    assert (await users.http.post(f"/users/{nobody}/deactivate", headers=OPERATOR)).status_code == 404


async def test_bad_input_is_a_problem_that_names_the_field(commands_only: UserService) -> None:
    bad: list[tuple[dict[str, Any], str]] = [
        ({**ADA, "email": "ada"}, "email"),
        ({**ADA, "email": "ada@example.com\r\nBcc: everybody@example.com"}, "email"),
        ({"email": "ada@example.com"}, "name"),
        ({**ADA, "name": "Ada\r\nBcc: everybody@example.com"}, "name"),
        ({**ADA, "admin": True}, "admin"),
    ]
    for body, field in bad:
        answer = await commands_only.http.post("/users", json=body)
        assert (answer.status_code, answer.headers["Content-Type"]) == (422, "application/problem+json")
        assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_racing_registrations_with_one_key_make_one_user(
    commands_only: UserService, database: DatabaseUrls
) -> None:
    key = {"Idempotency-Key": "sign-up-1"}
    answers = await asyncio.gather(
        *(commands_only.http.post("/users", json=ADA, headers=key) for _ in range(20))
    )
    assert {(answer.status_code, answer.text, answer.headers["Location"]) for answer in answers} == {
        (201, answers[0].text, answers[0].headers["Location"])
    }
    assert await rows(database, "SELECT count(*) FROM events") == [(1,)]


async def test_a_key_used_again_for_another_registration_is_refused(commands_only: UserService) -> None:
    await commands_only.register(key="sign-up-1")
    other = {"name": "Bob", "email": "bob@example.com"}
    answer = await commands_only.http.post("/users", json=other, headers={"Idempotency-Key": "sign-up-1"})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/idempotency_key_reused")


async def test_a_repeated_change_of_contact_gives_the_first_answer(commands_only: UserService) -> None:
    user_id = await commands_only.register()
    headers = {**as_customer(user_id), "Idempotency-Key": "move-1"}
    answers = [
        await commands_only.http.put(f"/users/{user_id}/contact", json=ADA, headers=headers) for _ in range(2)
    ]
    assert [answer.json()["version"] for answer in answers] == [2, 2]


async def test_a_change_based_on_an_old_version_is_refused(commands_only: UserService) -> None:
    user_id = await commands_only.register()
    path = f"/users/{user_id}/contact"
    first = await commands_only.http.put(path, json=ADA, headers={**as_customer(user_id), "If-Match": '"1"'})
    second = await commands_only.http.put(path, json=ADA, headers={**as_customer(user_id), "If-Match": '"1"'})
    assert (first.status_code, first.headers["ETag"]) == (200, '"2"')
    assert (second.status_code, second.json()["current_version"]) == (412, 2)


async def test_a_deactivated_user_is_readable_and_unchangeable(users: UserService) -> None:
    user_id = await users.register()
    me = as_customer(user_id)
    deactivated = await users.http.post(
        f"/users/{user_id}/deactivate", json={"reason": "by_request"}, headers=me
    )
    again = await users.http.post(f"/users/{user_id}/deactivate", headers=me)
    assert [(one.status_code, one.json()["version"]) for one in (deactivated, again)] == [(200, 2), (200, 2)]

    read = await users.http.get(f"/users/{user_id}?min_version=2&wait=10", headers=me)
    assert read.json()["active"] is False
    changed = await users.http.put(f"/users/{user_id}/contact", json=ADA, headers=me)
    assert (changed.status_code, changed.json()["current_version"]) == (409, 2)


async def test_a_reason_is_a_code_because_it_is_published(commands_only: UserService) -> None:
    user_id = await commands_only.register()
    answer = await commands_only.http.post(
        f"/users/{user_id}/deactivate", json={"reason": "Ada moved to Paris"}, headers=as_customer(user_id)
    )
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "reason")


async def test_other_services_get_the_contact_before_it_is_projected(commands_only: UserService) -> None:
    user_id = await commands_only.register()
    contact = await commands_only.contact(user_id)
    assert (contact.user_id, contact.name, contact.email) == (user_id, ADA["name"], ADA["email"])
    await commands_only.http.put(
        f"/users/{user_id}/contact",
        json={**ADA, "email": "new@example.com"},
        headers=as_customer(user_id),
    )
    assert (await commands_only.contact(user_id)).email == "new@example.com"


async def test_other_services_learn_why_there_is_no_contact(
    commands_only: UserService, database: DatabaseUrls
) -> None:
    deactivated, keyless = await commands_only.register(), await commands_only.register()
    await commands_only.http.post(f"/users/{deactivated}/deactivate", headers=as_customer(deactivated))
    await rows(database, "DELETE FROM privacy_keys WHERE user_id = %s RETURNING 1", keyless)

    assert await status_of(commands_only, str(uuid4())) is grpc.StatusCode.NOT_FOUND
    assert await status_of(commands_only, keyless) is grpc.StatusCode.NOT_FOUND
    assert await status_of(commands_only, deactivated) is grpc.StatusCode.FAILED_PRECONDITION
    assert await status_of(commands_only, "ada") is grpc.StatusCode.INVALID_ARGUMENT


async def test_no_personal_data_in_the_clear_in_the_database_or_the_topic(
    database: DatabaseUrls, kafka: KafkaServer
) -> None:
    await ensure_topics(kafka.bootstrap_servers, [USERS])
    secret = uuid4().hex
    contact = {"name": f"Name {secret}", "email": f"{secret}@example.com"}
    async with serve(database, kafka=kafka.bootstrap_servers, topics={}) as users:
        user_id = await users.register(contact, key="k")
        await users.http.put(f"/users/{user_id}/contact", json=contact, headers=as_customer(user_id))
        await users.http.get(f"/users/{user_id}?min_version=2&wait=10", headers=OPERATOR)
        topic = await records_until(kafka, f"user-{user_id}", version=b"2")

    stored = await rows(
        database,
        "SELECT concat(e, '') FROM events e UNION ALL SELECT concat(u, '') FROM users_v1.users u"
        " UNION ALL SELECT concat(k, '') FROM privacy_keys k",
    )
    assert len(stored) == 4, "two events, a user, a key"
    assert secret not in str(stored)
    assert secret.encode() not in topic


async def test_who_only_reads_gets_no_keys(database: DatabaseUrls) -> None:
    await service.definition.migrate(database.migrator)
    allowed = (
        "SELECT has_table_privilege('millrace_reader', 'events', 'SELECT'),"
        " has_table_privilege('millrace_reader', 'privacy_keys', 'SELECT')"
    )
    assert await rows(database, allowed) == [(True, False)]


async def status_of(users: UserService, user_id: str) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await users.contact(user_id)
    return refused.value.code()


async def rows(database: DatabaseUrls, query: str, *parameters: object) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(database.superuser) as connection:
        return await (await connection.execute(query.encode(), parameters or None)).fetchall()


async def records_until(kafka: KafkaServer, stream_id: str, *, version: bytes) -> bytes:
    """Everything in the topic up to that version of the stream: keys, values and headers."""
    seen = b""
    consumer = AIOKafkaConsumer(
        USERS.name, bootstrap_servers=kafka.bootstrap_servers, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        async with asyncio.timeout(20):
            async for record in consumer:
                seen += record.key + record.value + b"".join(k.encode() + v for k, v in record.headers)
                if record.key == stream_id.encode() and dict(record.headers)["millrace_version"] == version:
                    break
    finally:
        await consumer.stop()
    return seen
