"""JSON lines on stderr, one a record, each with the request, account and job it belongs to, and without secrets."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime

from tailorbird.service import acting

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


def without_secrets(text: str) -> str:
    """Keys, tokens, passwords and signatures in it become three asterisks."""
    return _SECRETS.sub(lambda found: f"{found['kept'] or ''}{_HIDDEN}", text)


class Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": without_secrets(record.getMessage()),
        }
        line.update(_belongs_to())
        for name, value in vars(record).items():
            if name not in _STANDARD:
                line[name] = _shown(name, value)
        if record.exc_info:
            line["traceback"] = without_secrets(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


def _belongs_to() -> dict[str, str]:
    who = acting.current()
    facts = {
        "request_id": who.request_id,
        "account": who.account,
        "principal": who.principal_name if who.request_id else "",
        "job": who.job,
    }
    return {name: value for name, value in facts.items() if value}


def _shown(name: str, value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    return _HIDDEN if _SECRET_NAMES.fullmatch(name) else without_secrets(str(value))


def set_up(level: str) -> None:
    """Raises ValueError when there is no such level."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # A request a line is the access log's business, not the client library's.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
