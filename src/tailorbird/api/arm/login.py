"""What clients need to find and get a token: cloud metadata, OIDC discovery, signing keys, the token endpoint.

`az` logs in the way it does to Azure Stack (ADFS), azure-identity the way it does to Entra; both speak OAuth 2.0.
"""

from __future__ import annotations

import base64
import json
import re
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from tailorbird.api.arm import devices
from tailorbird.api.arm.envelope import ArmRoute, arm_path
from tailorbird.api.context import Given
from tailorbird.domain.errors import InvalidRequest, NotFound, ServiceError, Unauthenticated
from tailorbird.service.access import Access, Token
from tailorbird.service.access.logins import CODE_SECONDS, POLL_SECONDS, Login, Logins

_ADFS = "adfs"
_KEYS = "discovery/v2.0/keys"
# The newest dialect of the metadata endpoint is one object; up to here it was a list of clouds.
_LIST_UNTIL = "2019-05-01"
_DEVICE_GRANTS = ("urn:ietf:params:oauth:grant-type:device_code", "device_code")
_GRANTS = ("client_credentials", "password", "refresh_token", *_DEVICE_GRANTS)
# Tenants of Entra that mean "whichever the user is in"; there is one.
_ANY_TENANT = ("common", "organizations")

Text = Annotated[str, Form()]


def router() -> APIRouter:
    routes = APIRouter(route_class=ArmRoute)
    routes.get(arm_path("/metadata/endpoints"), response_model=None)(metadata)
    routes.get(arm_path("/common/discovery/instance"))(instance)
    routes.get(arm_path("/{tenant}/userrealm/{name}"))(realm)
    for version in ("oauth2/v2.0", "oauth2"):
        routes.post(arm_path(f"/{{tenant}}/{version}/token"))(token)
        routes.post(arm_path(f"/{{tenant}}/{version}/devicecode"))(device_code)
    routes.get(arm_path("/{tenant}/v2.0/.well-known/openid-configuration"))(discovery)
    routes.get(arm_path("/{tenant}/.well-known/openid-configuration"))(discovery)
    # az looks a tenant's name up below the login endpoint, which has an ending of its own.
    routes.get(arm_path(f"/{_ADFS}/{{tenant}}/v2.0/.well-known/openid-configuration"))(discovery)
    routes.get(arm_path("/{tenant}/" + _KEYS))(signing_keys)
    routes.include_router(devices.router())
    return routes


def metadata(request: Request, services: Given) -> dict[str, Any] | list[dict[str, Any]]:
    here = services.addresses.control_plane
    cloud = {
        "name": "Tailorbird",
        "portal": here,
        "authentication": {
            # The ending makes az speak ADFS's dialect, the only one it has for authorities it does not know.
            "loginEndpoint": f"{here}/{_ADFS}",
            "audiences": [here],
            "tenant": _ADFS,
            "identityProvider": "ADFS",
        },
        "resourceManager": here,
        "graphAudience": here,
        "microsoftGraphResourceId": here,
        "suffixes": {},
    }
    version = request.query_params.get("api-version", "")
    return [cloud] if version and version <= _LIST_UNTIL else cloud


def instance(services: Given) -> dict[str, Any]:
    """MSAL asks whether an authority it does not know is one; here each is this one."""
    here = services.addresses.control_plane
    host = here.split("//", 1)[1]
    return {
        "tenant_discovery_endpoint": f"{here}/{services.access.tenant_id}/v2.0/.well-known/openid-configuration",
        "api-version": "1.1",
        "metadata": [{"preferred_network": host, "preferred_cache": host, "aliases": [host]}],
    }


def realm(tenant: str, name: str, services: Given) -> dict[str, Any]:
    """MSAL asks where a user's password is kept before it sends one. Known or not, the answer is: here."""
    _check_tenant(services.access, tenant)
    return {
        "ver": "1.0",
        "account_type": "Managed",
        "domain_name": name.rpartition("@")[2],
        "cloud_instance_name": services.addresses.control_plane.split("//", 1)[1],
    }


class LoginForm(BaseModel):
    """The fields of every grant; what a grant does not know clients send for other servers."""

    grant_type: str = ""
    client_id: str = ""
    client_secret: str = ""
    scope: str = ""
    resource: str = ""
    username: str = ""
    password: str = ""
    refresh_token: str = ""
    device_code: str = ""
    code: str = ""


def token(tenant: str, services: Given, form: Annotated[LoginForm, Form()]) -> JSONResponse:
    access, authority = services.access, services.addresses.control_plane
    try:
        _check_tenant(access, tenant)
        if form.grant_type != "client_credentials":
            return _no_store(_login(_user_login(access.logins, form, authority), access.tenant_id, form.scope))
        scopes = _scopes(form.scope, form.resource)
        issued = access.logins.by_secret(form.client_id, form.client_secret, scopes, authority=authority)
    except (InvalidRequest, NotFound, Unauthenticated) as error:
        return _oauth_error(error)
    return _no_store(_token(issued))


def device_code(
    tenant: str, services: Given, client_id: Text = "", scope: Text = "", resource: Text = ""
) -> JSONResponse:
    authority = services.addresses.control_plane
    try:
        _check_tenant(services.access, tenant)
        services.access.logins.check_client(client_id, "")
        begun = services.access.logins.begin_device(client_id, _scopes(scope, resource), authority=authority)
    except (InvalidRequest, NotFound) as error:
        return _oauth_error(error)
    page, shown = f"{authority}{devices.PATH}", f"{begun.user_code[:4]}-{begun.user_code[4:]}"
    return _no_store(
        {
            "device_code": begun.device_code,
            "user_code": shown,
            "verification_uri": page,
            # The v1 endpoint's word for it.
            "verification_url": page,
            "verification_uri_complete": f"{page}?code={shown}",
            "expires_in": CODE_SECONDS,
            "interval": POLL_SECONDS,
            "message": f"To sign in, use a web browser to open the page {page} and enter the code {shown} to "
            "authenticate.",
        }
    )


def discovery(tenant: str, services: Given) -> dict[str, Any]:
    _check_tenant(services.access, tenant)
    here = f"{services.addresses.control_plane}/{tenant.lower()}"
    path = "oauth2" if tenant.lower() == _ADFS else "oauth2/v2.0"
    return {
        "issuer": f"{services.addresses.control_plane}/{services.access.tenant_id}/",
        "authorization_endpoint": f"{here}/{path}/authorize",
        "token_endpoint": f"{here}/{path}/token",
        "device_authorization_endpoint": f"{here}/{path}/devicecode",
        "jwks_uri": f"{here}/{_KEYS}",
        "grant_types_supported": [grant for grant in _GRANTS if grant != "device_code"],
        "token_endpoint_auth_methods_supported": ["client_secret_post"],
        "response_types_supported": ["token"],
        "scopes_supported": ["openid", "profile", "offline_access"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
    }


def signing_keys(tenant: str, services: Given) -> dict[str, list[dict[str, str]]]:
    _check_tenant(services.access, tenant)
    return services.access.tokens.public_jwks()


def _user_login(logins: Logins, form: LoginForm, authority: str) -> Login:
    if form.grant_type not in _GRANTS:
        raise InvalidRequest(
            f"AADSTS70003: The grant type '{form.grant_type}' is not supported. Use client_credentials with client_id, "
            "client_secret and scope as form fields, or password, device_code, refresh_token.",
            code="unsupported_grant_type",
        )
    logins.check_client(form.client_id, form.client_secret)
    if form.grant_type in _DEVICE_GRANTS:
        # The v1 endpoint calls it `code`.
        return logins.by_device(form.client_id, form.device_code or form.code, authority=authority)
    scopes = _scopes(form.scope, form.resource)
    if form.grant_type == "password":
        return logins.by_password(form.client_id, form.username, form.password, scopes, authority=authority)
    return logins.by_refresh(form.client_id, form.refresh_token, scopes, authority=authority)


def _check_tenant(access: Access, tenant: str) -> None:
    if tenant.lower() not in (_ADFS, *_ANY_TENANT, access.tenant_id):
        raise NotFound(
            f"AADSTS90002: Tenant '{tenant}' not found. The tenant of this installation is '{access.tenant_id}'.",
            code="invalid_request",
        )


def _scopes(scope: str, resource: str) -> list[str]:
    return [f"{resource}/.default"] if resource and not scope else scope.split()


def _token(issued: Token) -> dict[str, Any]:
    begin = int(issued.issued_at.timestamp())
    return {
        "token_type": "Bearer",
        "expires_in": issued.expires_in,
        "ext_expires_in": issued.expires_in,
        "expires_on": begin + issued.expires_in,
        "not_before": begin,
        "resource": issued.audience,
        "access_token": issued.access_token,
    }


def _login(login: Login, tenant_id: str, scope: str) -> dict[str, Any]:
    # MSAL builds the id of the account it remembers from these two.
    client = json.dumps({"uid": login.user.object_id, "utid": tenant_id})
    return {
        **_token(login.token),
        "scope": scope,
        "refresh_token": login.refresh,
        "id_token": login.identity,
        "client_info": base64.urlsafe_b64encode(client.encode()).rstrip(b"=").decode(),
    }


def _no_store(body: dict[str, Any]) -> JSONResponse:
    return JSONResponse(body, headers={"Cache-Control": "no-store"})


def _oauth_error(error: ServiceError) -> JSONResponse:
    """RFC 6749's error body with the members Entra adds; 401 for a wrong secret, 400 for all else."""
    number = re.match(r"AADSTS(\d+)", error.message)
    body: dict[str, Any] = {
        "error": error.code or "invalid_request",
        "error_description": error.message,
        "error_codes": [int(number[1])] if number else [],
        "trace_id": str(uuid.uuid4()),
        "correlation_id": str(uuid.uuid4()),
    }
    return JSONResponse(body, 401 if isinstance(error, Unauthenticated) else 400, {"Cache-Control": "no-store"})
