"""People log in as az and MSAL have them do it: a password, a code on another device, a refresh token."""

from __future__ import annotations

import base64
import json
import re
import uuid
from typing import Any

import jwt
import pytest

from tailorbird.domain.access import Role

CLIENT = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"
PASSWORD = "correct horse"


@pytest.fixture
def user(cloud: Any) -> str:
    name = f"anna-{uuid.uuid4().hex[:6]}@example.org"
    made = cloud.access.users.add_user(name, PASSWORD)
    cloud.access.roles.assign(made.object_id, Role.READER, cloud.account.resource_id, by="test")
    return name


def post(cloud: Any, path: str, **form: str) -> Any:
    return cloud.session.post(f"{cloud.url}/{path}", data={"client_id": CLIENT, **form}, timeout=10)


def password(cloud: Any, user: str, path: str = "adfs/oauth2/token", **changes: str) -> Any:
    scope = f"{cloud.url}//.default offline_access openid profile"
    form = {"grant_type": "password", "username": user, "password": PASSWORD, "scope": scope, **changes}
    return post(cloud, path, **form)


@pytest.mark.parametrize("path", ["adfs/oauth2/token", "TENANT/oauth2/v2.0/token", "organizations/oauth2/v2.0/token"])
def test_a_password_gives_what_msal_needs_and_reaches_the_control_plane(cloud: Any, user: str, path: str) -> None:
    answer = password(cloud, user, path.replace("TENANT", cloud.credentials.tenant_id))
    body = answer.json()
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    who = json.loads(base64.urlsafe_b64decode(body["client_info"] + "=="))
    claims = jwt.decode(body["id_token"], options={"verify_signature": False})
    assert (who["uid"], who["utid"]) == (claims["oid"], cloud.credentials.tenant_id)
    assert (claims["aud"], claims["preferred_username"]) == (CLIENT, user)
    seen = cloud.call("GET", "/subscriptions", token=body["access_token"]).json()["value"]
    assert [one["subscriptionId"] for one in seen] == [cloud.account.subscription_id]


def test_a_refresh_token_is_exchanged(cloud: Any, user: str) -> None:
    first = password(cloud, user).json()
    form = {"grant_type": "refresh_token", "scope": "https://ai.azure.com/.default"}
    second = post(cloud, "adfs/oauth2/token", refresh_token=first["refresh_token"], **form).json()
    assert second["resource"] == "https://ai.azure.com"
    assert second["refresh_token"] != first["refresh_token"]
    bad = post(cloud, "adfs/oauth2/token", refresh_token="made-up", **form)
    assert (bad.status_code, bad.json()["error"]) == (400, "invalid_grant")


@pytest.mark.parametrize(
    ("changes", "status", "word"),
    [
        ({"password": "wrong"}, 400, "invalid_grant"),
        ({"username": ""}, 400, "invalid_grant"),
        ({"client_id": ""}, 400, "invalid_request"),
        ({"client_secret": "made-up"}, 400, "unauthorized_client"),
        ({"scope": "openid"}, 400, "invalid_scope"),
    ],
)
def test_a_refused_person_gets_oauths_words(cloud: Any, user: str, changes: dict[str, str], status: int, word: str):
    answer = password(cloud, user, **changes)
    assert (answer.status_code, answer.json()["error"]) == (status, word)
    assert PASSWORD not in answer.text


@pytest.mark.parametrize(
    ("tenant", "version", "grant", "field"),
    [
        ("adfs", "oauth2", "device_code", "code"),
        ("organizations", "oauth2/v2.0", "urn:ietf:params:oauth:grant-type:device_code", "device_code"),
    ],
)
def test_a_device_logs_in_through_the_page(
    cloud: Any, user: str, tenant: str, version: str, grant: str, field: str
) -> None:
    base = f"{tenant}/{version}"
    begun = post(cloud, f"{base}/devicecode", scope="https://management.azure.com/.default openid").json()
    assert begun["user_code"] in begun["message"]
    assert begun["verification_uri"] in begun["message"]
    poll = {"grant_type": grant, field: begun["device_code"]}
    assert post(cloud, f"{base}/token", **poll).json()["error"] == "authorization_pending"
    page = cloud.session.get(begun["verification_uri_complete"], timeout=10)
    assert begun["user_code"] in page.text
    form = {"code": begun["user_code"], "username": user, "password": PASSWORD}
    refused = cloud.session.post(begun["verification_uri"], data={**form, "password": "wrong"}, timeout=10)
    assert (refused.status_code, "wrong" in refused.text) == (400, True)
    assert "signed in" in cloud.session.post(begun["verification_uri"], data=form, timeout=10).text
    body = post(cloud, f"{base}/token", **poll).json()
    assert jwt.decode(body["access_token"], options={"verify_signature": False})["upn"] == user


def test_the_page_runs_no_script_and_shows_what_is_typed_as_text(cloud: Any) -> None:
    nasty = '"><script>alert(1)</script>'
    shown = cloud.session.get(f"{cloud.url}/devicelogin", params={"code": nasty}, timeout=10)
    tried = cloud.session.post(f"{cloud.url}/devicelogin", data={"code": nasty, "username": nasty}, timeout=10)
    for answer in (shown, tried):
        assert "<script>" not in answer.text
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert re.search(r'value="&quot;&gt;&lt;script&gt;', shown.text)


def test_msal_learns_of_the_authority_and_where_passwords_are_kept(cloud: Any, user: str) -> None:
    found = cloud.session.get(f"{cloud.url}/common/discovery/instance?api-version=1.1", timeout=10).json()
    document = cloud.session.get(found["tenant_discovery_endpoint"], timeout=10).json()
    assert document["device_authorization_endpoint"].endswith("/oauth2/v2.0/devicecode")
    realm = cloud.session.get(f"{cloud.url}/common/userrealm/{user}?api-version=1.0", timeout=10).json()
    assert (realm["account_type"], realm["domain_name"]) == ("Managed", "example.org")
