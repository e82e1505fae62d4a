"""Access on a real store (SQLite): the first installation, keys, logins, tokens and what they open."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tailorbird.domain.access import Account, Action, Assignment, Principal, Role, ServicePrincipal
from tailorbird.domain.errors import (
    InvalidRequest,
    InvalidToken,
    NotFound,
    PermissionDenied,
    ServiceError,
    Unauthenticated,
)
from tailorbird.infra.schema import make_engine, migrate
from tailorbird.infra.store import SqlStore
from tailorbird.service.access import Access, Credentials

URL = "https://localhost:9443"
ARM = "https://management.azure.com/.default"


def token(access: Access, first: Credentials, scope: str = ARM) -> str:
    assert first.client_secret is not None
    return access.logins.by_secret(first.client_id, first.client_secret, [scope], authority=URL).access_token


def person(*held: tuple[Role, str]) -> Principal:
    return Principal("oid", "somebody", tuple(Assignment(role, scope) for role, scope in held))


# --- the installation -------------------------------------------------------------------------------------------------


def test_the_first_run_creates_an_account_two_keys_and_an_application(first: Credentials) -> None:
    assert (first.account.resource_group, first.account.name, first.account.kind) == ("local", "local", "OpenAI")
    assert len({first.account.key1, first.account.key2}) == 2
    assert all(len(key) == 32 and int(key, 16) >= 0 for key in (first.account.key1, first.account.key2))
    for text in (first.account.subscription_id, first.tenant_id, first.client_id):
        assert str(uuid.UUID(text)) == text
    assert first.client_secret is not None
    assert len(first.client_secret) == 40


def test_a_second_run_finds_the_same_things_and_does_not_know_the_secret(access: Access, first: Credentials) -> None:
    assert access.first_run() == replace(first, client_secret=None)


def test_the_secret_itself_is_nowhere_in_the_database(first: Credentials, store: SqlStore, tmp_path: Path) -> None:
    assert first.client_secret is not None
    for path in tmp_path.iterdir():
        assert first.client_secret.encode() not in path.read_bytes(), path.name


def test_a_reset_secret_replaces_the_one_before(access: Access, first: Credentials) -> None:
    assert first.client_secret is not None
    second = access.users.reset_secret(first.client_id)
    third = access.users.reset_secret(first.client_id)
    assert len({first.client_secret, second, third}) == 3
    assert access.logins.by_secret(first.client_id, third, [ARM], authority=URL)
    for old in (first.client_secret, second):
        with pytest.raises(Unauthenticated):
            access.logins.by_secret(first.client_id, old, [ARM], authority=URL)


def test_resetting_an_unknown_application_says_so(access: Access) -> None:
    with pytest.raises(NotFound, match="no application with the id 'nobody'"):
        access.users.reset_secret("nobody")


# --- keys -------------------------------------------------------------------------------------------------------------


def test_either_key_opens_its_own_account(access: Access, first: Credentials) -> None:
    for key in (first.account.key1, first.account.key2):
        found = access.by_key(key)
        assert found is not None
        principal, account = found
        assert account == first.account
        assert principal.key_account == account.id
        access.authorize(principal, Action.WRITE_JOB, account)


def test_anything_but_the_exact_key_opens_nothing(access: Access, first: Credentials) -> None:
    key = first.account.key1
    assert key != key.upper()
    for wrong in ("", key.upper(), key[:-1], key + "0", f"{key} ", "é" * 32):
        assert access.by_key(wrong) is None, wrong


# --- login ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "scope",
    [
        "https://management.azure.com/.default",
        "https://management.azure.com//.default",
        "https://management.core.windows.net//.default",
        "https://cognitiveservices.azure.com/.default",
        "https://ai.azure.com/.default",
        f"{URL}/.default",
        f"{URL}//.default",
    ],
)
def test_a_token_is_issued_for_every_known_audience_and_opens_the_service(
    access: Access, first: Credentials, scope: str
) -> None:
    principal = access.by_token(token(access, first, scope))
    everywhere = f"/subscriptions/{first.account.subscription_id}"
    assert {(held.role, held.scope) for held in principal.assignments} == {
        (Role.OWNER, everywhere),
        (Role.OPENAI_CONTRIBUTOR, everywhere),
    }
    access.authorize(principal, Action.LIST_KEYS, first.account)


def test_the_token_carries_the_claims_entra_sends(access: Access, first: Credentials, clock: Any) -> None:
    encoded = token(access, first)
    (key,) = access.tokens.public_jwks()["keys"]
    claims = jwt.decode(
        encoded,
        jwt.PyJWK(key),
        algorithms=["RS256"],
        options={"verify_aud": False, "verify_exp": False, "verify_nbf": False, "verify_iat": False},
    )
    now = int(clock.moment.timestamp())
    assert jwt.get_unverified_header(encoded)["kid"] == key["kid"]
    assert claims["aud"] == "https://management.azure.com"
    assert claims["iss"] == f"{URL}/{first.tenant_id}/"
    assert (claims["tid"], claims["appid"]) == (first.tenant_id, first.client_id)
    assert (claims["iat"], claims["nbf"], claims["exp"]) == (now, now, now + 3600)
    assert claims["oid"] == claims["sub"]


@pytest.mark.parametrize(
    ("scopes", "word"),
    [
        ([], "invalid_scope"),
        ([ARM, "https://ai.azure.com/.default"], "invalid_scope"),
        (["https://management.azure.com/user_impersonation"], "invalid_scope"),
        (["https://graph.microsoft.com/.default"], "invalid_resource"),
        (["https://management.azure.com.evil.example/.default"], "invalid_resource"),
    ],
)
def test_a_scope_we_do_not_serve_is_refused_by_name(
    access: Access, first: Credentials, scopes: list[str], word: str
) -> None:
    assert first.client_secret is not None
    with pytest.raises(InvalidRequest) as caught:
        access.logins.by_secret(first.client_id, first.client_secret, scopes, authority=URL)
    assert (caught.value.param, caught.value.code) == ("scope", word)


def test_a_wrong_secret_is_refused_without_a_hint_of_the_right_one(access: Access, first: Credentials) -> None:
    for secret in ("", "wrong", first.client_id):
        with pytest.raises(Unauthenticated) as caught:
            access.logins.by_secret(first.client_id, secret, [ARM], authority=URL)
        assert caught.value.message.startswith("AADSTS7000215")
        assert str(first.client_secret) not in caught.value.message


def test_an_unknown_application_is_refused_as_entra_does(access: Access, first: Credentials) -> None:
    with pytest.raises(InvalidRequest, match="AADSTS700016") as caught:
        access.logins.by_secret("11111111-1111-1111-1111-111111111111", "x", [ARM], authority=URL)
    assert caught.value.code == "unauthorized_client"


# --- tokens -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "good"), [(0, True), (3599, True), (3600, False), (86_400, False), (-1, False)])
def test_a_token_is_good_for_an_hour(access: Access, first: Credentials, clock: Any, seconds: int, good: bool) -> None:
    encoded = token(access, first)
    clock.moment += timedelta(seconds=seconds)
    if good:
        assert access.by_token(encoded).name == "tailorbird-local"
    else:
        with pytest.raises(InvalidToken, match="or have expired"):
            access.by_token(encoded)


@pytest.mark.parametrize("rubbish", ["", "x", "a.b.c", "eyJhbGciOiJub25lIn0.e30."])
def test_rubbish_is_no_token(access: Access, first: Credentials, rubbish: str) -> None:
    with pytest.raises(InvalidToken):
        access.by_token(rubbish)


def test_a_token_signed_with_another_key_is_refused(access: Access, first: Credentials) -> None:
    claims = jwt.decode(token(access, first), options={"verify_signature": False})
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with pytest.raises(InvalidToken):
        access.by_token(jwt.encode(claims, stranger, algorithm="RS256"))


def test_a_token_signed_with_the_public_key_as_a_shared_secret_is_refused(access: Access, first: Credentials) -> None:
    claims = jwt.decode(token(access, first), options={"verify_signature": False})
    modulus = access.tokens.public_jwks()["keys"][0]["n"]
    with pytest.raises(InvalidToken):
        access.by_token(jwt.encode(claims, modulus, algorithm="HS256"))
    with pytest.raises(InvalidToken):
        access.by_token(jwt.encode(claims, "", algorithm="none"))


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("aud", "https://graph.microsoft.com"),
        ("aud", ["https://management.azure.com"]),
        ("tid", "another-tenant"),
        ("appid", "11111111-1111-1111-1111-111111111111"),
        ("oid", "11111111-1111-1111-1111-111111111111"),
        ("exp", None),
        ("nbf", None),
        ("tid", None),
    ],
)
def test_a_token_with_a_wrong_or_missing_claim_is_refused(
    access: Access, first: Credentials, claim: str, value: object
) -> None:
    claims = jwt.decode(token(access, first), options={"verify_signature": False})
    changed = {**claims, claim: value} if value is not None else {k: v for k, v in claims.items() if k != claim}
    with pytest.raises(InvalidToken):
        access.by_token(jwt.encode(changed, access.tokens._key().private, algorithm="RS256"))
    assert access.by_token(jwt.encode(claims, access.tokens._key().private, algorithm="RS256"))


def test_another_server_of_the_installation_accepts_the_token(
    access: Access, first: Credentials, store: SqlStore, clock: Any, new_hex: Callable[[], str]
) -> None:
    other = Access(store, clock, new_hex)
    assert other.by_token(token(access, first)) == access.by_token(token(access, first))
    assert other.tenant_id == access.tenant_id


def test_the_first_server_makes_the_signing_key_and_keeps_it(tmp_path: Path, clock: Any) -> None:
    url = f"sqlite:///{tmp_path / 'fresh.db'}"
    migrate(url)
    engine = make_engine(url)
    made = Access(SqlStore(engine), clock, lambda: uuid.uuid4().hex).tokens.public_jwks()
    found = Access(SqlStore(engine), clock, lambda: uuid.uuid4().hex).tokens.public_jwks()
    engine.dispose()
    assert made == found
    assert made["keys"][0]["kty"] == "RSA"
    assert "d" not in made["keys"][0]


# --- accounts ---------------------------------------------------------------------------------------------------------


def test_a_missing_data_role_and_a_missing_control_role_are_told_apart(access: Access, first: Credentials) -> None:
    nobody = person()
    with pytest.raises(PermissionDenied) as caught:
        access.authorize(nobody, Action.READ_FILE, first.account)
    assert caught.value.message == "Principal does not have access to API/Operation."
    with pytest.raises(PermissionDenied, match=r"deployments/write' over scope '/subscriptions/"):
        access.authorize(nobody, Action.WRITE_DEPLOYMENT, first.account)


def test_an_account_is_found_in_any_case_and_a_missing_one_says_what_azure_says(
    access: Access, first: Credentials
) -> None:
    assert access.account(first.account.subscription_id.upper(), "LOCAL", "Local") == first.account
    with pytest.raises(NotFound, match="under resource group 'local' was not found") as caught:
        access.account(first.account.subscription_id, "local", "other")
    assert caught.value.code == "ResourceNotFound"


def test_who_may_not_look_learns_nothing_about_what_is_there(access: Access, first: Credentials) -> None:
    where = (first.account.subscription_id, "local")
    for name in ("local", "missing"):
        with pytest.raises(PermissionDenied):
            access.open(person(), Action.READ_ACCOUNT, *where, name)
    reader = person((Role.OPENAI_USER, f"/subscriptions/{first.account.subscription_id}"))
    assert access.open(reader, Action.READ_ACCOUNT, *where, "LOCAL") == first.account
    with pytest.raises(NotFound):
        access.open(reader, Action.READ_ACCOUNT, *where, "missing")


@pytest.fixture
def second(first: Credentials, store: SqlStore) -> Account:
    account = replace(first.account, id="second", resource_group="Other", name="Team", key1="1" * 32, key2="2" * 32)
    with store.begin() as tx:
        tx.accounts.add(account)
    return account


def test_lists_hold_what_the_caller_may_see(access: Access, first: Credentials, second: Account) -> None:
    subscription = first.account.subscription_id
    owner = person((Role.OWNER, f"/subscriptions/{subscription}"))
    member = person((Role.OPENAI_USER, second.resource_id.upper()))
    assert access.accounts(owner) == [first.account, second]
    assert access.accounts(owner, subscription.upper(), "other") == [second]
    assert access.accounts(owner, "another") == []
    assert access.accounts(member) == [second]
    assert access.subscriptions(owner) == access.subscriptions(member) == [subscription]
    assert access.subscriptions(person()) == []


def test_the_account_of_a_request_is_the_keys_own_the_named_or_the_first(
    access: Access, first: Credentials, second: Account
) -> None:
    owner = person((Role.OWNER, f"/subscriptions/{first.account.subscription_id}"))
    member = person((Role.OPENAI_USER, second.resource_id))
    assert access.default_account(owner, Action.READ_ACCOUNT) == first.account
    assert access.default_account(owner, Action.READ_ACCOUNT, "TEAM") == second
    assert access.default_account(member, Action.CHAT) == second
    by_key = access.by_key(second.key2)
    assert by_key is not None
    assert access.default_account(by_key[0], Action.CHAT) == second
    for who, wanted in ((member, "local"), (person(), None), (by_key[0], "local")):
        with pytest.raises(PermissionDenied):
            access.default_account(who, Action.CHAT, wanted)


def test_a_service_principals_roles_are_read_anew_with_every_request(
    access: Access, first: Credentials, second: Account, store: SqlStore
) -> None:
    with store.begin() as tx:
        tx.identities.add_service_principal(ServicePrincipal("app", "obj", "robot", ""))
    secret = access.users.reset_secret("app")
    encoded = access.logins.by_secret("app", secret, [ARM], authority=URL).access_token
    with pytest.raises(ServiceError):
        access.authorize(access.by_token(encoded), Action.CHAT, second)
    with store.begin() as tx:
        tx.identities.add_assignment("obj", Assignment(Role.OPENAI_USER, second.resource_id))
    access.authorize(access.by_token(encoded), Action.CHAT, second)
