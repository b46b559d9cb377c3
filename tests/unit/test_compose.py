"""compose.yaml says the same as the declaration of the topology, and lets no container do more than it must."""

import json
import re
from dataclasses import asdict
from typing import Any

import pytest
import yaml

from chassis.settings import MigrationSettings, ServiceSettings
from infra.board.settings import BoardSettings
from infra.containers.images import Images
from infra.local.home import REPOSITORY
from infra.local.kafka import SERVER_PROPERTIES
from infra.local.postgres import SETTINGS
from infra.topology import CANARY_INTERVAL, PORTS, SERVICES, Service, container_topology, port_setting
from inventory_service.settings import InventorySettings
from notification_service.settings import NotificationSettings
from order_service.settings import OrderSettings
from tests.unit.dockerfiles import environment
from user_service.settings import UserSettings

COMPOSE = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())
CONTAINERS: dict[str, dict[str, Any]] = COMPOSE["services"]
OPTIONAL = {name for name, container in CONTAINERS.items() if "profiles" in container}
STEPS = {"secrets", "topics"} | {
    f"{step}-{service.name}" for step in ("roles", "migrate") for service in SERVICES
}
SERVERS = CONTAINERS.keys() - STEPS - OPTIONAL
SETTINGS_OF: dict[str, type[ServiceSettings]] = {
    "order": OrderSettings,
    "inventory": InventorySettings,
    "notification": NotificationSettings,
    "user": UserSettings,
}

IMAGE_OF = {"kafka": "kafka", "postgres": "postgres-order", "mailpit": "mailbox"}
PYTHON_IMAGE = COMPOSE["x-build"]["args"]["PYTHON_IMAGE"]

each_service = pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)


def test_compose_starts_what_the_topology_declares() -> None:
    expected = {"kafka", "mailbox", "board"} | {
        name for service in SERVICES for name in (service.name, service.postgres)
    }

    assert expected == SERVERS


@each_service
def test_a_service_gets_the_settings_of_the_topology(service: Service) -> None:
    given = environment(service) | {
        name: value for name, value in CONTAINERS[service.name]["environment"].items() if value is not None
    }
    interval = f"{service.prefix}CANARY_INTERVAL"

    assert given.pop(interval) == f"${{{interval}:-{CANARY_INTERVAL:g}}}"
    assert given == container_topology().settings(service)


@each_service
def test_every_setting_in_compose_is_one_that_the_service_reads(service: Service) -> None:
    known = {f"{service.prefix}{field}".upper() for field in SETTINGS_OF[service.name].model_fields}

    assert CONTAINERS[service.name]["environment"].keys() <= known | COMPOSE["x-traces"].keys()


@each_service
def test_a_service_shares_its_database_and_its_secrets_with_nobody(service: Service) -> None:
    insiders = {service.name, f"roles-{service.name}", f"migrate-{service.name}", service.postgres}
    network, secrets = f"{service.name}-data", f"{service.name}-secrets"

    assert COMPOSE["networks"][network] == {"internal": True}
    reaching = {name for name, container in CONTAINERS.items() if network in networks(container)}
    assert reaching == insiders | {"board"}  # with a login of its own: docs/board.md
    assert {name for name in CONTAINERS if mount_of(name, secrets)} == insiders | {"secrets"}
    assert networks(CONTAINERS[service.postgres]) == {network}
    for name in insiders:
        assert mount_of(name, secrets) == "/run/secrets:ro"


@each_service
def test_the_secrets_that_are_made_are_those_that_are_read(service: Service) -> None:
    script = (REPOSITORY / "infra" / "compose" / "secrets.sh").read_text()
    required = {
        name
        for settings in (SETTINGS_OF[service.name], MigrationSettings)
        for name, field in settings.model_fields.items()
        if field.is_required()
    }

    assert required == {"database_url", "migration_database_url", *map(str.lower, service.secrets)}
    for name in required:
        assert f"{service.name}_{name}" in script.replace("${service}", service.name), name


def test_the_board_is_told_in_compose_what_it_reads() -> None:
    script = (REPOSITORY / "infra" / "compose" / "secrets.sh").read_text()
    required = {name for name, field in BoardSettings.model_fields.items() if field.is_required()}
    known = {f"board_{name}".upper() for name in BoardSettings.model_fields}

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

    assert {name for name in named if suspicious.search(name)} == {"POSTGRES_PASSWORD_FILE"}


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
    assert container.get("cap_add", []) == (["CHOWN"] if name == "secrets" else [])
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
        *(f"{service.prefix}HTTP" for service in SERVICES),
    ]

    assert sorted(published.values()) == sorted(people_use)
    for port, name in published.items():
        assert port.startswith(f"127.0.0.1:${{{port_setting(name)}:-{PORTS[name]}}}:")


@each_service
def test_the_database_server_runs_with_the_settings_of_the_local_stack(service: Service) -> None:
    container = CONTAINERS[service.postgres]
    given = dict(option.removeprefix("-c").split("=", 1) for option in container["command"][1:])
    elsewhere = {"listen_addresses", "unix_socket_directories"}  # where it listens is the image's matter

    assert given == {name: value for name, value in SETTINGS.items() if name not in elsewhere}
    assert container["environment"]["POSTGRES_DB"] == service.package
    assert "./infra/postgres/bootstrap.sql:/etc/millrace/bootstrap.sql:ro" in container["volumes"]


@each_service
def test_a_database_from_before_a_role_gets_it_before_it_is_migrated(service: Service) -> None:
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


def test_the_images_are_those_of_the_container_tests() -> None:
    defaults = Images()
    given = {"python": PYTHON_IMAGE} | {name: CONTAINERS[c]["image"] for name, c in IMAGE_OF.items()}

    assert given == {
        name: f"${{MILLRACE_{name.upper()}_IMAGE:-{image}}}" for name, image in asdict(defaults).items()
    }


def test_prometheus_asks_each_service_at_its_http_door() -> None:
    topology = container_topology()
    for file, host in (("compose", ""), ("local", "127.0.0.1")):
        config = yaml.safe_load((REPOSITORY / "infra" / "prometheus" / f"{file}.yml").read_text())
        asked = {job["job_name"]: job["static_configs"] for job in config["scrape_configs"]}

        assert len(asked) == len(config["scrape_configs"]), "Prometheus takes each name once"
        assert {
            f"{service.name}-service": [
                {"targets": [f"{host or service.name}:{topology.ports[f'{service.prefix}HTTP']}"]}
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
