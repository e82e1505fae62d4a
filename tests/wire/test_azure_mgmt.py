"""azure-mgmt-cognitiveservices with azure-identity, two versions of it: every call, and none that sleeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from client_runs import Judge
from client_scripts import run_script
from shared_service import Served

pytestmark = pytest.mark.wire_full

CLIENT, ENVIRONMENT = "azure-mgmt-cognitiveservices", "azure-mgmt"
VERSIONS = ("13.5.0", "14.1.0")
LACKS: dict[str, set[str]] = {"13.5.0": {"deployments.begin_update", "deployments.list_skus", "model_capacities.list"}}
# Without scopes the client asks for a token of Azure's own control plane.
WAYS = ("client secret", "environment", "client secret, default scope")


def given(served: Served, version: str, way: str) -> dict[str, Any]:
    env = served.installation.credentials
    name = f"mgmt-{version}-{way}".replace(" ", "-").replace(".", "-").replace(",", "")
    return {
        "authority": env["ARM_ENDPOINT"],
        "tenant": env["AZURE_TENANT_ID"],
        "client_id": env["AZURE_CLIENT_ID"],
        "client_secret": env["AZURE_CLIENT_SECRET"],
        "subscription": env["AZURE_SUBSCRIPTION_ID"],
        "group": env["AZURE_RESOURCE_GROUP"],
        "account": env["AZURE_OPENAI_RESOURCE"],
        "new_account": name,
        "deployment": name,
        "base": "weaver",
        "base_of_job": "gpt-4o-mini",
        "tuned": served.azure_model,
        "default_scope": way.endswith("default scope"),
    }


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("version", VERSIONS)
def test_every_call_of_the_management_sdk_answers(version: str, way: str, served: Served, tmp_path: Path) -> None:
    judge = Judge(CLIENT, version, "control plane", way)
    env = served.installation.credentials
    login = ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "REQUESTS_CA_BUNDLE")
    result, _ = run_script(
        judge, ENVIRONMENT, "azure_mgmt_calls.py", given(served, version, way), tmp_path, way.split(",")[0],
        **{name: env[name] for name in login},
    )  # fmt: skip
    assert result.failed == {}
    assert set(result.absent) == LACKS.get(version, set())
    assert len(result.calls) > 20
