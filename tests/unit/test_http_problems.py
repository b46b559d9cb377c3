"""Whatever goes wrong is answered with problem+json that names what and where."""

from collections.abc import AsyncIterator

import httpx
import pytest

from millrace.http.limits import HttpLimits
from tests.unit.http_kit import CUSTOMER, KEY, OPERATOR, ORDER, client, fields, problem

HEADERS = {**CUSTOMER, **KEY}
JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with client() as http:
        yield http


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"lines": [{"sku": "TEA-1", "quantity": 0}]}, "lines[0].quantity"),
        ({"lines": [{"sku": "TEA-1", "quantity": 1}, {"sku": "TEA-1"}]}, "lines[1].quantity"),
        ({"lines": [{"sku": "TEA-1", "quantity": "two"}]}, "lines[0].quantity"),
        ({"lines": [{"sku": "a\x00b", "quantity": 1}]}, "lines[0].sku"),
        ({"lines": [{"sku": "   ", "quantity": 1}]}, "lines[0].sku"),
        ({"lines": [{"sku": "TEA-1", "quantity": 1, "colour": "red"}]}, "lines[0].colour"),
        ({**ORDER, "coupon": "x"}, "coupon"),
        ({"lines": []}, "lines"),
        ({}, "lines"),
        ([], "body"),
        (None, "body"),
    ],
)
async def test_a_bad_field_is_named(http: httpx.AsyncClient, body: object, named: str) -> None:
    answer = problem(await http.post("/orders", json=body, headers=HEADERS), 422, "invalid_request")
    assert fields(answer) == [named]
    assert named in answer["detail"]


async def test_every_bad_field_is_named_at_once(http: httpx.AsyncClient) -> None:
    body = {"lines": [{"sku": "TEA-1", "quantity": 0}, {"quantity": 1}], "coupon": "x"}
    answer = problem(await http.post("/orders", json=body, headers=HEADERS), 422, "invalid_request")
    assert sorted(fields(answer)) == ["coupon", "lines[0].quantity", "lines[1].sku"]


async def test_an_unknown_field_comes_with_a_remedy(http: httpx.AsyncClient) -> None:
    answer = problem(
        await http.post("/orders", json={**ORDER, "coupon": 1}, headers=HEADERS), 422, "invalid_request"
    )
    assert answer["errors"][0]["remedy"] == "leave it out"


@pytest.mark.parametrize("place", ["body", "lines[0]"])
async def test_thousands_of_unknown_fields_are_counted_and_not_named(
    http: httpx.AsyncClient, place: str
) -> None:
    unknown = {f"field{number}": 1 for number in range(10_000)}
    line = ORDER["lines"][0]
    body = {**ORDER, **unknown} if place == "body" else {"lines": [{**line, **unknown}]}
    answer = problem(await http.post("/orders", json=body, headers=HEADERS), 422, "invalid_request")
    (error,) = answer["errors"]
    known = 1 if place == "body" else 2
    assert error == {
        "field": place,
        "message": f"has {10_000 + known} fields and may have {known}",
        "remedy": "leave the unknown ones out",
    }


async def test_of_many_faults_the_first_twenty_are_named_and_the_others_counted(
    http: httpx.AsyncClient,
) -> None:
    body = {"lines": [{"sku": "TEA-1", "quantity": 0}] * 500}
    answer = problem(await http.post("/orders", json=body, headers=HEADERS), 422, "invalid_request")
    assert fields(answer) == [f"lines[{number}].quantity" for number in range(20)]
    assert answer["errors_left_out"] == 480


async def test_no_body_at_all_is_named(http: httpx.AsyncClient) -> None:
    answer = problem(await http.post("/orders", headers=HEADERS), 422, "invalid_request")
    assert fields(answer) == ["body"]


@pytest.mark.parametrize("content", [b'{"lines": [', b"\xff\xfe\x00", b"{'lines': 1}", b"nonsense"])
async def test_malformed_json(http: httpx.AsyncClient, content: bytes) -> None:
    answer = problem(
        await http.post("/orders", content=content, headers={**HEADERS, **JSON}), 400, "malformed_json"
    )
    assert fields(answer) == ["body"]


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b'{"lines":' * 20_000 + b"1" + b"}" * 20_000, "nested too deeply"),
        (b'{"lines": ' + b"9" * 5000 + b"}", "too many digits"),
        (b'{"lines": "\xff"}', "not UTF-8 at byte 11"),
        ('{"lines": []}'.encode("utf-16"), "not UTF-8 at byte 0"),
        (b'{"lines": [{"sku": "A", "sku": "B", "quantity": 1}]}', "'sku' comes more than once"),
        (b'{"lines": NaN}', "NaN is no JSON"),
        (b'{"lines": [}', "not JSON at character 11"),
    ],
    ids=["arrays", "closed arrays", "objects", "digits", "latin", "utf-16", "twice", "NaN", "syntax"],
)
async def test_the_problem_with_a_body_says_what_is_wrong(
    http: httpx.AsyncClient, content: bytes, wrong: str
) -> None:
    response = await http.post("/orders", content=content, headers={**HEADERS, **JSON})
    assert wrong in problem(response, 400, "malformed_json")["detail"]


async def test_a_byte_order_mark_is_passed_over(http: httpx.AsyncClient) -> None:
    content = b'\xef\xbb\xbf{"lines":[{"sku":"TEA-1","quantity":2}]}'
    assert (await http.post("/orders", content=content, headers={**HEADERS, **JSON})).status_code == 201


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx"]
)
async def test_a_body_that_is_not_declared_as_json(http: httpx.AsyncClient, content_type: str) -> None:
    headers = {**HEADERS, "Content-Type": content_type}
    problem(await http.post("/orders", content=b"{}", headers=headers), 415, "unsupported_media_type")


@pytest.mark.parametrize("encoding", ["gzip", "identity, gzip", "aes128gcm"])
async def test_a_body_that_is_encoded(http: httpx.AsyncClient, encoding: str) -> None:
    headers = {**HEADERS, **JSON, "Content-Encoding": encoding}
    problem(await http.post("/orders", content=b"{}", headers=headers), 415, "unsupported_media_type")


async def test_a_body_that_says_it_is_not_encoded(http: httpx.AsyncClient) -> None:
    content = b'{"lines":[{"sku":"TEA-1","quantity":2}]}'
    headers = {**HEADERS, **JSON, "Content-Encoding": "Identity"}
    assert (await http.post("/orders", content=content, headers=headers)).status_code == 201


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/cloudevents+json"]
)
async def test_every_spelling_of_json_is_understood(http: httpx.AsyncClient, content_type: str) -> None:
    content = b'{"lines":[{"sku":"TEA-1","quantity":2}]}'
    response = await http.post("/orders", content=content, headers={**HEADERS, "Content-Type": content_type})
    assert response.status_code == 201


async def test_a_body_over_the_limit_by_its_declared_length() -> None:
    async with client(limits=HttpLimits(body_bytes=1000)) as http:
        response = await http.post("/orders", content=b"x" * 1001, headers={**HEADERS, **JSON})
    assert problem(response, 413, "body_too_large")["limit"] == 1000
    assert response.headers["connection"] == "close"


async def test_a_body_over_the_limit_in_chunks_without_a_length() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b" " * 100

    async with client(limits=HttpLimits(body_bytes=1000)) as http:
        response = await http.post("/orders", content=chunks(), headers={**HEADERS, **JSON})
    assert "content-length" not in response.request.headers
    problem(response, 413, "body_too_large")


async def test_a_body_of_exactly_the_limit_is_read() -> None:
    async with client(limits=HttpLimits(body_bytes=1000)) as http:
        content = b'{"lines":[{"sku":"TEA-1","quantity":2}]}'.ljust(1000)
        assert (await http.post("/orders", content=content, headers={**HEADERS, **JSON})).status_code == 201


async def test_an_unknown_route(http: httpx.AsyncClient) -> None:
    problem(await http.get("/nowhere"), 404, "no_such_route")


async def test_a_path_that_is_no_uuid(http: httpx.AsyncClient) -> None:
    answer = problem(await http.post("/orders/7/cancel", headers=OPERATOR), 422, "invalid_request")
    assert fields(answer) == ["order_id"]


@pytest.mark.parametrize(("query", "named"), [("limit=0", "limit"), ("limit=x", "limit"), ("limt=5", "limt")])
async def test_a_bad_or_unknown_query_parameter(http: httpx.AsyncClient, query: str, named: str) -> None:
    answer = problem(await http.get(f"/numbers?{query}"), 422, "invalid_request")
    assert fields(answer) == [named]


async def test_a_refusal_is_a_conflict_with_its_code_and_details(http: httpx.AsyncClient) -> None:
    answer = problem(await http.get("/raise/refused"), 409, "order_already_shipped")
    assert answer["detail"] == "The order is on its way."
    assert answer["order_id"] == "o-1"


async def test_a_refusal_has_the_status_that_was_declared_for_its_code(http: httpx.AsyncClient) -> None:
    problem(await http.get("/raise/missing"), 404, "order_not_found")


async def test_a_lost_race_is_a_conflict_with_the_current_version(http: httpx.AsyncClient) -> None:
    assert problem(await http.get("/raise/stale"), 409, "conflict")["current_version"] == 5


async def test_a_stale_precondition_fails_with_the_current_version(http: httpx.AsyncClient) -> None:
    response = await http.get("/raise/stale", headers={"If-Match": '"3"'})
    assert problem(response, 412, "precondition_failed")["current_version"] == 5


async def test_a_reused_key_names_the_header(http: httpx.AsyncClient) -> None:
    answer = problem(await http.get("/raise/reused"), 422, "idempotency_key_reused")
    assert fields(answer) == ["Idempotency-Key"]


async def test_a_database_that_is_away_is_a_503_to_be_tried_again(http: httpx.AsyncClient) -> None:
    response = await http.get("/raise/database-down")
    problem(response, 503, "temporarily_unavailable")
    assert response.headers["retry-after"] == "1"


async def test_an_unexpected_error_tells_nothing_of_the_inside(http: httpx.AsyncClient) -> None:
    response = await http.get("/raise/unexpected")
    problem(response, 500, "internal_error")
    for secret in ("hunter2", "RuntimeError", "Traceback", ".py"):
        assert secret not in response.text


async def test_a_body_that_is_declared_in_two_ways(http: httpx.AsyncClient) -> None:
    headers = [*HEADERS.items(), ("Content-Type", "application/json"), ("Content-Type", "text/plain")]
    problem(await http.post("/orders", content=b"{}", headers=headers), 415, "unsupported_media_type")
