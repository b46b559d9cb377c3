"""compose.yaml says the same as the declaration of the topology, and lets no container do more than it
must."""

import json
import re
from importlib import import_module
from typing import Any

import pytest
import yaml

from board.settings import board_settings
from infra.local.home import REPOSITORY
from infra.local.kafka import SERVER_PROPERTIES
from infra.local.postgres import SETTINGS
from infra.topology import CANARY_INTERVAL, PORTS, SERVICES, container_topology, port_setting
from millrace.manifest import Manifest
from millrace.process.settings import MigrationSettings, ServiceSettings
from tests.unit.dockerfiles import environment

COMPOSE = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())
CONTAINERS: dict[str, dict[str, Any]] = COMPOSE["services"]
OPTIONAL = {name for name, container in CONTAINERS.items() if "profiles" in container}
STEPS = {"secrets", "certificates", "topics"} | {
    f"{step}-{service.name}" for step in ("roles", "migrate") for service in SERVICES
}
TLS = {"CA": "ca", "CERTIFICATE": "certificate", "KEY": "key"}
OPERATIONS = {f"restore-{service.name}" for service in SERVICES}
SERVERS = CONTAINERS.keys() - STEPS - OPTIONAL
SETTINGS_OF: dict[str, type[ServiceSettings]] = {
    service.name: import_module(f"{service.package}.app").service.settings for service in SERVICES
}

each_service = pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)


def test_compose_starts_what_the_topology_declares() -> None:
    expected = {"kafka", "mailbox", "board"} | {
        name for service in SERVICES for name in (service.name, service.postgres)
    }

    assert expected == SERVERS


@each_service
def test_a_service_gets_the_settings_of_the_topology(service: Manifest) -> None:
    given = environment(service) | {
        name: value for name, value in CONTAINERS[service.name]["environment"].items() if value is not None
    }
    interval = f"{service.prefix}CANARY_INTERVAL"

    assert given.pop(interval) == f"${{{interval}:-{CANARY_INTERVAL:g}}}"
    assert given == container_topology().settings(service) | {
        f"{service.prefix}TLS_{name}": f"/run/tls/{file}.pem" for name, file in TLS.items()
    }


@each_service
def test_every_setting_in_compose_is_one_that_the_service_reads(service: Manifest) -> None:
    known = {f"{service.prefix}{field}".upper() for field in SETTINGS_OF[service.name].model_fields}

    assert CONTAINERS[service.name]["environment"].keys() <= known | COMPOSE["x-traces"].keys()


@each_service
def test_traces_are_asked_for_of_all_services_and_each_keeps_its_name(service: Manifest) -> None:
    given = CONTAINERS[service.name]["environment"].items()

    assert {name: value for name, value in given if name.startswith("OTEL_")} == COMPOSE["x-traces"]
    assert not COMPOSE["x-traces"].keys() & {"OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"}
    assert not [value for value in COMPOSE["x-traces"].values() if value is not None]


@each_service
def test_a_service_shares_its_database_and_its_secrets_with_nobody(service: Manifest) -> None:
    steps = {f"{step}-{service.name}" for step in ("roles", "migrate", "restore")}
    insiders = {service.name, service.postgres, *steps}
    network, secrets = f"{service.name}-data", f"{service.name}-secrets"

    assert COMPOSE["networks"][network] == {"internal": True}
    reaching = {name for name, container in CONTAINERS.items() if network in networks(container)}
    assert reaching == insiders | {"board"}  # with a login of its own: docs/board.md
    assert {name for name in CONTAINERS if mount_of(name, secrets)} == insiders | {"secrets"}
    assert networks(CONTAINERS[service.postgres]) == {network}
    for name in insiders:
        assert mount_of(name, secrets) == "/run/secrets:ro"


@each_service
def test_a_service_shares_its_certificate_with_nobody(service: Manifest) -> None:
    tls = f"{service.name}-tls"

    assert {name for name in CONTAINERS if mount_of(name, tls)} == {service.name, "certificates"}
    assert mount_of(service.name, tls) == "/run/tls:ro"
    assert mount_of("certificates", tls) == f"/certificates/{service.name}"
    assert service.name in CONTAINERS["certificates"]["command"]
    assert "certificates" in CONTAINERS[service.name]["depends_on"]


def test_nobody_has_the_key_of_the_ca() -> None:
    volume = "certificate-authority"

    assert {name for name in CONTAINERS if mount_of(name, volume)} == {"certificates"}
    assert CONTAINERS["certificates"]["network_mode"] == "none"


@each_service
def test_the_secrets_that_are_made_are_those_that_are_read(service: Manifest) -> None:
    script = (REPOSITORY / "infra" / "compose" / "secrets.sh").read_text()
    keys = CONTAINERS["secrets"]["environment"]["GENERATED"].split()
    required = {
        name
        for settings in (SETTINGS_OF[service.name], MigrationSettings)
        for name, field in settings.model_fields.items()
        if field.is_required()
    }

    assert required == {"database_url", "migration_database_url", *map(str.lower, service.secrets)}
    for name in required:
        made = f"{service.name}/{service.name}_{name}" in keys
        assert made or f"{service.name}_{name}" in script.replace("${service}", service.name), name


def test_the_board_is_told_in_compose_what_it_reads() -> None:
    script = (REPOSITORY / "infra" / "compose" / "secrets.sh").read_text()
    required = {name for name, field in board_settings().model_fields.items() if field.is_required()}
    known = {f"board_{name}".upper() for name in board_settings().model_fields}

    assert required == {f"{service.name}_database_url" for service in SERVICES}
    assert "/secrets/board/board_${service}_database_url" in script
    assert "/secrets/board/board_${service}_operator_database_url" in script
    assert "$directory/board_operator_token" in script
    assert {f"BOARD_{service.name}_OPERATOR_DATABASE_URL".upper() for service in SERVICES} < known
    assert "BOARD_OPERATOR_TOKEN" in known
    assert mount_of("board", "board-secrets") == "/run/secrets:ro"
    assert CONTAINERS["board"]["environment"].keys() <= known
    assert CONTAINERS["board"]["environment"][
        "BOARD_KAFKA_BOOTSTRAP_SERVERS"
    ] == container_topology().address("KAFKA")


def test_no_secret_stands_in_the_file() -> None:
    suspicious = re.compile(r"PASSWORD|SECRET|KEY|DATABASE_URL|TOKEN")
    named = {name for container in CONTAINERS.values() for name in container.get("environment", {})}

    paths = {"POSTGRES_PASSWORD_FILE", *(f"{service.prefix}TLS_KEY" for service in SERVICES)}
    assert {name for name in named if suspicious.search(name)} == paths


@pytest.mark.parametrize("name", sorted(SERVERS))
def test_a_server_is_watched_limited_and_confined(name: str) -> None:
    container = CONTAINERS[name]

    assert container["restart"] == "on-failure:5"
    assert "build" in container or "healthcheck" in container, (
        "the Dockerfiles have a health check of their own"
    )
    assert container.get("user") != "root"


@pytest.mark.parametrize("name", sorted(CONTAINERS))
def test_no_container_may_do_more_than_it_must(name: str) -> None:
    container = CONTAINERS[name]

    assert container["read_only"] is True
    assert container["cap_drop"] == ["ALL"]
    assert container.get("cap_add", []) == capabilities(name)
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert container["mem_limit"]
    assert container["cpus"]
    assert container["pids_limit"]
    assert not container.get("privileged")


@pytest.mark.parametrize("name", sorted(STEPS))
def test_a_step_ends_and_somebody_waits_for_it(name: str) -> None:
    waiting = [
        container["depends_on"][name]["condition"]
        for container in CONTAINERS.values()
        if name in container.get("depends_on", {})
    ]

    assert CONTAINERS[name]["restart"] == "no"
    assert waiting
    assert set(waiting) == {"service_completed_successfully"}


@each_service
def test_an_operator_restores_a_store_with_one_command(service: Manifest) -> None:
    restore, serving = CONTAINERS[f"restore-{service.name}"], CONTAINERS[service.name]
    kafka = f"{service.prefix}KAFKA_BOOTSTRAP_SERVERS"

    assert restore["profiles"] == ["operations"], "`up` does not start it"
    assert (restore["image"], restore["restart"]) == (serving["image"], "no")
    assert restore["entrypoint"] == ["python", "-m", service.package, "restore"]
    assert restore["command"] == [], "so that --dry-run stands behind the entry point"
    assert restore["environment"] == {kafka: serving["environment"][kafka]}
    assert networks(restore) == networks(serving)
    step = f"migrate-{service.name}"
    assert restore["depends_on"] == {name: serving["depends_on"][name] for name in (step, "topics")}


@each_service
def test_no_other_container_can_read_the_urls_of_both_logins(service: Manifest) -> None:
    """Each file is readable by one user; one process, run by an operator, may read them all."""
    users = {
        name: container.get("user", "the image's")
        for name, container in CONTAINERS.items()
        if mount_of(name, f"{service.name}-secrets") == "/run/secrets:ro"
    }

    assert {name for name, user in users.items() if user in ("root", "0:0")} == {f"restore-{service.name}"}
    assert users[service.name] != users[f"migrate-{service.name}"]


def test_ports_are_those_of_the_topology_on_this_machine_only() -> None:
    published = {
        port: listening_port(name, int(port.rsplit(":", 1)[1]))
        for name, container in CONTAINERS.items()
        for port in container.get("ports", [])
    }
    people_use = [
        "KAFKA",
        "MAILBOX",
        "BOARD",
        "PROMETHEUS",
        "GRAFANA",
        *(f"{service.prefix}{port}" for service in SERVICES for port in ("HTTP", "INTERNAL")),
    ]

    assert sorted(published.values()) == sorted(people_use)
    for port, name in published.items():
        assert port.startswith(f"127.0.0.1:${{{port_setting(name)}:-{PORTS[name]}}}:")


@each_service
def test_the_database_server_runs_with_the_settings_of_the_local_stack(service: Manifest) -> None:
    container = CONTAINERS[service.postgres]
    given = dict(option.removeprefix("-c").split("=", 1) for option in container["command"][1:])
    elsewhere = {"listen_addresses", "unix_socket_directories"}  # where it listens is the image's matter

    assert given == {name: value for name, value in SETTINGS.items() if name not in elsewhere}
    assert container["environment"]["POSTGRES_DB"] == service.package
    assert "./millrace/postgres/bootstrap.sql:/etc/millrace/bootstrap.sql:ro" in container["volumes"]


@each_service
def test_a_database_from_before_a_role_gets_it_before_it_is_migrated(service: Manifest) -> None:
    step, server = CONTAINERS[f"roles-{service.name}"], CONTAINERS[service.postgres]

    assert step["environment"] == {"PGHOST": service.postgres, "POSTGRES_DB": service.package}
    assert set(server["volumes"]) & set(map(str, step["volumes"])) == set(server["volumes"][1:])
    assert step["entrypoint"][1] in server["volumes"][2]
    assert f"roles-{service.name}" in CONTAINERS[f"migrate-{service.name}"]["depends_on"]


def test_kafka_runs_with_the_settings_of_the_local_stack() -> None:
    given = CONTAINERS["kafka"]["environment"]
    own = {"listener.security.protocol.map"}  # one more listener here
    expected = {
        f"KAFKA_{name.upper().replace('.', '_')}": value
        for name, value in SERVER_PROPERTIES.items()
        if name not in own
    }

    assert expected.items() <= given.items()
    assert f"INTERNAL://{container_topology().address('KAFKA')}," in given["KAFKA_ADVERTISED_LISTENERS"]


def test_topics_are_created_from_their_declaration() -> None:
    assert CONTAINERS["topics"]["entrypoint"] == [
        "python", "-m", "schemas.create_topics", container_topology().address("KAFKA"),
    ]  # fmt: skip


def test_prometheus_asks_each_service_at_its_internal_port() -> None:
    topology = container_topology()
    for file, host in (("compose", ""), ("local", "127.0.0.1")):
        config = yaml.safe_load((REPOSITORY / "infra" / "prometheus" / f"{file}.yml").read_text())
        asked = {job["job_name"]: job["static_configs"] for job in config["scrape_configs"]}

        assert len(asked) == len(config["scrape_configs"]), "Prometheus takes each name once"
        assert {
            f"{service.name}-service": [
                {"targets": [f"{host or service.name}:{topology.ports[f'{service.prefix}INTERNAL']}"]}
            ]
            for service in SERVICES
        }.items() <= asked.items()
    assert asked["board"] == [{"targets": [f"127.0.0.1:{PORTS['BOARD']}"]}], "the local stack has one"


def test_every_image_can_be_replaced() -> None:
    images = {container["image"] for container in CONTAINERS.values()}
    arguments = {json.dumps(c["build"]["args"], sort_keys=True) for c in CONTAINERS.values() if "build" in c}

    assert all(
        re.fullmatch(r"\$\{MILLRACE_[A-Z]+_IMAGE:-.+}|millrace/.+:\$\{MILLRACE_TAG:-dev}", i) for i in images
    )
    assert len(arguments) == 1
    assert "${MILLRACE_PYTHON_IMAGE:-" in arguments.pop()


def capabilities(name: str) -> list[str]:
    """What a container may do beyond what every process may."""
    if name == "secrets":
        return ["CHOWN"]
    if name == "certificates":
        return ["CHOWN", "DAC_OVERRIDE"]
    return ["DAC_READ_SEARCH"] if name in OPERATIONS else []


def networks(container: dict[str, Any]) -> set[str]:
    return set(container.get("networks", []))


def mount_of(name: str, volume: str) -> str:
    """Where a container sees the volume, and how; empty when it does not."""
    mounts = (mount for mount in CONTAINERS[name].get("volumes", []) if isinstance(mount, str))
    return next((m.removeprefix(f"{volume}:") for m in mounts if m.startswith(f"{volume}:")), "")


def listening_port(name: str, inside: int) -> str:
    """The name in PORTS of a port that a container publishes."""
    if name == "kafka":
        listeners = CONTAINERS[name]["environment"]["KAFKA_LISTENERS"]
        assert f"EXTERNAL://:{inside}," in listeners
        return "KAFKA"
    return next(port for port, number in PORTS.items() if number == inside)
