"""Logins of people: passwords, codes typed on another device, refresh tokens."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest

from tailorbird.domain.errors import InvalidRequest, InvalidToken, Unauthenticated
from tailorbird.service.access import Access
from tailorbird.service.access.logins import CODE_SECONDS, LOCK_SECONDS, MAX_FAILURES, POLL_SECONDS, Login

URL = "https://localhost:9443"
SCOPES = [f"{URL}//.default", "openid", "profile", "offline_access"]
PASSWORD = "correct horse"
CLIENT = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"


@pytest.fixture
def anna(access: Access) -> str:
    access.users.add_user("Anna@example.org", PASSWORD)
    return "anna@example.org"


def log_in(access: Access, name: str, password: str = PASSWORD) -> Login:
    return access.logins.by_password(CLIENT, name, password, SCOPES, authority=URL)


def refused(wanted: str) -> Any:
    return pytest.raises(InvalidRequest, check=lambda error: error.code == wanted)


def test_a_password_gives_a_token_that_names_the_user(access: Access, anna: str) -> None:
    login = log_in(access, anna)
    who = access.by_token(login.token.access_token)
    assert (who.id, who.name, who.assignments) == (login.user.object_id, "Anna@example.org", ())
    claims = jwt.decode(login.token.access_token, options={"verify_signature": False})
    assert (claims["idtyp"], claims["appid"], claims["upn"]) == ("user", CLIENT, "Anna@example.org")


def test_the_identity_is_for_the_client_and_opens_nothing(access: Access, anna: str) -> None:
    login = access.logins.by_password("https://ai.azure.com", anna, PASSWORD, SCOPES, authority=URL)
    claims = jwt.decode(login.identity, options={"verify_signature": False})
    assert (claims["aud"], claims["preferred_username"]) == ("https://ai.azure.com", "Anna@example.org")
    with pytest.raises(InvalidToken):
        access.by_token(login.identity)


@pytest.mark.parametrize(("name", "password"), [("anna@example.org", "wrong"), ("nobody", PASSWORD), ("", "")])
def test_a_wrong_password_and_an_unknown_user_are_the_same_refusal(
    access: Access, anna: str, name: str, password: str
) -> None:
    with refused("invalid_grant") as caught:
        log_in(access, name, password)
    assert caught.value.message == "AADSTS50126: The user name or password is wrong."


def test_too_many_wrong_passwords_lock_the_user_for_a_minute(access: Access, anna: str, clock: Any) -> None:
    for _ in range(MAX_FAILURES):
        with pytest.raises(InvalidRequest, match="50126"):
            log_in(access, anna, "wrong")
    with pytest.raises(InvalidRequest, match="50053"):
        log_in(access, anna)
    clock.moment += timedelta(seconds=LOCK_SECONDS)
    assert log_in(access, anna)


def test_a_new_password_ends_the_lock_and_the_old_password(access: Access, anna: str) -> None:
    for _ in range(MAX_FAILURES):
        with pytest.raises(InvalidRequest):
            log_in(access, anna, "wrong")
    access.users.set_password(anna, "another password")
    assert log_in(access, anna, "another password")
    with pytest.raises(InvalidRequest):
        log_in(access, anna)


def test_a_password_is_nowhere_in_the_database(access: Access, anna: str, tmp_path: Path) -> None:
    refresh = log_in(access, anna).refresh
    for path in tmp_path.iterdir():
        assert PASSWORD.encode() not in path.read_bytes()
        assert refresh.encode() not in path.read_bytes()


def test_a_deleted_users_token_stops_at_once(access: Access, anna: str) -> None:
    login = log_in(access, anna)
    access.users.delete_user(anna)
    with pytest.raises(InvalidToken):
        access.by_token(login.token.access_token)
    with refused("invalid_grant"):
        access.logins.by_refresh(CLIENT, login.refresh, SCOPES, authority=URL)


# --- device codes -----------------------------------------------------------------------------------------------------


def test_a_device_waits_until_its_user_has_signed_in(access: Access, anna: str, clock: Any) -> None:
    begun = access.logins.begin_device(CLIENT, SCOPES, authority=URL)
    with refused("authorization_pending"):
        access.logins.by_device(CLIENT, begun.device_code, authority=URL)
    typed = f"{begun.user_code[:4].lower()}-{begun.user_code[4:]}"
    access.logins.confirm_device(typed, anna, PASSWORD)
    clock.moment += timedelta(seconds=POLL_SECONDS)
    login = access.logins.by_device(CLIENT, begun.device_code, authority=URL)
    assert access.by_token(login.token.access_token).name == "Anna@example.org"
    with refused("bad_verification_code"):
        access.logins.by_device(CLIENT, begun.device_code, authority=URL)


def test_a_device_that_asks_too_often_is_slowed_down(access: Access, clock: Any) -> None:
    begun = access.logins.begin_device(CLIENT, SCOPES, authority=URL)
    for pause, word in ((0, "authorization_pending"), (1, "slow_down"), (POLL_SECONDS, "authorization_pending")):
        clock.moment += timedelta(seconds=pause)
        with refused(word):
            access.logins.by_device(CLIENT, begun.device_code, authority=URL)


def test_a_code_nobody_typed_in_time_expires(access: Access, anna: str, clock: Any) -> None:
    begun = access.logins.begin_device(CLIENT, SCOPES, authority=URL)
    clock.moment += timedelta(seconds=CODE_SECONDS)
    with refused("expired_token"):
        access.logins.by_device(CLIENT, begun.device_code, authority=URL)
    with refused("invalid_grant"):
        access.logins.confirm_device(begun.user_code, anna, PASSWORD)


def test_a_device_code_serves_the_client_it_was_given_to(access: Access) -> None:
    begun = access.logins.begin_device(CLIENT, SCOPES, authority=URL)
    with refused("bad_verification_code"):
        access.logins.by_device("another", begun.device_code, authority=URL)


def test_a_wrong_password_confirms_no_device(access: Access, anna: str) -> None:
    begun = access.logins.begin_device(CLIENT, SCOPES, authority=URL)
    with refused("invalid_grant"):
        access.logins.confirm_device(begun.user_code, anna, "wrong")
    with refused("authorization_pending"):
        access.logins.by_device(CLIENT, begun.device_code, authority=URL)


# --- refresh tokens ---------------------------------------------------------------------------------------------------


def test_a_refresh_token_gives_the_next_one_for_any_audience(access: Access, anna: str) -> None:
    first = log_in(access, anna)
    scopes = ["https://cognitiveservices.azure.com/.default"]
    second = access.logins.by_refresh(CLIENT, first.refresh, scopes, authority=URL)
    assert second.token.audience == "https://cognitiveservices.azure.com"
    assert second.refresh != first.refresh
    assert access.logins.by_refresh(CLIENT, second.refresh, scopes, authority=URL)


def test_a_used_refresh_token_that_comes_back_ends_the_whole_login(access: Access, anna: str, clock: Any) -> None:
    first = log_in(access, anna)
    second = access.logins.by_refresh(CLIENT, first.refresh, SCOPES, authority=URL)
    # Two processes of one client at the same moment are no theft.
    assert access.logins.by_refresh(CLIENT, first.refresh, SCOPES, authority=URL)
    clock.moment += timedelta(seconds=61)
    for stolen in (first, second):
        with refused("invalid_grant"):
            access.logins.by_refresh(CLIENT, stolen.refresh, SCOPES, authority=URL)


@pytest.mark.parametrize(("client", "days"), [("another", 0), (CLIENT, 91)])
def test_a_refresh_token_is_one_clients_and_ends(access: Access, anna: str, clock: Any, client: str, days: int) -> None:
    login = log_in(access, anna)
    clock.moment += timedelta(days=days)
    with refused("invalid_grant"):
        access.logins.by_refresh(client, login.refresh, SCOPES, authority=URL)


def test_a_client_that_shows_a_secret_must_be_ours(access: Access) -> None:
    made, secret = access.users.add_application("robot")
    access.logins.check_client(made.app_id, secret)
    access.logins.check_client(CLIENT, "")
    with pytest.raises(Unauthenticated, match="7000215"):
        access.logins.check_client(made.app_id, "wrong")
    with pytest.raises(InvalidRequest, match="700016"):
        access.logins.check_client(CLIENT, "secret")
    with pytest.raises(InvalidRequest, match="client_id"):
        access.logins.check_client("", "")
