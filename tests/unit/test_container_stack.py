"""What the stack in containers tells its services, before any of them runs."""

import pytest

from infra.containers.stack import ContainerStack
from infra.topology import PORTS, SERVICES, Topology


def test_traces_are_asked_for_of_all_services_and_each_keeps_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "one for all")
    stack = ContainerStack(Topology(PORTS))
    for service in SERVICES:
        told = {name: value for name, value in stack.environment(service).items() if name.startswith("OTEL_")}
        assert told == {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


def test_a_service_is_told_its_own_settings_and_nobody_elses() -> None:
    stack = ContainerStack(Topology(PORTS), settings={"ORDER_LOG_LEVEL": "debug"})
    for service in SERVICES:
        told = stack.environment(service)
        assert {name.partition("_")[0] for name in told} - {"OTEL"} == {service.name.upper()}
        assert f"{service.prefix}DATABASE_URL" in told
    assert stack.environment(SERVICES[0])["ORDER_LOG_LEVEL"] == "debug"
