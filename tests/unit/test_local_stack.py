"""The declaration of the local stack, and what needs no server to be shown."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from infra.local.certificates import renew_certificates
from infra.local.errors import StackError
from infra.local.home import REPOSITORY, Home
from infra.local.process import ManagedProcess
from infra.local.secrets import Secrets
from infra.local.stack import Stack
from infra.logs import new_lines
from infra.topology import PORTS, SERVICES, Topology, free_topology, local_topology
from millrace.tls.files import TlsFiles

STACK_DECIDES = (
    "DATABASE_URL",
    "MIGRATION_DATABASE_URL",
    "KAFKA_BOOTSTRAP_SERVERS",
    "HTTP_HOST",
    "HTTP_PORT",
    "GRPC_HOST",
    "GRPC_PORT",
    "TLS_CA",
    "TLS_CERTIFICATE",
    "TLS_KEY",
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.create()
    return home


def test_every_service_sees_its_own_settings_only(tmp_path: Path) -> None:
    stack = Stack(Topology(PORTS), tmp_path, settings={"ORDER_LOG_LEVEL": "debug", "USER_LOG_LEVEL": "error"})
    secrets = json.loads((tmp_path / "secrets.json").read_text())
    for service in SERVICES:
        env = dict(stack.component(service.name).command().env)
        assert {name.partition("_")[0] for name in env} == {service.name.upper()}
        foreign = [value for name, value in secrets.items() if service.name not in name]
        assert not [value for value in foreign if any(value in setting for setting in env.values())]
        assert not any("migrator" in setting for setting in env.values())
    assert stack.component("order").command().env["ORDER_LOG_LEVEL"] == "debug"


@pytest.mark.parametrize(
    ("component", "name", "value"),
    [
        ("notification", "NOTIFICATION_SMTP_PORT", "2525"),
        ("notification", "NOTIFICATION_SMTP_HOST", "mail.example.com"),
        ("notification", "NOTIFICATION_MAIL_FROM", "Shop <shop@example.com>"),
        ("order", "ORDER_INVENTORY_GRPC_TARGET", "127.0.0.1:1"),
        ("user", "USER_LOG_LEVEL", "debug"),
        ("board", "BOARD_LOG_LEVEL", "debug"),
        ("board", "BOARD_INTERVAL", "5"),
    ],
)
def test_the_users_environment_wins_over_the_defaults_of_the_stack(
    tmp_path: Path, component: str, name: str, value: str
) -> None:
    stack = Stack(Topology(PORTS), tmp_path, settings={name: value})
    stack.component(component).require_settings()
    assert stack.component(component).command().env[name] == value


@pytest.mark.parametrize(
    ("component", "name"),
    [(each.name, f"{each.prefix}{name}") for each in SERVICES for name in STACK_DECIDES]
    + [("user", "USER_PRIVACY_MASTER_KEY")]
    + [
        ("board", f"BOARD_{name}")
        for name in ("HTTP_PORT", "DIRECTORY", "USER_DATABASE_URL", "OPERATOR_TOKEN")
    ],
)
async def test_a_variable_that_the_stack_decides_is_refused_by_its_name(
    tmp_path: Path, component: str, name: str
) -> None:
    stack = Stack(Topology(PORTS), tmp_path, settings={name: "another"})
    for work in (stack.start(component), stack.restart(component)):
        with pytest.raises(StackError, match=f"^{component}: the stack decides {name}: unset it"):
            await work
    if component != "board":
        with pytest.raises(StackError, match=name):
            stack.service(component).tool_command("audit")
    assert "another" not in stack.component(component).command().env.values()
    await stack.down()  # what does not start anything is not refused


async def test_it_is_refused_also_while_the_program_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else `up` would say that everything is ready, on the old port."""
    stack = Stack(free_topology(), tmp_path, settings={"ORDER_HTTP_PORT": "7777"})
    monkeypatch.setattr(type(stack.component("order")), "running", property(lambda _component: True))
    for attempt in (stack.up(), stack.start("order")):
        with pytest.raises(StackError, match=r"^order: the stack decides ORDER_HTTP_PORT: unset it"):
            await attempt


def test_every_setting_of_every_service_is_the_users_or_refused(tmp_path: Path) -> None:
    """Nothing is ignored in silence, also no setting that is added later."""
    for service in SERVICES:
        names = list(Stack(Topology(PORTS), tmp_path).component(service.name).command().env)
        for name in names:
            component = Stack(Topology(PORTS), tmp_path, settings={name: "another"}).component(service.name)
            won = component.command().env[name] == "another"
            try:
                component.require_settings()
                refused = False
            except StackError:
                refused = True
            assert won != refused, name


def test_a_variable_that_says_what_the_stack_says_or_nothing_is_no_conflict(tmp_path: Path) -> None:
    stack = Stack(Topology(PORTS), tmp_path, settings={"ORDER_HTTP_PORT": "8001", "ORDER_GRPC_PORT": ""})
    stack.component("order").require_settings()
    assert stack.component("order").command().env["ORDER_GRPC_PORT"] == "9001"


def test_canaries_are_sent_where_people_look_and_never_in_a_test_that_does_not_ask(tmp_path: Path) -> None:
    def intervals(topology: Topology, settings: dict[str, str]) -> list[str]:
        stack = Stack(topology, tmp_path, settings)
        return [
            stack.component(each.name).command().env[f"{each.prefix}CANARY_INTERVAL"] for each in SERVICES
        ]

    assert intervals(local_topology({}), {}) == ["5"] * len(SERVICES)
    assert intervals(local_topology({}), {"ORDER_CANARY_INTERVAL": "0"})[:2] == ["0", "5"]
    assert intervals(free_topology(), {}) == ["0"] * len(SERVICES)


def test_traces_are_asked_for_of_all_services_and_each_keeps_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "one for all")
    stack = Stack(Topology(PORTS), tmp_path)
    for service in SERVICES:
        env = stack.component(service.name).command().env
        told = {name: value for name, value in env.items() if name.startswith("OTEL_")}
        assert told == {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


def test_a_service_that_asks_another_is_told_where_it_is() -> None:
    topology = Topology(PORTS)
    order, _inventory, notification, user = SERVICES[:4]
    assert topology.settings(order)["ORDER_INVENTORY_GRPC_TARGET"] == "127.0.0.1:9002"
    assert topology.settings(notification)["NOTIFICATION_USER_GRPC_TARGET"] == "127.0.0.1:9004"
    assert topology.settings(notification)["NOTIFICATION_SMTP_PORT"] == "1025"
    assert not [name for name in topology.settings(user) if "TARGET" in name or "SMTP" in name]


def test_ports_move_all_together_or_one_by_one() -> None:
    topology = local_topology({"MILLRACE_PORT_OFFSET": "100", "MILLRACE_KAFKA_PORT": "19092"})
    assert topology.ports["ORDER_HTTP"] == 8101
    assert topology.ports["KAFKA"] == 19092


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"MILLRACE_PORT_OFFSET": "a lot"}, "MILLRACE_PORT_OFFSET: 'a lot' is not a whole number"),
        ({"MILLRACE_SMTP_PORT": "70000"}, "MILLRACE_SMTP_PORT: 70000 is not a port"),
        ({"MILLRACE_SMTP_PORT": "9092"}, "MILLRACE_SMTP_PORT and MILLRACE_KAFKA_PORT are both 9092"),
    ],
)
def test_a_port_that_can_not_be_is_refused_by_the_name_of_its_setting(
    environ: dict[str, str], message: str
) -> None:
    with pytest.raises(StackError, match=message):
        local_topology(environ)


def test_secrets_are_made_once_and_only_their_owner_reads_them(home: Home) -> None:
    first = Secrets(home).get("postgres.service")
    assert Secrets(home).get("postgres.service") == first
    assert Secrets(home).get("postgres.migrator") != first
    assert home.secrets.stat().st_mode & 0o777 == 0o600


def test_certificates_are_made_once_and_each_service_is_shown_its_own(home: Home) -> None:
    assert renew_certificates(home, SERVICES) == [service.name for service in SERVICES]
    assert renew_certificates(home, SERVICES) == []
    assert home.certificates.stat().st_mode & 0o777 == 0o700
    stack = Stack(Topology(PORTS), home.root)
    for service in SERVICES:
        env = stack.component(service.name).command().env
        ca, certificate, key = (
            Path(env[f"{service.prefix}TLS_{name}"]) for name in ("CA", "CERTIFICATE", "KEY")
        )
        assert TlsFiles(ca, certificate, key, service.name).read().names == {f"{service.name}.millrace"}


def test_a_damaged_ca_is_said_in_one_line(home: Home) -> None:
    renew_certificates(home, SERVICES)
    (home.certificates / "ca" / "key.pem").unlink()
    with pytest.raises(
        StackError, match=r"^certificates: the CA in .* can't be used \(.*\): restore its files"
    ):
        renew_certificates(home, SERVICES)


def test_a_damaged_secrets_file_is_not_replaced(home: Home) -> None:
    home.secrets.write_text("{")
    with pytest.raises(StackError, match="damaged"):
        Secrets(home).get("postgres.service")
    assert home.secrets.read_text() == "{"


def test_a_pid_that_now_belongs_to_another_process_is_not_taken_for_ours(home: Home) -> None:
    process = ManagedProcess(home.pid_file("kafka"), home.log("kafka"))
    me = psutil.Process()
    home.pid_file("kafka").write_text(json.dumps({"pid": me.pid, "created": me.create_time()}))
    assert process.find() == me
    home.pid_file("kafka").write_text(json.dumps({"pid": me.pid, "created": me.create_time() - 60}))
    assert process.find() is None


async def test_only_one_command_at_a_time_starts_or_stops_a_stack(tmp_path: Path) -> None:
    stack = Stack(Topology(PORTS, services=()), tmp_path)
    with stack._exclusively(), pytest.raises(StackError, match="another command"):
        await Stack(Topology(PORTS, services=()), tmp_path).down()
    await stack.down()


def test_following_a_log_gives_whole_lines_also_after_it_was_rotated(tmp_path: Path) -> None:
    log = tmp_path / "order.log"
    log.write_text("old\n")
    lines = new_lines(log)
    assert next(lines) == []
    with log.open("a") as file:
        file.write("one\ntw")
    assert next(lines) == ["one"]
    with log.open("a") as file:
        file.write("o\n")
    assert next(lines) == ["two"]
    log.write_text("new\n")
    assert next(lines) == ["new"]


@pytest.mark.parametrize(
    ("arguments", "environ", "message"),
    [
        (["status"], {"MILLRACE_PORT_OFFSET": "x"}, "MILLRACE_PORT_OFFSET"),
        (["start", "kafak"], {}, "no component 'kafak'"),
        (["pause", "kafka"], {}, "kafka does not run"),
    ],
)
def test_the_command_line_says_what_is_wrong_in_one_line(
    arguments: list[str], environ: dict[str, str], message: str, tmp_path: Path
) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "infra.cli", *arguments],
        env=os.environ | environ | {"MILLRACE_HOME": str(tmp_path)},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 1
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_the_status_is_also_told_to_programs(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "infra.cli", "status", "--json"],
        env=os.environ | {"MILLRACE_HOME": str(tmp_path)},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    components = {status["name"]: status["state"] for status in json.loads(result.stdout)}
    assert components["order"] == "stopped"
    assert len(components) == 2 * len(SERVICES) + 3, "and Kafka, the mailbox, the board"


def test_the_status_says_what_one_needs_to_act_on_the_board(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "infra.cli", "status"],
        env=os.environ | {"MILLRACE_HOME": str(tmp_path)},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    env = Stack(Topology(PORTS), tmp_path).board.command().env
    assert f"operator token: {env['BOARD_OPERATOR_TOKEN']}\n" in result.stdout
