"""Finding the cloud and logging in, in the requests az and azure-identity send."""

from __future__ import annotations

from typing import Any

import jwt
import pytest


def ask(cloud: Any, tenant: str, path: str, **changes: str) -> Any:
    form = {
        "grant_type": "client_credentials",
        "client_id": cloud.credentials.client_id,
        "client_secret": cloud.credentials.client_secret,
        "scope": f"{cloud.url}//.default",
        # az announces what it can do; nothing of it concerns us.
        "claims": '{"access_token":{"xms_cc":{"values":["CP1"]}}}',
        **changes,
    }
    return cloud.session.post(f"{cloud.url}/{tenant}/{path}", data=form, timeout=10)


def test_az_finds_one_cloud_and_is_sent_to_the_adfs_login(cloud: Any) -> None:
    found = cloud.session.get(f"{cloud.url}/metadata/endpoints?api-version=2022-09-01", timeout=10).json()
    assert found["resourceManager"] == cloud.url
    assert found["authentication"]["loginEndpoint"] == f"{cloud.url}/adfs"
    assert found["authentication"]["audiences"] == [cloud.url]
    assert found["suffixes"] == {}


def test_az_learns_the_id_of_a_tenant_named_below_the_login_endpoint(cloud: Any) -> None:
    """As `az login --tenant adfs` does, which takes the fourth piece of the issuer."""
    where = f"{cloud.url}/adfs/adfs/v2.0/.well-known/openid-configuration"
    issuer = cloud.session.get(where, timeout=10).json()["issuer"]
    known = cloud.session.get(f"{cloud.url}/adfs/.well-known/openid-configuration", timeout=10).json()["issuer"]
    assert issuer.split("/")[3] == known.split("/")[3]
    assert cloud.session.get(where.replace("adfs/v2.0", "nobody/v2.0"), timeout=10).status_code == 404


def test_the_metadata_of_2019_is_a_list(cloud: Any) -> None:
    found = cloud.session.get(f"{cloud.url}/metadata/endpoints?api-version=2019-05-01", timeout=10).json()
    assert [one["resourceManager"] for one in found] == [cloud.url]


@pytest.mark.parametrize(
    ("tenant", "document", "ending"),
    [
        ("adfs", ".well-known/openid-configuration", "/adfs/oauth2/token"),
        ("TENANT", "v2.0/.well-known/openid-configuration", "/TENANT/oauth2/v2.0/token"),
    ],
)
def test_discovery_leads_to_a_token_endpoint_and_keys_that_verify_the_token(
    cloud: Any, tenant: str, document: str, ending: str
) -> None:
    real = cloud.credentials.tenant_id
    tenant, ending = tenant.replace("TENANT", real), ending.replace("TENANT", real)
    found = cloud.session.get(f"{cloud.url}/{tenant}/{document}", timeout=10).json()
    assert found["token_endpoint"] == cloud.url + ending
    answer = ask(cloud, *ending.strip("/").split("/", 1)).json()
    (key,) = cloud.session.get(found["jwks_uri"], timeout=10).json()["keys"]
    claims = jwt.decode(
        answer["access_token"], jwt.PyJWK(key), algorithms=["RS256"], audience=f"{cloud.url}/", issuer=found["issuer"]
    )
    assert claims["appid"] == cloud.credentials.client_id
    assert (answer["token_type"], answer["expires_in"]) == ("Bearer", 3600)


@pytest.mark.parametrize("path", ["oauth2/token", "oauth2/token/", "oauth2/v2.0/token", "OAuth2/v2.0/Token"])
@pytest.mark.parametrize("tenant", ["adfs", "ADFS", "TENANT"])
def test_every_form_of_the_token_endpoint_answers_and_is_not_cached(cloud: Any, tenant: str, path: str) -> None:
    answer = ask(cloud, tenant.replace("TENANT", cloud.credentials.tenant_id), path)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    assert cloud.call("GET", "/subscriptions", token=answer.json()["access_token"]).status_code == 200


def test_a_resource_instead_of_a_scope_is_the_old_form(cloud: Any) -> None:
    answer = ask(cloud, "adfs", "oauth2/token", scope="", resource="https://cognitiveservices.azure.com")
    assert answer.json()["resource"] == "https://cognitiveservices.azure.com"


@pytest.mark.parametrize(
    ("changes", "status", "word", "number"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client", 7000215),
        ({"client_id": "nobody"}, 400, "unauthorized_client", 700016),
        ({"grant_type": "authorization_code"}, 400, "unsupported_grant_type", 70003),
        ({"grant_type": ""}, 400, "unsupported_grant_type", 70003),
        ({"scope": "openid"}, 400, "invalid_scope", 70011),
        ({"scope": "https://graph.microsoft.com/.default"}, 400, "invalid_resource", 500011),
    ],
)
def test_a_refused_login_has_oauths_error_body(
    cloud: Any, changes: dict[str, str], status: int, word: str, number: int
) -> None:
    answer = ask(cloud, cloud.credentials.tenant_id, "oauth2/v2.0/token", **changes)
    body = answer.json()
    assert (answer.status_code, body["error"], body["error_codes"]) == (status, word, [number])
    assert body["error_description"].startswith(f"AADSTS{number}: ")
    assert cloud.credentials.client_secret not in answer.text


def test_another_tenant_is_refused_everywhere(cloud: Any) -> None:
    answer = ask(cloud, "contoso.example", "oauth2/v2.0/token")
    assert (answer.status_code, answer.json()["error_codes"]) == (400, [90002])
    for path in ("v2.0/.well-known/openid-configuration", "discovery/v2.0/keys"):
        assert cloud.session.get(f"{cloud.url}/contoso.example/{path}", timeout=10).status_code == 404


def test_a_body_that_is_no_form_is_refused_and_not_fatal(cloud: Any) -> None:
    answer = cloud.session.post(f"{cloud.url}/adfs/oauth2/token", json={"grant_type": "client_credentials"}, timeout=10)
    assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_grant_type")
