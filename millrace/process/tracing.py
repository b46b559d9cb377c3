"""Traces as the standard variables ask for them: whether, where to, under which name.

They are OpenTelemetry's own, without the service's prefix
(https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/): what is said in them of
samplers, queues, headers and limits is read by the SDK itself.
"""

import asyncio
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, Protocol

from millrace.process.settings import SettingsError
from millrace.telemetry import tracing
from millrace.telemetry.logging import get_logger

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

log = get_logger(__name__)

FLUSH_TIMEOUT: Final = 2.0  # seconds that the end of a process waits for the collector, at most

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


class Traces(Protocol):
    """What a process recorded."""

    async def flush(self, deadline: float) -> None:
        """Send what is left, until `deadline` (loop time) and no longer than FLUSH_TIMEOUT; then record no
        more."""


def wanted(environment: Mapping[str, str]) -> str | None:
    """The exporter that the environment asks for, "otlp" or "console"; None: no traces.

    Asked for by name (OTEL_TRACES_EXPORTER), or by an endpoint alone. Raises SettingsError for what is not
    here.
    """
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or exporter == "none":
        return None
    if exporter not in ("", "otlp", "console"):
        raise SettingsError(
            [f"OTEL_TRACES_EXPORTER is malformed: {exporter!r}, expected otlp, console or none"]
        )
    if exporter == "console" or not (exporter or any(environment.get(name) for name in _ENDPOINTS)):
        return exporter or None
    protocol = next((environment[name] for name in _PROTOCOLS if environment.get(name)), "http/protobuf")
    if protocol != "http/protobuf":
        raise SettingsError(
            [f"OTEL_EXPORTER_OTLP_PROTOCOL is malformed: {protocol!r}, expected http/protobuf"]
        )
    return "otlp"


@contextmanager
def traces_from_environment(service: str) -> Iterator[Traces]:
    """Records the spans of this process, in its block, if the environment asks for it; `service` names it
    there.

    A collector that is away, slow or broken costs memory for a bounded queue, and nothing else. Raises
    SettingsError.
    """
    exporter = wanted(os.environ)
    if exporter is None:
        yield _Nothing()
        return
    provider = _provider(service, exporter)
    before = tracing.use(_tracer(provider))
    log.info("traces are recorded", exporter=exporter)
    try:
        yield _Recorded(provider)
    finally:
        tracing.use(before)


class _Nothing:
    async def flush(self, deadline: float) -> None:
        """There is nothing."""


class _Recorded:
    def __init__(self, provider: "TracerProvider") -> None:
        self._provider = provider

    async def flush(self, deadline: float) -> None:
        """See Traces."""
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def shut_down() -> None:
            self._provider.shutdown()  # waits for an answer for up to half a minute
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(done.set)

        # A daemon, not one of the loop's threads: the end of the loop and of the process would wait for
        # those.
        threading.Thread(target=shut_down, name="traces flush", daemon=True).start()
        try:
            async with asyncio.timeout_at(min(deadline, loop.time() + FLUSH_TIMEOUT)):
                await done.wait()
        except TimeoutError:
            log.warning("the last traces are lost: the collector did not take them in time")


def _tracer(provider: "TracerProvider") -> tracing.Tracer:
    from millrace.telemetry.tracing.otel import OtelTracer

    return OtelTracer(provider.get_tracer("millrace"))


def _provider(service: str, exporter: str) -> "TracerProvider":
    # Imported here: who records nothing should not pay for it, in time or in memory.
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    # Not OpenTelemetry's global provider: libraries that are instrumented themselves (FastAPI is) would then
    # record every request once more, with path and query as the client typed them. Not shut down at the exit
    # of the interpreter: that would wait for a collector that hangs.
    provider = TracerProvider(resource=_resource(service), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_exporter(exporter)))
    return provider


def _exporter(name: str) -> "SpanExporter":
    if name == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


def _resource(service: str) -> "Resource":
    """OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES, and our name where they give none."""
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource

    told = Resource.create()
    named = str(told.attributes.get(SERVICE_NAME, ""))
    return told.merge(Resource({SERVICE_NAME: service})) if named.startswith("unknown_service") else told
