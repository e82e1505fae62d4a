"""People and applications: made once, changed, gone."""

from __future__ import annotations

import pytest

from tailorbird.domain.access import Assignment, Role
from tailorbird.domain.errors import Conflict, InvalidRequest, InvalidToken, NotFound, Unauthenticated
from tailorbird.infra.store import SqlStore
from tailorbird.service.access import Access
from tailorbird.service.access.users import NO_PASSWORD, password_digest, password_matches

ARM = "https://management.azure.com/.default"
URL = "https://localhost:9443"


def test_a_digest_matches_its_password_and_no_other() -> None:
    digest = password_digest("secret word", b"0123456789abcdef")
    assert password_matches("secret word", digest)
    assert not password_matches("Secret word", digest)
    assert not password_matches("", NO_PASSWORD)


def test_the_same_password_has_another_digest_for_another_user(access: Access) -> None:
    digests = {access.users.add_user(name, "same password").password_digest for name in ("a@x", "b@x")}
    assert len(digests) == 2


@pytest.mark.parametrize(("name", "password"), [("", "long enough"), ("two words", "long enough"), ("a@x", "short")])
def test_a_user_that_will_not_do_is_refused(access: Access, name: str, password: str) -> None:
    with pytest.raises(InvalidRequest):
        access.users.add_user(name, password)
    assert access.users.users() == []


def test_a_name_is_taken_in_any_case(access: Access) -> None:
    access.users.add_user("anna@x", "long enough")
    with pytest.raises(Conflict):
        access.users.add_user("ANNA@x", "long enough")


def test_an_application_logs_in_until_it_is_deleted(access: Access, store: SqlStore) -> None:
    made, secret = access.users.add_application("robot")
    with store.begin() as tx:
        tx.identities.add_assignment(made.object_id, Assignment(Role.READER, "/subscriptions/s"))
    token = access.logins.by_secret(made.app_id, secret, [ARM], authority=URL).access_token
    assert access.by_token(token).assignments == (Assignment(Role.READER, "/subscriptions/s"),)
    assert [one.app_id for one in access.users.applications()] == [made.app_id]
    access.users.delete_application(made.app_id)
    with pytest.raises(InvalidToken):
        access.by_token(token)
    with store.begin() as tx:
        assert tx.identities.assignments(made.object_id) == ()


def test_a_new_secret_ends_the_old_one(access: Access) -> None:
    made, secret = access.users.add_application("robot")
    newer = access.users.reset_secret(made.app_id)
    assert access.logins.by_secret(made.app_id, newer, [ARM], authority=URL)
    with pytest.raises(Unauthenticated):
        access.logins.by_secret(made.app_id, secret, [ARM], authority=URL)


def test_nobody_there_is_said_so(access: Access) -> None:
    for attempt in (
        lambda: access.users.set_password("nobody", "long enough"),
        lambda: access.users.delete_user("nobody"),
        lambda: access.users.delete_application("nobody"),
        lambda: access.users.reset_secret("nobody"),
    ):
        with pytest.raises(NotFound, match="nobody"):
            attempt()
    with pytest.raises(InvalidRequest):
        access.users.add_application(" ")
