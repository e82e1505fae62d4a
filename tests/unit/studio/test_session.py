"""Sessions: unreadable without the cookie, over when unused, kept apart."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tailorbird.studio.session import IDLE_SECONDS, Session, Sessions

ANNA = Session("user", "anna", "a-token-nobody-may-read", "a-refresh-token", 2_000_000_000.0)


def files(sessions: Sessions) -> list[Path]:
    return sorted(sessions._folder.iterdir())


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_a_cookie_finds_the_session_it_was_made_for(sessions: Sessions) -> None:
    anna, ben = sessions.begin(ANNA), sessions.begin(Session("key", "ben", "k1"))
    assert anna != ben
    assert sessions.find(anna) == ANNA
    assert sessions.find(ben) == Session("key", "ben", "k1")


def test_what_lies_on_the_disk_says_nothing_without_the_cookie(sessions: Sessions) -> None:
    cookie = sessions.begin(ANNA)
    [path] = files(sessions)
    content = path.read_bytes()
    for secret in (ANNA.credential, ANNA.refresh_token, ANNA.name, cookie):
        assert secret.encode() not in content
        assert secret not in path.name
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("cookie", [None, "", "wrong", "../../etc/passwd", "é" * 40, "\x00"])
def test_a_cookie_nobody_was_given_finds_nothing(sessions: Sessions, cookie: str | None) -> None:
    sessions.begin(ANNA)
    assert sessions.find(cookie) is None


def test_the_cookie_of_one_does_not_open_the_file_of_another(sessions: Sessions) -> None:
    anna, ben = sessions.begin(ANNA), sessions.begin(Session("key", "ben", "k1"))
    sessions._path(anna).write_bytes(sessions._path(ben).read_bytes())
    assert sessions.find(anna) is None


def test_a_session_that_is_not_used_ends_and_one_that_is_goes_on(sessions: Sessions) -> None:
    idle, used = sessions.begin(ANNA), sessions.begin(ANNA)
    age(sessions._path(used), IDLE_SECONDS - 60)
    assert sessions.find(used) == ANNA
    age(sessions._path(idle), IDLE_SECONDS + 60)
    assert sessions.find(idle) is None
    assert not sessions._path(idle).exists()
    # Being used has put off its end.
    assert time.time() - sessions._path(used).stat().st_mtime < IDLE_SECONDS / 2


def test_a_new_session_sweeps_away_those_that_ended(sessions: Sessions) -> None:
    age(sessions._path(sessions.begin(ANNA)), IDLE_SECONDS + 60)
    kept = sessions.begin(ANNA)
    assert files(sessions) == [sessions._path(kept)]


def test_a_session_can_be_changed_and_ended(sessions: Sessions) -> None:
    cookie = sessions.begin(ANNA)
    changed = sessions.change(cookie, credential="newer", account="/subscriptions/s")
    assert changed is not None
    assert (changed.name, changed.credential, changed.account) == ("anna", "newer", "/subscriptions/s")
    assert sessions.find(cookie) == changed
    sessions.end(cookie)
    assert sessions.find(cookie) is None
    assert sessions.change(cookie, credential="late") is None
    assert files(sessions) == []


def test_ending_what_there_is_not_ends_nobody_elses(sessions: Sessions) -> None:
    cookie = sessions.begin(ANNA)
    sessions.end(None)
    sessions.end("nobody's")
    assert sessions.find(cookie) == ANNA


def test_a_file_of_an_older_form_is_no_session(sessions: Sessions) -> None:
    from cryptography.fernet import Fernet

    cookie = sessions.begin(ANNA)
    sessions._path(cookie).write_bytes(Fernet(cookie + "=").encrypt(b'{"kind": "key", "unknown": 1}'))
    assert sessions.find(cookie) is None
    sessions._path(cookie).write_bytes(Fernet(cookie + "=").encrypt(b"[]"))
    assert sessions.find(cookie) is None


def test_a_key_and_a_token_are_sent_as_what_they_are() -> None:
    assert Session("key", "a", "k1").headers == {"api-key": "k1"}
    for kind in ("user", "application", "token"):
        assert Session(kind, "a", "t").headers == {"authorization": "Bearer t"}


def test_another_process_finds_the_session_in_the_same_folder(sessions: Sessions) -> None:
    cookie = sessions.begin(ANNA)
    assert Sessions(sessions._folder).find(cookie) == ANNA
