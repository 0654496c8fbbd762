"""Log lines of a running program: one event a line on standard error, for a human or as JSON.

No secret gets into them: tracebacks come without the values of variables, and what clients send to
authenticate is left out.
"""

import asyncio
import json
import logging
import sys
from typing import Any, Final

import orjson
import structlog

from stream.errors import SettingsError

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

REPEAT_S: Final = 10.0
"""A library's log line of the same form is shown once in this time."""


def configure_logging(level: str = "info", *, as_json: bool = False) -> None:
    """Send this project's log lines and the libraries' warnings to standard error.

    Args:
        level: least severity shown, a key of `LEVELS`.
        as_json: a JSON object per line.

    Raises:
        SettingsError: there is no such level.
    """
    if level not in LEVELS:
        raise SettingsError(f"no log level {level!r}: take one of {', '.join(LEVELS)}")
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(serializer=_as_json)
        if as_json
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    if level != "debug":
        handler.addFilter(_Seldom())
    handler.addFilter(_without_credentials)
    handler.addFilter(_without_cancellations)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Faust, mode and aiokafka tell at "info" what they do step by step.
    root.setLevel(LEVELS[level] if level in {"debug", "error"} else logging.WARNING)


def _as_json(line: dict[str, Any], **options: Any) -> str:
    """Return a log line as JSON; NaN and infinity become null, which JSON has no numbers for.

    Args:
        line: the fields of the log line.
        options: `default` of structlog, which renders what JSON has no form for.
    """
    try:
        return orjson.dumps(line, option=orjson.OPT_NON_STR_KEYS, **options).decode()
    except TypeError:
        # orjson refuses lone surrogates, which names of files may contain, and integers of more
        # than 64 bits. A log line must not fail the work that it reports.
        return json.dumps(line, **options)


def _without_credentials(record: logging.LogRecord) -> bool:
    """Keep of the messages that authenticate a client (aiokafka shows them at "debug") the name."""
    if isinstance(record.args, tuple):
        record.args = tuple(
            type(each).__name__ if type(each).__name__.startswith("Sasl") else each
            for each in record.args
        )
    return True


def _without_cancellations(record: logging.LogRecord) -> bool:
    """Show no traceback of a task that was told to end: Faust calls that a crash in a rebalance."""
    if record.exc_info and record.exc_info[0] is asyncio.CancelledError:
        record.exc_info = None
    return True


class _Seldom(logging.Filter):
    """Lets a library say the same thing once in a while: without a broker it does so all along."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        what = (record.name, str(record.msg))
        last = self._said.get(what)
        if last is not None and record.created - last < REPEAT_S:
            return False
        self._said[what] = record.created
        return True
