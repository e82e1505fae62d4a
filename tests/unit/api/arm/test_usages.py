"""The quota view of a Cognitive Services Usages Reader: usages of locations and accounts, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from tailorbird.domain.access import Role

LOCATION = "/providers/Microsoft.CognitiveServices/locations/local/usages"


@pytest.fixture
def reader(cloud: Any) -> Any:
    """A token whose holder reads usages at the scope it is asked for."""

    def make(scope: str) -> str:
        made, secret = cloud.access.users.add_application("quota")
        cloud.access.roles.assign(made.object_id, Role.USAGES_READER.value, scope, by="test")
        audience = ["https://management.azure.com/.default"]
        return cloud.access.logins.by_secret(made.app_id, secret, audience, authority=cloud.url).access_token

    return make


def test_a_usages_reader_of_the_subscription_sees_every_quota_and_nothing_else(cloud: Any, reader: Any) -> None:
    subscription = f"/subscriptions/{cloud.account.subscription_id}"
    token = reader(subscription)
    for path in (subscription + LOCATION, cloud.path("/usages")):
        answer = cloud.call("GET", path, token=token)
        assert answer.status_code == 200, answer.text
        rows = answer.json()["value"]
        assert rows
        assert all(0 <= row["currentValue"] <= row["limit"] for row in rows)
    for path in ("", "/deployments", "/models"):
        assert cloud.call("GET", cloud.path(path), token=token).status_code == 403, path


def test_a_usages_reader_of_one_account_sees_its_quotas_and_not_the_subscription_s(cloud: Any, reader: Any) -> None:
    token = reader(cloud.account.resource_id)
    assert cloud.call("GET", cloud.path("/usages"), token=token).status_code == 200
    location = f"/subscriptions/{cloud.account.subscription_id}{LOCATION}"
    assert cloud.call("GET", location, token=token).status_code == 403
