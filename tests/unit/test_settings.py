"""Settings that come from files, as Docker and Kubernetes mount secrets."""

from pathlib import Path

import pytest

from millrace.process.settings import MigrationSettings, RestoreSettings, SettingsError, load
from order_service.settings import OrderSettings

SECRET = "postgresql://order_service:secret@postgres-order:5432/order_service"


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the order service's secrets; the environment holds none of its settings."""
    monkeypatch.delenv("ORDER_DATABASE_URL", raising=False)
    monkeypatch.setenv("ORDER_SECRETS_DIR", str(tmp_path))
    return tmp_path


def test_a_setting_can_be_a_file_named_as_its_variable(secrets: Path) -> None:
    (secrets / "order_database_url").write_text(f"{SECRET}\n")

    assert load(OrderSettings).database_url == SECRET


def test_the_environment_wins_over_a_file(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (secrets / "order_database_url").write_text(SECRET)
    monkeypatch.setenv("ORDER_DATABASE_URL", f"{SECRET}_2")

    assert load(OrderSettings).database_url == f"{SECRET}_2"


def test_a_malformed_file_is_one_line_that_names_the_variable_and_not_the_secret(secrets: Path) -> None:
    (secrets / "order_database_url").write_text("hunter2")

    with pytest.raises(SettingsError) as refused:
        load(OrderSettings)

    assert refused.value.lines == [
        "ORDER_DATABASE_URL is malformed: expected postgresql://user:password@host:port/database"
    ]


LOGINS: dict[str, str] = {
    "mysql://u:hunter2@h:5432/d": "",
    "u:hunter2@h/d": "",
    "postgresql://u:hunter2@h/d?hots=x": "",
    "postgresql://u:%ZZhunter2@h/d": "",
    "postgresql://u:hunter2@[::1/d": "",
    "postgresql://h:5432/d": "it has no user; ",
    "postgresql://:hunter2@h/d": "it has no user; ",
    "postgresql://u@h:5432/d": "it has no password; ",
    "postgresql://u:@h:5432/d": "it has no password; ",
    "postgresql://u:hunter2@/d": "it has no host; ",
    "postgresql://u:hunter2@h:5432": "it has no database; ",
    "postgresql://u:hunter2@h:5432/": "it has no database; ",
    "postgresql://u:hunter2@h:notaport/d": "its port is no number from 1 to 65535; ",
    "postgresql://u:hunter2@h:0/d": "its port is no number from 1 to 65535; ",
    "postgresql://u:hunter2@h:65536/d": "its port is no number from 1 to 65535; ",
    "postgresql://u:hunter2@h:\u0665/d": "its port is no number from 1 to 65535; ",
    "postgresql://u:hunter2@h:5432,i:x/d": "its port is no number from 1 to 65535; ",
}


@pytest.mark.parametrize("settings", [OrderSettings, MigrationSettings, RestoreSettings])
@pytest.mark.parametrize("url", LOGINS)
def test_a_database_url_that_no_login_works_with_is_named_and_not_repeated(
    secrets: Path, settings: type[OrderSettings | MigrationSettings | RestoreSettings], url: str
) -> None:
    (secrets / "order_database_url").write_text(SECRET if settings is RestoreSettings else url)
    (secrets / "order_migration_database_url").write_text(url)
    with pytest.raises(SettingsError) as refused:
        load(settings, prefix="ORDER_")
    name = "ORDER_DATABASE_URL" if settings is OrderSettings else "ORDER_MIGRATION_DATABASE_URL"
    expected = f"{LOGINS[url]}expected postgresql://user:password@host:port/database"
    assert refused.value.lines == [f"{name} is malformed: {expected}"]


@pytest.mark.parametrize(
    "url",
    [
        "postgres://u:p@h/d",
        "postgresql://u:p@[::1]:5432/d",
        "postgresql://u:p%40%2F%3A@h:65535/d?sslmode=verify-full&application_name=x",
        "postgresql://u:p@h:5432,i:5433/d?target_session_attrs=read-write",
        "postgresql://u:p@h,i/d",
        "postgresql://u:p@%2Frun%2Fpostgresql/d",
        "postgresql:///d?host=/run/postgresql&user=u&password=p",
    ],
)
def test_whatever_postgres_takes_for_a_url_is_one(secrets: Path, url: str) -> None:
    (secrets / "order_database_url").write_text(url)
    assert load(OrderSettings).database_url == url


def test_a_running_service_does_not_look_at_the_migrators_login(secrets: Path) -> None:
    (secrets / "order_migration_database_url").write_text(SECRET)

    with pytest.raises(SettingsError, match="ORDER_DATABASE_URL is not set"):
        load(OrderSettings)
    assert load(MigrationSettings, prefix="ORDER_").migration_database_url == SECRET


def test_a_secret_that_can_not_be_read_is_said_in_one_line(
    secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (secrets / "order_database_url").write_text(SECRET)

    def refuse(path: Path, *_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    # File modes don't stop root, as whom tests may run.
    monkeypatch.setattr(Path, "read_text", refuse)

    with pytest.raises(SettingsError) as refused:
        load(OrderSettings)

    [line] = refused.value.lines
    assert line.startswith(f"ORDER_SECRETS_DIR ({secrets}): [Errno 13] Permission denied")
    assert "order_database_url" in line


def test_the_relay_writes_whole_events_unless_it_is_told_otherwise(
    secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (secrets / "order_database_url").write_text(SECRET)
    assert load(OrderSettings).relay_format == (2, "dev.millrace", "https://millrace.dev/schemas")

    monkeypatch.setenv("ORDER_RECORD_FORMAT", "1")
    monkeypatch.setenv("ORDER_EVENT_TYPE_PREFIX", "com.example.shop")
    monkeypatch.setenv("ORDER_SCHEMA_BASE_URI", "https://example.com/schemas/")
    assert load(OrderSettings).relay_format == (1, "com.example.shop", "https://example.com/schemas")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("RECORD_FORMAT", wrong) for wrong in ("0", "3", "two")),
        *(
            ("EVENT_TYPE_PREFIX", wrong)
            for wrong in ("millrace", "dev.millrace.", ".dev", "dev/millrace", "Ä.x")
        ),
        *(("SCHEMA_BASE_URI", wrong) for wrong in ("schemas", "/schemas", "https:///x", "ftp://h/x")),
        *(("SCHEMA_BASE_URI", f"https://example.com/{wrong}") for wrong in ("?v=1", "#x", "a b", "ä", "a\n")),
    ],
)
def test_a_record_setting_that_makes_no_sense_is_named(
    secrets: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    (secrets / "order_database_url").write_text(SECRET)
    monkeypatch.setenv(f"ORDER_{name}", value)

    with pytest.raises(SettingsError, match=f"^ORDER_{name} is malformed: "):
        load(OrderSettings)
