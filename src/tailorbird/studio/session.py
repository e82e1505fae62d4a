"""Who is signed in: kept by the server, encrypted with a key that only the browser's cookie has."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

COOKIE = "tailorbird_studio"
IDLE_SECONDS = 12 * 3600
"""A session unused for so long is over; the cookie says the same."""


@dataclass(frozen=True, slots=True)
class Session:
    """`kind` is `key`, `user`, `application` or `token`; `expires_at` (seconds since 1970) is the credential's, 0 for
    never. `account` is the resource id of the account that was chosen."""

    kind: str
    name: str
    credential: str
    refresh_token: str = ""
    expires_at: float = 0.0
    account: str = ""

    @property
    def headers(self) -> dict[str, str]:
        if self.kind == "key":
            return {"api-key": self.credential}
        return {"authorization": f"Bearer {self.credential}"}


class Sessions:
    """One file a session; its name is a digest of the cookie and its content unreadable without the cookie."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def begin(self, session: Session) -> str:
        """The cookie's value."""
        self._sweep()
        # Without its padding: an equals sign would have to be quoted in a cookie.
        cookie = Fernet.generate_key().decode().rstrip("=")
        self._write(cookie, session)
        return cookie

    def find(self, cookie: str | None) -> Session | None:
        """None when there is no such session, or it was unused for too long."""
        if not cookie:
            return None
        path = self._path(cookie)
        try:
            if time.time() - path.stat().st_mtime > IDLE_SECONDS:
                path.unlink(missing_ok=True)
                return None
            found = Session(**json.loads(_cipher(cookie).decrypt(path.read_bytes())))
            path.touch()
        except (OSError, ValueError, TypeError, InvalidToken):
            return None
        return found

    def change(self, cookie: str, **fields: str | float) -> Session | None:
        """The session with other fields; None when it is over."""
        found = self.find(cookie)
        if found is None:
            return None
        changed = replace(found, **fields)  # pyright: ignore[reportArgumentType]
        self._write(cookie, changed)
        return changed

    def end(self, cookie: str | None) -> None:
        if cookie:
            self._path(cookie).unlink(missing_ok=True)

    def _write(self, cookie: str, session: Session) -> None:
        path = self._path(cookie)
        draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        draft.touch(mode=0o600)
        draft.write_bytes(_cipher(cookie).encrypt(json.dumps(asdict(session)).encode()))
        draft.replace(path)

    def _path(self, cookie: str) -> Path:
        return self._folder / f"{hashlib.sha256(cookie.encode()).hexdigest()}.session"

    def _sweep(self) -> None:
        for path in self._folder.glob("*.session"):
            try:
                if time.time() - path.stat().st_mtime > IDLE_SECONDS:
                    path.unlink(missing_ok=True)
            except FileNotFoundError:
                continue


def _cipher(cookie: str) -> Fernet:
    """Raises ValueError when the cookie is none of ours."""
    return Fernet(f"{cookie}=")
