"""Log lines: JSON on stderr, one a record, each with the request and job it belongs to, and without secrets.

Every process of the service writes them. The server and the worker know who acts (`service/acting.py`) and hand that
in; engine and trainer are told by `belonging`.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType

REQUEST_HEADER, JOB_HEADER = "x-request-id", "x-tailorbird-job"
"""How a request to an engine says what it is made for."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "taskName", "color_message"}
_HIDDEN = "***"
_SECRET_NAMES = re.compile(
    r"key[12]?|(api|account|subscription)[-_]?key|.*(password|secret|token|authorization|credential|signature).*",
    re.IGNORECASE,
)
# Secrets inside texts: what follows a name, what stands in a URL, and tokens and keys of known shape.
_SECRETS = re.compile(
    r"""(?P<kept>
          \b(?:bearer|basic|sharedkey|sharedaccesssignature)\s+
        | (?:[?&;]|\b)(?:sig|signature|x-amz-signature|x-amz-credential|x-amz-security-token|x-goog-signature|code
            |access_token|refresh_token|id_token|client_secret|password|api[-_]?key|subscription-key|accountkey
            |sharedaccesskey|key[12])["']?\s*[=:]\s*["']?
        | ://[^/\s:@"']*:(?=[^/\s@"']+@)
        )(?P<secret>[^\s&"',;@}\]]+)
      | \beyJ[\w-]{8,}\.[\w-]+\.[\w-]*
      | \bsk-[\w-]{8,}""",
    re.IGNORECASE | re.VERBOSE,
)


_belonging: ContextVar[Mapping[str, str] | None] = ContextVar("belonging", default=None)


@contextmanager
def belonging(**facts: str) -> Generator[None]:
    """Lines written until the block ends carry these facts, also those of tasks that start inside; empty ones are
    left out. Facts of a block around it stay unless they are told anew."""
    before = _belonging.set({**current(), **facts})
    try:
        yield
    finally:
        _belonging.reset(before)


def current() -> Mapping[str, str]:
    """What was told by `belonging`."""
    return _belonging.get() or {}


def without_secrets(text: str) -> str:
    """Keys, tokens, passwords and signatures in it become three asterisks."""
    return _SECRETS.sub(lambda found: f"{found['kept'] or ''}{_HIDDEN}", text)


class Lines(logging.Formatter):
    """`belongs_to` is asked at each record, in the context that writes it."""

    def __init__(self, belongs_to: Callable[[], Mapping[str, str]] = current) -> None:
        super().__init__()
        self._belongs_to = belongs_to

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": without_secrets(record.getMessage()),
        }
        line.update({name: value for name, value in self._belongs_to().items() if value})
        for name, value in vars(record).items():
            if name not in _STANDARD:
                line[name] = _shown(name, value)
        if record.exc_info:
            line["traceback"] = without_secrets(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


def _shown(name: str, value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    return _HIDDEN if _SECRET_NAMES.fullmatch(name) else without_secrets(str(value))


def set_up(level: str, belongs_to: Callable[[], Mapping[str, str]] = current) -> None:
    """For the whole process. Raises ValueError when there is no such level."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines(belongs_to))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # A request a line is the access log's business, not the client library's.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)


def catch_the_rest() -> None:
    """Python's warnings, and exceptions that end the process or one of its threads, become lines too."""

    def uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        logging.getLogger("tailorbird").critical("an error nobody caught", exc_info=(kind, error, trace))

    def uncaught_in_thread(ended: threading.ExceptHookArgs) -> None:
        uncaught(ended.exc_type, ended.exc_value or ended.exc_type(), ended.exc_traceback)

    logging.captureWarnings(True)
    sys.excepthook = uncaught
    threading.excepthook = uncaught_in_thread
