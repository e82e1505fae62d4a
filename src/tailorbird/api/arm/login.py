"""What clients need to find and get a token: cloud metadata, OIDC discovery, signing keys, the token endpoint.

`az` logs in the way it does to Azure Stack (ADFS), azure-identity the way it does to Entra; both are OAuth's client
credentials grant.
"""

from __future__ import annotations

import re
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import JSONResponse

from tailorbird.api.arm.envelope import ArmRoute, arm_path
from tailorbird.api.context import Given
from tailorbird.domain.errors import InvalidRequest, NotFound, ServiceError, Unauthenticated
from tailorbird.service.access import Access, Token

_ADFS = "adfs"
_KEYS = "discovery/v2.0/keys"
# The newest dialect of the metadata endpoint is one object; up to here it was a list of clouds.
_LIST_UNTIL = "2019-05-01"

Text = Annotated[str, Form()]


def router() -> APIRouter:
    routes = APIRouter(route_class=ArmRoute)
    routes.get(arm_path("/metadata/endpoints"), response_model=None)(metadata)
    routes.post(arm_path("/{tenant}/oauth2/v2.0/token"))(token)
    routes.post(arm_path("/{tenant}/oauth2/token"))(token)
    routes.get(arm_path("/{tenant}/v2.0/.well-known/openid-configuration"))(discovery)
    routes.get(arm_path("/{tenant}/.well-known/openid-configuration"))(discovery)
    routes.get(arm_path("/{tenant}/" + _KEYS))(signing_keys)
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


def token(
    tenant: str,
    services: Given,
    grant_type: Text = "",
    client_id: Text = "",
    client_secret: Text = "",
    scope: Text = "",
    resource: Text = "",
) -> JSONResponse:
    try:
        _check(services.access, tenant, grant_type)
        scopes = [f"{resource}/.default"] if resource and not scope else scope.split()
        issued = services.access.login(client_id, client_secret, scopes, authority=services.addresses.control_plane)
    except (InvalidRequest, NotFound, Unauthenticated) as error:
        return _oauth_error(error)
    return JSONResponse(_token(issued), headers={"Cache-Control": "no-store"})


def discovery(tenant: str, services: Given) -> dict[str, Any]:
    _check_tenant(services.access, tenant)
    here = f"{services.addresses.control_plane}/{tenant.lower()}"
    path = "oauth2" if tenant.lower() == _ADFS else "oauth2/v2.0"
    return {
        "issuer": f"{services.addresses.control_plane}/{services.access.tenant_id}/",
        "authorization_endpoint": f"{here}/{path}/authorize",
        "token_endpoint": f"{here}/{path}/token",
        "jwks_uri": f"{here}/{_KEYS}",
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": ["client_secret_post"],
        "response_types_supported": ["token"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
    }


def signing_keys(tenant: str, services: Given) -> dict[str, list[dict[str, str]]]:
    _check_tenant(services.access, tenant)
    return services.access.public_jwks()


def _check(access: Access, tenant: str, grant_type: str) -> None:
    _check_tenant(access, tenant)
    if grant_type != "client_credentials":
        raise InvalidRequest(
            f"AADSTS70003: The grant type '{grant_type}' is not supported. Use client_credentials, with client_id, "
            "client_secret and scope as form fields.",
            code="unsupported_grant_type",
        )


def _check_tenant(access: Access, tenant: str) -> None:
    if tenant.lower() not in (_ADFS, access.tenant_id):
        raise NotFound(
            f"AADSTS90002: Tenant '{tenant}' not found. The tenant of this installation is '{access.tenant_id}'.",
            code="invalid_request",
        )


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
