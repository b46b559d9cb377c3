"""What the board is told, and that the stack tells it."""

from pathlib import Path

import pytest

from board.settings import board_settings
from infra.local.stack import Stack
from infra.topology import PORTS, SERVICES, Topology
from millrace.process.settings import SettingsError, load

URL = "postgresql://order_service_board:secret@db:5432/order_service"


@pytest.fixture
def logins(monkeypatch: pytest.MonkeyPatch) -> None:
    for service in SERVICES:
        monkeypatch.setenv(f"BOARD_{service.name.upper()}_DATABASE_URL", URL)


@pytest.mark.usefixtures("logins")
def test_there_is_a_login_for_every_service() -> None:
    assert load(board_settings()).databases == {service.name: URL for service in SERVICES}


def test_a_missing_login_is_named_and_no_other_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOARD_USER_DATABASE_URL", "mysql://u:secret@db/x")
    with pytest.raises(SettingsError) as failed:
        load(board_settings())
    assert ("BOARD_ORDER_DATABASE_URL is not set: the order service's Postgres, by the board's read-only"
        " login") in str(failed.value)  # fmt: skip
    assert "secret" not in str(failed.value)


@pytest.mark.usefixtures("logins")
@pytest.mark.parametrize("name", ["BOARD_USER_DATABASE_URL", "BOARD_USER_OPERATOR_DATABASE_URL"])
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://u@db/x", "it has no password; "),
        ("postgresql://u:secret@db:x/x", "its port is no number from 1 to 65535; "),
    ],
)
def test_a_login_that_can_not_work_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, url: str, said: str
) -> None:
    monkeypatch.setenv(name, url)
    with pytest.raises(SettingsError) as failed:
        load(board_settings())
    expected = "expected postgresql://user:password@host:port/database"
    assert failed.value.lines == [f"{name} is malformed: {said}{expected}"]


@pytest.mark.usefixtures("logins")
def test_the_names_it_answers_to_are_loopbacks_unless_others_are_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert load(board_settings()).hosts == ("localhost", "127.0.0.1")
    monkeypatch.setenv("BOARD_HOSTS", "board, localhost")
    assert load(board_settings()).hosts == ("board", "localhost")


@pytest.mark.usefixtures("logins")
def test_a_password_is_not_in_what_is_printed_of_the_settings() -> None:
    assert "secret" not in repr(load(board_settings()))


def test_the_stack_starts_it_with_its_own_logins_and_nobody_elses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = dict(Stack(Topology(PORTS), tmp_path).component("board").command().env)
    assert {name.partition("_")[0] for name in env} == {"BOARD"}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    settings = load(board_settings())
    assert settings.http_port == 8080
    assert {url.partition("//")[2].partition(":")[0] for url in settings.databases.values()} == {
        f"{service.package}_board" for service in SERVICES
    }
    assert {url.partition("//")[2].partition(":")[0] for url in settings.operator_databases.values()} == {
        f"{service.package}_operator" for service in SERVICES
    }
    assert settings.operator_token is not None
