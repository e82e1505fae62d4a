"""The control plane: Azure Resource Manager's routes and the login that leads to them."""

from __future__ import annotations

from fastapi import APIRouter

from tailorbird.api.arm import accounts, deployments, groups, login, models, roles, usages


def router() -> APIRouter:
    """To be mounted at the root; no path of it begins like one of the data plane's."""
    routes = APIRouter()
    for part in (accounts, deployments, groups, login, models, roles, usages):
        routes.include_router(part.router())
    return routes
