"""The Azure CLI, unmodified: its documented command lines, what they print and how they end."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from azure_cli import VERSION, AzureCli
from installation import wait_for
from ledger import Ledger
from shared_service import Served, in_this_installation

pytestmark = pytest.mark.wire_full

DEPLOYMENT = "cognitiveservices account deployment"
ACCOUNT = "cognitiveservices account"
USER, PASSWORD = "az@example.org", "Stitch-a-leaf-41"
OPENAI_USER = "Cognitive Services OpenAI User"

MakeCli = Callable[..., AzureCli]


@pytest.fixture(scope="module")
def ledger() -> Iterator[Ledger]:
    one = Ledger("azure-cli", VERSION)
    yield one
    one.keep()


@pytest.fixture
def new_cli(served: Served, ledger: Ledger, tmp_path: Path) -> MakeCli:
    """Makes a CLI with a new configuration folder that knows our cloud and nobody's login."""

    def make(name: str = "new") -> AzureCli:
        env = served.installation.credentials
        cli = AzureCli(tmp_path / name, env["REQUESTS_CA_BUNDLE"], ledger)
        cli.ok("cloud register", "-n", "Local", "--endpoint-resource-manager", env["ARM_ENDPOINT"])
        cli.ok("cloud set", "-n", "Local")
        return cli

    return make


@pytest.fixture(scope="module")
def logged_in(served: Served, ledger: Ledger, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration folder in which the first service principal is logged in."""
    env, folder = served.installation.credentials, tmp_path_factory.mktemp("az") / "config"
    cli = AzureCli(folder, env["REQUESTS_CA_BUNDLE"], ledger)
    cli.ok("cloud register", "-n", "Local", "--endpoint-resource-manager", env["ARM_ENDPOINT"])
    cli.ok("cloud set", "-n", "Local")
    cli.ok(*principal(served), name="service principal")
    return folder


@pytest.fixture
def az(served: Served, ledger: Ledger, logged_in: Path, tmp_path: Path) -> AzureCli:
    """A CLI of the test's own in which the service principal is logged in."""
    shutil.copytree(logged_in, tmp_path / "config")
    return AzureCli(tmp_path / "config", served.installation.credentials["REQUESTS_CA_BUNDLE"], ledger)


@pytest.fixture(scope="module")
def person(served: Served) -> str:
    """The object id of a user who may look at everything and use nothing."""
    return in_this_installation(served, "users", "add", USER, "--password", PASSWORD)


def principal(served: Served, tenant: str = "") -> tuple[str, ...]:
    env = served.installation.credentials
    who = ("-u", env["AZURE_CLIENT_ID"], "-p", env["AZURE_CLIENT_SECRET"])
    return ("login", "--service-principal", *who, "--tenant", tenant or env["AZURE_TENANT_ID"])


def resource(served: Served, name: str = "") -> tuple[str, ...]:
    env = served.installation.credentials
    group = ("--resource-group", env["AZURE_RESOURCE_GROUP"])
    return (*group, "--name", name or env["AZURE_OPENAI_RESOURCE"])


# --- clouds and logins ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tenant", ["", "adfs"])
def test_a_service_principal_logs_in_at_the_cloud_as_registered(tenant: str, new_cli: MakeCli, served: Served) -> None:
    cli = new_cli()
    (subscription,) = cli.ok(*principal(served, tenant), name=f"service principal {tenant}")
    assert subscription["id"] == served.installation.credentials["AZURE_SUBSCRIPTION_ID"]
    assert subscription["user"]["type"] == "servicePrincipal"
    assert subscription["cloudName"] == "Local"
    assert cli.ok("cloud show")["endpoints"]["resourceManager"] == served.installation.credentials["ARM_ENDPOINT"]


def test_a_service_principal_logs_in_at_an_authority_shaped_like_entra(new_cli: MakeCli, served: Served) -> None:
    cli = new_cli()
    cli.ok("config set", "core.instance_discovery=false")
    authority = served.installation.credentials["ARM_ENDPOINT"]
    cli.ok("cloud update", "-n", "Local", "--endpoint-active-directory", authority)
    (subscription,) = cli.ok(*principal(served), name="service principal, Entra's shape")
    assert subscription["state"] == "Enabled"


def test_a_user_logs_in_with_a_password_and_may_only_look(
    new_cli: MakeCli, az: AzureCli, person: str, served: Served
) -> None:
    scope = f"/subscriptions/{served.installation.credentials['AZURE_SUBSCRIPTION_ID']}"
    az.ok("role assignment create", "--assignee-object-id", person, "--assignee-principal-type", "User",
          "--role", "Reader", "--scope", scope)  # fmt: skip
    cli = new_cli("person")
    (subscription,) = cli.ok("login", "-u", USER, "-p", PASSWORD, name="user and password")
    assert subscription["user"] == {"name": USER, "type": "user"}
    assert cli.ok(f"{ACCOUNT} show", *resource(served))["kind"] == "OpenAI"
    denied = ("AuthorizationFailed", USER, "Microsoft.CognitiveServices/accounts/listKeys/action")
    cli.refused(f"{ACCOUNT} keys list", *resource(served), saying=denied)
    writing = ("AuthorizationFailed", "Microsoft.CognitiveServices/accounts/deployments/write")
    cli.refused(f"{DEPLOYMENT} create", *deployment(served, "az-denied", "weaver"), saying=writing)
    new_cli("wrong").refused("login", "-u", USER, "-p", "wrong", saying=["AADSTS50126"])


def test_a_user_logs_in_by_a_code_typed_into_our_page(
    new_cli: MakeCli, az: AzureCli, person: str, served: Served, ledger: Ledger
) -> None:
    scope = f"/subscriptions/{served.installation.credentials['AZURE_SUBSCRIPTION_ID']}"
    az.ok("role assignment create", "--assignee-object-id", person, "--assignee-principal-type", "User",
          "--role", "Reader", "--scope", scope, "--description", "again, which changes nothing")  # fmt: skip
    cli = new_cli()
    with ledger.call("control plane", "login", "device code"):
        waiting = cli.start("login", "--use-device-code", "--output", "json")
        assert waiting.stderr is not None
        told = waiting.stderr.readline()
        page, code = re.findall(r"the page (\S+) and enter the code (\S+) ", told)[0]
        form = {"code": code, "username": USER, "password": PASSWORD}
        bundle = served.installation.credentials["REQUESTS_CA_BUNDLE"]
        signed = requests.post(page, data=form, verify=bundle, timeout=30)
        assert signed.ok, signed.text
        out, err = waiting.communicate(timeout=60)
        assert waiting.returncode == 0, err
        assert USER in out
    assert cli.ok("account show")["user"]["name"] == USER


def test_a_wrong_secret_ends_with_one_and_entras_words(new_cli: MakeCli, served: Served) -> None:
    *who, _, option, tenant = principal(served)
    new_cli().refused(*who, "wrong", option, tenant, saying=["AADSTS7000215"])


def test_the_account_and_a_token_of_it_are_shown(az: AzureCli, served: Served) -> None:
    shown = az.ok("account show")
    assert shown["tenantId"] == served.installation.credentials["AZURE_TENANT_ID"]
    assert [one["id"] for one in az.ok("account list")] == [shown["id"]]
    assert az.ok("account list-locations")
    token = az.ok("account get-access-token", name="get-access-token")["accessToken"]
    subscriptions = requests.get(
        served.installation.credentials["ARM_ENDPOINT"] + "/subscriptions", params={"api-version": "2022-12-01"},
        headers={"Authorization": f"Bearer {token}"}, verify=served.installation.credentials["REQUESTS_CA_BUNDLE"],
        timeout=30,
    )  # fmt: skip
    assert subscriptions.ok
    az.ok("logout")
    az.refused("account show", saying=["az login"])


# --- deployments ------------------------------------------------------------------------------------------------------


def deployment(served: Served, name: str, model: str) -> tuple[str, ...]:
    """The arguments of the documented command line, in its order; the capacity is a string there."""
    what = ("--deployment-name", name, "--model-name", model, "--model-version", "1", "--model-format", "OpenAI")
    return (*resource(served), *what, "--sku-capacity", "1", "--sku-name", "Standard")


def test_the_documented_command_line_deploys_and_the_deployment_is_shown_listed_and_deleted(
    az: AzureCli, served: Served
) -> None:
    made = az.ok(f"{DEPLOYMENT} create", *deployment(served, "az-deployment", "weaver"))
    assert made["sku"] == {"capacity": 1, "family": None, "name": "Standard", "size": None, "tier": None}
    assert made["properties"]["provisioningState"] in ("Creating", "Succeeded")
    one = (*resource(served), "--deployment-name", "az-deployment")

    def ready() -> bool:
        return az.ok(f"{DEPLOYMENT} show", *one)["properties"]["provisioningState"] == "Succeeded"

    wait_for("the deployment", ready, 60)
    assert "az-deployment" in [row["name"] for row in az.ok(f"{DEPLOYMENT} list", *resource(served))]
    assert az.ok(f"{DEPLOYMENT} delete", *one) is None
    az.refused(f"{DEPLOYMENT} show", *one, saying=["az-deployment"])


def test_a_model_nobody_has_is_refused_in_the_words_of_the_service(az: AzureCli, served: Served) -> None:
    arguments = deployment(served, "az-none", "gpt-4o-mini.ft-00000000000000000000000000000000")
    az.refused(f"{DEPLOYMENT} create", *arguments, saying=["DeploymentModelNotSupported", "gpt-4o-mini.ft-0000"])


# --- accounts, groups, keys -------------------------------------------------------------------------------------------


def test_a_group_and_an_account_are_made_used_and_deleted(az: AzureCli, served: Served) -> None:
    group = ("--resource-group", "az-group")
    assert az.ok("group create", "--name", "az-group", "--location", "westus")["location"] == "westus"
    assert az.ok("group show", "--name", "az-group")["properties"]["provisioningState"] == "Succeeded"
    assert "az-group" in [one["name"] for one in az.ok("group list")]
    made = az.ok(f"{ACCOUNT} create", *group, "--name", "az-account", "--kind", "OpenAI", "--sku", "S0",
                 "--location", "westus", "--custom-domain", "az-account", "--yes")  # fmt: skip
    assert made["properties"]["endpoint"].startswith(served.endpoint)
    assert [one["name"] for one in az.ok(f"{ACCOUNT} list", *group)] == ["az-account"]
    one = (*group, "--name", "az-account")
    assert az.ok(f"{ACCOUNT} show", *one)["location"] == "westus"
    assert az.ok(f"{ACCOUNT} update", *one, "--tags", "team=nests")["tags"] == {"team": "nests"}
    assert az.ok(f"{ACCOUNT} delete", *one) is None
    az.refused(f"{ACCOUNT} show", *one, saying=["ResourceNotFound", "az-account"])
    az.ok(f"{ACCOUNT} purge", *one, "--location", "westus")
    az.ok("group delete", "--name", "az-group", "--yes")
    az.refused("group show", "--name", "az-group", saying=["ResourceGroupNotFound"])


def test_a_new_key_takes_the_place_of_the_old_one(az: AzureCli, served: Served) -> None:
    one = resource(served, served.other_account("az-keys"))
    before = az.ok(f"{ACCOUNT} keys list", *one)
    after = az.ok(f"{ACCOUNT} keys regenerate", *one, "--key-name", "key2")
    assert after["key1"] == before["key1"]
    assert after["key2"] != before["key2"]
    files = f"{served.endpoint}/v1/files"
    tried = [
        requests.get(files, headers={"api-key": key}, timeout=30).status_code
        for key in (after["key1"], after["key2"], before["key2"])
    ]
    assert tried == [200, 200, 401]


def test_models_and_usages_are_listed_of_the_account_and_of_the_location(az: AzureCli, served: Served) -> None:
    account = resource(served)
    names = [model["name"] for model in az.ok(f"{ACCOUNT} list-models", *account)]
    assert {"gpt-4o-mini", served.azure_model} <= set(names)
    used = az.ok(f"{ACCOUNT} list-usage", *account)
    assert {"currentValue", "limit", "name", "unit"} <= set(used[0])
    models = az.ok("cognitiveservices model list", "--location", "eastus")
    assert "gpt-4o-mini" in [entry["model"]["name"] for entry in models]
    assert all(
        entry["limit"] >= entry["currentValue"] for entry in az.ok("cognitiveservices usage list", "-l", "eastus")
    )


# --- roles ------------------------------------------------------------------------------------------------------------


def test_a_role_is_given_listed_and_taken_away(az: AzureCli, person: str, served: Served) -> None:
    scope = f"{served.installation.accounts}/{served.installation.credentials['AZURE_OPENAI_RESOURCE']}"
    who = ("--assignee-object-id", person, "--assignee-principal-type", "User")
    made = az.ok("role assignment create", *who, "--role", OPENAI_USER, "--scope", scope)
    assert (made["principalId"], made["scope"]) == (person, scope)
    listed = az.ok("role assignment list", "--scope", scope, "--assignee", person)
    assert made["id"] in [one["id"] for one in listed]
    az.ok("role assignment delete", "--ids", made["id"])
    assert made["id"] not in [one["id"] for one in az.ok("role assignment list", "--scope", scope)]
    (definition,) = az.ok("role definition list", "--name", OPENAI_USER)
    assert definition["permissions"][0]["dataActions"]


def test_any_other_call_of_the_control_plane_is_made_with_rest(az: AzureCli, served: Served) -> None:
    url = f"{served.installation.accounts}/{served.installation.credentials['AZURE_OPENAI_RESOURCE']}/deployments"
    found = az.ok("rest", "--method", "get", "--url", f"{url}?api-version=2024-10-01")
    assert served.chat_deployment in [row["name"] for row in found["value"]]
