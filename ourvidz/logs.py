"""Logging: readable lines on a terminal, one JSON object a line elsewhere. Secrets never get in.

Events are short fixed texts; what varies stands in keys: `job`, `token`, `stage`, `worker`. The standard library's
loggers come out in the same form.
"""

import logging
import os
import sys
from collections.abc import MutableMapping
from typing import Any, Final, TextIO

import structlog
from structlog.typing import Processor

from ourvidz.masking import mask_value

QUIET: Final = ("urllib3", "alembic", "sqlalchemy", "PIL", "asyncio")
"""Libraries that are heard only from warning upwards."""


def set_up(log_format: str = "auto", level: str = "info", *, stream: TextIO | None = None) -> None:
    """Configure structlog and logging for this process; a second call replaces the first.

    `log_format` is auto, console or json; `level` is debug, info, warning or error; `stream` is stderr when None.
    """
    out = sys.stderr if stream is None else stream
    console = log_format == "console" or (log_format == "auto" and out.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    renderer: Processor = structlog.processors.JSONRenderer(ensure_ascii=False)
    if console:
        renderer = structlog.dev.ConsoleRenderer(colors=out.isatty() and not _no_color(), pad_event_to=32)
    # Tracebacks become text before the mask: rich's own would print the values of local variables.
    last: list[Processor] = [structlog.processors.format_exc_info, _mask, renderer]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,  # a module's logger exists before the process has read its settings
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))


def _mask(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The last look before anything is written."""
    masked: dict[str, Any] = mask_value(event)
    return masked


def _no_color() -> bool:
    return bool(os.environ.get("NO_COLOR"))
