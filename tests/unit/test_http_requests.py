"""What routes are told of a request: who asks, idempotency, preconditions, correlation, pages."""

from collections.abc import AsyncIterator
from hashlib import sha256

import httpx
import pytest
from pydantic import BaseModel

from millrace.http.idempotency import fingerprint
from tests.unit.http_kit import CUSTOMER, KEY, OPERATOR, ORDER, client, fields, problem

CANCEL = "/orders/0199a5f0-7c3e-7d52-9f61-3a0b5d1c7e42/cancel"


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with client() as http:
        yield http


async def test_a_command_without_an_actor_is_told_the_header(http: httpx.AsyncClient) -> None:
    answer = problem(await http.post("/orders", json=ORDER, headers=KEY), 401, "unauthenticated")
    assert "X-Customer-Id" in answer["detail"]


async def test_what_is_for_operators_is_forbidden_to_customers(http: httpx.AsyncClient) -> None:
    problem(await http.post("/products", headers=CUSTOMER), 403, "forbidden")
    assert (await http.post("/products", headers=OPERATOR)).json() == {"actor": "operator:ada"}


async def test_what_is_for_customers_is_forbidden_to_operators(http: httpx.AsyncClient) -> None:
    problem(await http.post("/orders", json=ORDER, headers={**OPERATOR, **KEY}), 403, "forbidden")


@pytest.mark.parametrize(
    "headers", [{"X-Customer-Id": "bob"}, {"X-Operator-Id": "a b"}, {"X-Operator-Id": ""}]
)
async def test_a_malformed_actor_names_its_header(http: httpx.AsyncClient, headers: dict[str, str]) -> None:
    answer = problem(await http.post(CANCEL, headers=headers), 400, "malformed_actor")
    assert fields(answer) == list(headers)


async def test_nobody_is_customer_and_operator_at_once(http: httpx.AsyncClient) -> None:
    problem(await http.post(CANCEL, headers={**CUSTOMER, **OPERATOR}), 400, "ambiguous_actor")


@pytest.mark.parametrize("name", ["X-Customer-Id", "X-Operator-Id"])
@pytest.mark.parametrize("second", ["0199a5ef-11aa-7b0c-8d2e-5f4a6b7c8d9e", ""])
async def test_an_actor_that_is_named_twice_is_ambiguous(
    http: httpx.AsyncClient, name: str, second: str
) -> None:
    """Which of the two would a proxy in front have checked?"""
    headers = [(name, "0199a5ef-11aa-7b0c-8d2e-5f4a6b7c8d9e"), (name, second)]
    for response in (await http.post(CANCEL, headers=headers), await http.get("/who", headers=headers)):
        assert fields(problem(response, 400, "ambiguous_actor")) == [name]


async def test_an_optional_actor_may_be_missing_but_not_malformed(http: httpx.AsyncClient) -> None:
    assert (await http.get("/who")).json() == {"actor": None}
    problem(await http.get("/who", headers={"X-Customer-Id": "bob"}), 400, "malformed_actor")


async def test_a_required_key_that_is_missing(http: httpx.AsyncClient) -> None:
    response = await http.post("/orders", json=ORDER, headers=CUSTOMER)
    assert fields(problem(response, 400, "idempotency_key_required")) == ["Idempotency-Key"]


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, '"open', '""', '"a"b"', "\u00e9"])
async def test_a_malformed_key(http: httpx.AsyncClient, key: str) -> None:
    headers = [(b"X-Customer-Id", CUSTOMER["X-Customer-Id"].encode()), (b"Idempotency-Key", key.encode())]
    response = await http.post("/orders", json=ORDER, headers=headers)
    assert fields(problem(response, 400, "malformed_idempotency_key")) == ["Idempotency-Key"]


async def test_two_keys_are_none(http: httpx.AsyncClient) -> None:
    headers = [*CUSTOMER.items(), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    problem(await http.post("/orders", json=ORDER, headers=headers), 400, "malformed_idempotency_key")


@pytest.mark.parametrize(
    ("sent", "key"),
    [("k-1", "k-1"), ('"k-1"', "k-1"), (r'"a\"b"', 'a"b'), ("x" * 255, "x" * 255), ('a"b', 'a"b')],
)
async def test_a_key_may_be_quoted(http: httpx.AsyncClient, sent: str, key: str) -> None:
    response = await http.post("/orders", json=ORDER, headers={**CUSTOMER, "Idempotency-Key": sent})
    assert response.json()["key"] == key


async def test_the_fingerprint_is_of_what_was_meant_not_of_its_spelling(http: httpx.AsyncClient) -> None:
    async def fingerprint(content: bytes) -> str:
        headers = {**CUSTOMER, **KEY, "Content-Type": "application/json"}
        response = await http.post("/orders", content=content, headers=headers)
        return str(response.json()["fingerprint"])

    compact = await fingerprint(b'{"lines":[{"sku":"TEA-1","quantity":2}]}')
    assert compact == await fingerprint(b'{ "lines" : [ { "quantity" : 2, "sku" : "TEA\\u002d1" } ] }')
    assert compact != await fingerprint(b'{"lines":[{"sku":"TEA-1","quantity":3}]}')


def test_a_field_that_a_deployment_added_makes_no_other_request() -> None:
    class Before(BaseModel):
        quantity: int

    class After(BaseModel):
        quantity: int
        note: str | None = None

    assert fingerprint("/orders", Before(quantity=2)) == fingerprint("/orders", After(quantity=2))
    assert fingerprint("/orders", After(quantity=2)) != fingerprint("/orders", After(quantity=2, note="x"))


@pytest.mark.parametrize(
    "spelling",
    [
        "0199A5F0-7C3E-7D52-9F61-3A0B5D1C7E42",
        "0199a5f07c3e7d529f613a0b5d1c7e42",
        "{0199a5f0-7c3e-7d52-9f61-3a0b5d1c7e42}",
        "urn:uuid:0199a5f0-7c3e-7d52-9f61-3a0b5d1c7e42",
        "0199a5f0%2D7c3e-7d52-9f61-3a0b5d1c7e42",
    ],
)
async def test_an_id_in_another_spelling_is_the_same_request(http: httpx.AsyncClient, spelling: str) -> None:
    async def fingerprint(path: str) -> str:
        return str((await http.post(path, headers={**OPERATOR, **KEY})).json()["fingerprint"])

    usual = sha256(f"{CANCEL}\n".encode()).hexdigest()  # as before: repeats meet what is stored
    assert await fingerprint(CANCEL) == usual
    assert await fingerprint(f"/orders/{spelling}/cancel") == usual
    assert await fingerprint("/orders/0199a5f0-0000-7d52-9f61-3a0b5d1c7e42/cancel") != usual


async def test_a_customer_in_another_spelling_is_the_same_customer(http: httpx.AsyncClient) -> None:
    shouted = {"X-Customer-Id": CUSTOMER["X-Customer-Id"].upper().replace("-", "")}
    usual, other = [
        (await http.post("/orders", json=ORDER, headers={**customer, **KEY})).json()
        for customer in (CUSTOMER, shouted)
    ]
    assert (other["scope"], other["actor"]) == (usual["scope"], usual["actor"])


async def test_a_key_counts_for_one_actor_and_one_route(http: httpx.AsyncClient) -> None:
    mine = (await http.post("/orders", json=ORDER, headers={**CUSTOMER, **KEY})).json()["scope"]
    other = {"X-Customer-Id": "0199a5ef-11aa-7b0c-8d2e-000000000000"}
    theirs = (await http.post("/orders", json=ORDER, headers={**other, **KEY})).json()["scope"]
    assert mine == f"customer:{CUSTOMER['X-Customer-Id']} POST /orders"
    assert theirs != mine


@pytest.mark.parametrize(("sent", "version"), [('"3"', 3), ("*", None), (None, None)])
async def test_if_match_names_a_version(
    http: httpx.AsyncClient, sent: str | None, version: int | None
) -> None:
    headers = OPERATOR if sent is None else {**OPERATOR, "If-Match": sent}
    assert (await http.post(CANCEL, headers=headers)).json()["expected_version"] == version


@pytest.mark.parametrize("sent", ["3", '"0"', '"x"', 'W/"3"', '"3", "4"', '"99999999999999999999"', ""])
async def test_a_malformed_if_match(http: httpx.AsyncClient, sent: str) -> None:
    response = await http.post(CANCEL, headers={**OPERATOR, "If-Match": sent})
    assert fields(problem(response, 400, "malformed_if_match")) == ["If-Match"]


@pytest.mark.parametrize("tag", ['"1"', "*", "nonsense"])
async def test_what_is_created_has_nothing_to_match(http: httpx.AsyncClient, tag: str) -> None:
    response = await http.post("/orders", json=ORDER, headers={**CUSTOMER, **KEY, "If-Match": tag})
    assert fields(problem(response, 412, "precondition_failed")) == ["If-Match"]


async def test_two_conditions_are_none(http: httpx.AsyncClient) -> None:
    headers = [*OPERATOR.items(), ("If-Match", "*"), ("If-Match", '"3"')]
    problem(await http.post(CANCEL, headers=headers), 400, "malformed_if_match")


async def test_a_query_parameter_that_comes_twice_is_refused(http: httpx.AsyncClient) -> None:
    answer = problem(await http.get("/numbers?limit=1&limit=2"), 422, "invalid_request")
    assert fields(answer) == ["limit"]


async def test_a_correlation_id_that_comes_twice_is_replaced(http: httpx.AsyncClient) -> None:
    response = await http.get("/who", headers=[("X-Correlation-Id", "a"), ("X-Correlation-Id", "b")])
    assert response.status_code == 200
    assert response.headers["x-correlation-id"] not in {"a", "b", "a, b"}


async def test_an_answer_carries_etag_and_location(http: httpx.AsyncClient) -> None:
    response = await http.post("/orders", json=ORDER, headers={**CUSTOMER, **KEY})
    assert response.status_code == 201
    assert response.headers["etag"] == '"1"'
    assert response.headers["location"] == "/orders/o-1"
    assert response.headers["content-type"] == "application/json"


async def test_the_correlation_id_is_echoed_and_handed_on(http: httpx.AsyncClient) -> None:
    headers = {**CUSTOMER, **KEY, "X-Correlation-Id": "order-desk-7"}
    response = await http.post("/orders", json=ORDER, headers=headers)
    assert response.headers["x-correlation-id"] == "order-desk-7"
    assert response.json()["correlation_id"] == "order-desk-7"


@pytest.mark.parametrize("sent", ["", "x" * 129, "a b", "caf\u00e9"])
async def test_a_malformed_correlation_id_is_replaced(http: httpx.AsyncClient, sent: str) -> None:
    response = await http.get("/who", headers=[(b"X-Correlation-Id", sent.encode())])
    assert response.status_code == 200
    assert response.headers["x-correlation-id"] not in {"", sent}


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", True), ("00-zz-b7ad6b7169203331-01", False)],
)
async def test_a_well_formed_traceparent_is_handed_on(http: httpx.AsyncClient, sent: str, kept: bool) -> None:
    headers = {**CUSTOMER, **KEY, "traceparent": sent}
    told = (await http.post("/orders", json=ORDER, headers=headers)).json()["traceparent"]
    assert told == (sent if kept else None)


async def test_pages_follow_each_other_without_a_gap(http: httpx.AsyncClient) -> None:
    first = (await http.get("/numbers?limit=3")).json()
    second = (await http.get("/numbers", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert first["numbers"] + second["numbers"] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "cursor",
    [
        *("", "%%%", "bm9uc2Vuc2U", "WyJ4Il0", "WzEsMl0", "WzkyMjMzNzIwMzY4NTQ3NzU4MDhd", "\u00e9"),
        *("IFsxMF0", "WyAxMF0", "WzEwXR", "WzEwXQ=="),  # [10], as no answer spells it
    ],
)
async def test_a_malformed_cursor_is_named(http: httpx.AsyncClient, cursor: str) -> None:
    response = await http.get("/numbers", params={"cursor": cursor})
    assert fields(problem(response, 400, "malformed_cursor")) == ["cursor"]


async def test_a_validators_message_stands_without_its_librarys_words(http: httpx.AsyncClient) -> None:
    body = {"lines": [{"sku": "TEA\u202e", "quantity": 1}]}
    response = await http.post("/orders", json=body, headers={**CUSTOMER, **KEY})
    (error,) = problem(response, 422, "invalid_request")["errors"]
    assert error["message"].startswith("U+202E")
