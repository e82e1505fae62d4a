"""`GET /tailorbird/v1/caller` and `/tailorbird/v1/deployments`: what a client needs to show only what will work."""

from __future__ import annotations

from typing import Any

import httpx

from tailorbird.domain.access import DATA_ACTIONS, Account, Role

OWN = "/tailorbird/v1"


def ask(http: httpx.Client, path: str, **headers: str) -> httpx.Response:
    return http.get(OWN + path, headers=headers)


def token_of(world: Any, role: Role, scope: str) -> str:
    access = world.services.access
    app, secret = access.users.add_application("studio")
    access.roles.assign(app.object_id, role, scope, by="test")
    here = world.services.addresses.control_plane
    return access.logins.by_secret(app.app_id, secret, [f"{here}/.default"], authority=here).access_token


def test_a_key_may_everything_on_the_data_plane_of_its_account(http: httpx.Client, account: Account) -> None:
    told = ask(http, "/caller", **{"api-key": account.key1}).json()
    assert (told["kind"], told["name"]) == ("key", f"{account.name} Key1")
    [mine] = told["accounts"]
    assert (mine["name"], mine["id"], mine["path"]) == (account.name, account.resource_id, "")
    assert set(mine["actions"]) == set(DATA_ACTIONS)


def test_a_token_sees_the_accounts_its_roles_reach(world: Any, http: httpx.Client, account: Account) -> None:
    world.new_account()
    token = token_of(world, Role.OPENAI_USER, account.resource_id)
    told = ask(http, "/caller", authorization=f"Bearer {token}").json()
    assert told["kind"] == "token"
    assert told["roles"] == [{"role": "Cognitive Services OpenAI User", "scope": account.resource_id}]
    [mine] = told["accounts"]
    assert mine["name"] == account.name
    assert "Microsoft.CognitiveServices/accounts/OpenAI/fine-tunes/read" in mine["actions"]
    assert "Microsoft.CognitiveServices/accounts/OpenAI/fine-tunes/write" not in mine["actions"]


def test_nobody_is_refused(http: httpx.Client) -> None:
    assert ask(http, "/caller").status_code == 401
    assert ask(http, "/deployments", **{"api-key": "wrong"}).status_code == 401


def test_a_key_lists_its_deployments(http: httpx.Client, account: Account, deployed: str) -> None:
    told = ask(http, "/deployments", **{"api-key": account.key1}).json()
    [one] = told["data"]
    assert (one["id"], one["status"], one["fine_tuned"]) == (deployed, "Succeeded", False)
    assert told["has_more"] is False


def test_who_may_read_roles_sees_the_names_behind_the_ids(world: Any, http: httpx.Client, account: Account) -> None:
    user = world.services.access.users.add_user("anna@example.org", "correct horse battery")
    token = token_of(world, Role.OPENAI_USER, account.resource_id)
    told = ask(http, "/principals", authorization=f"Bearer {token}").json()
    names = {one["id"]: (one["kind"], one["name"]) for one in told["data"]}
    assert names[user.object_id] == ("User", "anna@example.org")
    assert ("ServicePrincipal", "studio") in names.values()


def test_a_key_learns_no_names(http: httpx.Client, account: Account) -> None:
    assert ask(http, "/principals", **{"api-key": account.key1}).status_code in (401, 403)


def test_a_deployments_row_tells_its_rates_its_price_and_its_end(
    http: httpx.Client, account: Account, deployed: str
) -> None:
    [one] = ask(http, "/deployments", **{"api-key": account.key1}).json()["data"]
    assert (one["tokens_per_minute"], one["requests_per_minute"]) == (one["capacity"] * 1000, one["capacity"] * 6)
    assert one["price"]["currency"] == "USD"
    # A base model is left alone by the clock.
    assert (one["expires_at"], one["expires_because"], one["error"]) == (None, None, None)


def test_an_estimate_tells_what_a_deployment_would_cost_and_writes_nothing(
    http: httpx.Client, account: Account
) -> None:
    query = "?model=gpt-4o-mini&sku=standard&capacity=3"
    told = ask(http, f"/deployments/estimate{query}", **{"api-key": account.key1}).json()
    assert (told["sku"], told["tokens_per_minute"], told["requests_per_minute"]) == ("Standard", 3000, 18)
    assert told["price"]["hour"] == "0.00"
    assert told["price"]["input_1k"] == "0.000165"
    # Other accounts of the subscription share the quota.
    assert 0 < told["quota"]["left"] <= told["quota"]["limit"]
    assert ask(http, f"/deployments/estimate{query}", **{"api-key": account.key1}).json() == told
    assert ask(http, "/deployments", **{"api-key": account.key1}).json()["data"] == []


def test_an_estimate_of_what_cannot_be_deployed_is_refused_with_the_field(http: httpx.Client, account: Account) -> None:
    for query, param in (("?model=nobody", "properties.model"), ("?model=gpt-4o-mini&sku=none", "sku.name")):
        answer = ask(http, f"/deployments/estimate{query}", **{"api-key": account.key1})
        assert answer.status_code == 400
        assert answer.json()["error"]["param"].startswith(param)


def test_whoever_may_deploy_sees_deployments_and_estimates_without_a_data_role(
    world: Any, http: httpx.Client, account: Account, deployed: str
) -> None:
    world.new_account()
    owner = {"authorization": f"Bearer {token_of(world, Role.CONTRIBUTOR, account.resource_id)}"}
    assert [one["id"] for one in ask(http, "/deployments", **owner).json()["data"]] == [deployed]
    assert ask(http, "/deployments/estimate?model=gpt-4o-mini", **owner).status_code == 200
    nobody = {"authorization": f"Bearer {token_of(world, Role.USAGES_READER, account.resource_id)}"}
    assert ask(http, "/deployments", **nobody).status_code == 401
