"""Structured logs on standard output: one JSON object a line, or readable lines on a console.

The libraries' own `logging` records take the same way, so that there is one format. Context bound with
`structlog.contextvars` (correlation id, stream, consumer) is in every line, and the id of the trace that it
belongs to.
"""

import logging
import sys
from typing import Any

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from millrace.telemetry import tracing

# Libraries that tell at INFO what nobody asked for.
_CHATTY = ("aiokafka", "uvicorn", "faststream", "psycopg.pool", "asyncio")


def configure_logging(service: str, *, level: str = "info", form: str = "json") -> None:
    """Set up logging for the process. `level`: debug, info, warning, error. `form`: json or console."""

    def name_service(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event.setdefault("service", service)
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_trace,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        name_service,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    rendering: list[Processor] = (
        [_console()]
        if form == "console"
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_dumps)]
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger; call with an event and fields: `log.info("order placed", order_id=...)`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def _add_trace(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    if (trace_id := tracing.trace_id(tracing.current())) is not None:
        event.setdefault("trace_id", trace_id)
    return event


def _console() -> Processor:
    # Plain traces: the pretty ones print local variables, and with them personal data.
    return structlog.dev.ConsoleRenderer(
        colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback
    )


def _dumps(value: Any, **options: Any) -> str:
    return orjson.dumps(value, default=options.get("default", str)).decode()
