"""Checkpoints given to other accounts: Foundry's copies and OpenAI's permissions."""

from __future__ import annotations

import hashlib
import time
from datetime import UTC, datetime

import pytest

from tailorbird.domain.access import Account, Assignment, Role, ServicePrincipal
from tailorbird.domain.jobs import Checkpoint
from tailorbird.domain.models import TunedModel

AT = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
PREVIEW = {"aoai-copy-ft-checkpoints": "preview"}


@pytest.fixture
def tuned(world, account) -> TunedModel:
    job, checkpoint = f"ftjob-{account.id}", f"ftchkpt-{account.id}"
    model = TunedModel(
        name=f"gpt-4o-mini-2024-07-18.ft-{account.id}",
        openai_name=f"ft:gpt-4o-mini-2024-07-18:o::{account.id[:8]}",
        account_id=account.id,
        job_id=job,
        checkpoint_id=checkpoint,
        catalogue_name="gpt-4o-mini-2024-07-18",
        base="tiny",
        template_hash=world.catalogue.renderer("tiny").template_hash,
        created_at=AT,
    )
    key = f"accounts/{account.id}/adapters/{checkpoint}"
    with world.store.begin() as tx:
        tx.models.add(model)
        tx.jobs.add_checkpoint(
            Checkpoint(checkpoint, job, account.id, 2, model.name, model.openai_name, key, AT, {}, True, True)
        )
    world.blobs.put(f"{key}/adapter_model.safetensors", [b"weights"])
    world.blobs.put(f"{key}/adapter_config.json", [b"{}"])
    return model


@pytest.fixture
def other(world) -> Account:
    return world.new_account()


@pytest.fixture
def token(world, account, other):
    """A token of somebody with a role on each of the two accounts."""

    def make(here: Role, there: Role | None) -> str:
        app = f"app-{here}-{there}-{account.id}"
        with world.store.begin() as tx:
            tx.identities.add_service_principal(ServicePrincipal(app, app, "p", hashlib.sha256(b"s").hexdigest()))
            # An Owner manages and has no data actions of its own, as on Azure.
            for role in {here, Role.OPENAI_CONTRIBUTOR}:
                tx.identities.add_assignment(app, Assignment(role, account.resource_id))
            if there is not None:
                tx.identities.add_assignment(app, Assignment(there, other.resource_id))
        scope = "https://cognitiveservices.azure.com/.default"
        issued = world.services.access.logins.by_secret(app, "s", [scope], authority="https://control.test")
        return issued.access_token

    return make


def bearer(token: str, account: Account) -> dict[str, str]:
    return {"api-key": "", "authorization": f"Bearer {token}", "x-tailorbird-account": account.name}


def body(other: Account) -> dict[str, str]:
    return {"destinationResourceId": other.resource_id, "region": other.location}


def path(tuned: TunedModel) -> str:
    return f"/fine_tuning/jobs/{tuned.job_id}/checkpoints/{tuned.name}/copy"


def test_a_copy_is_made_and_lives_on_its_own(on, world, account, other, tuned, token):
    headers = PREVIEW | bearer(token(Role.OPENAI_CONTRIBUTOR, Role.OPENAI_CONTRIBUTOR), account)
    answer = on("azure-v1")("POST", path(tuned), headers=headers, json=body(other))
    assert answer.status_code == 200, answer.text
    assert answer.json()["checkpointedModelName"] == tuned.name
    seen: dict = {}
    for _ in range(200):
        seen = on("azure-v1")("GET", path(tuned), headers=headers).json()
        if seen["copiedAccountDetails"][0]["status"] != "InProgress":
            break
        time.sleep(0.02)
    assert seen == {
        "checkpointedModelName": tuned.name,
        "fineTuningJobId": tuned.job_id,
        "copiedAccountDetails": [body(other) | {"status": "Completed"}],
    }
    # The destination's own key sees the model, and keeps it when the original goes.
    there = on("openai")("GET", "/models", headers={"api-key": other.key1}).json()["data"]
    assert tuned.openai_name in [model["id"] for model in there]
    assert on("azure-v1")("DELETE", f"/models/{tuned.name}").status_code == 200
    still = on("azure-v1")("GET", f"/models/{tuned.name}", headers={"api-key": other.key1})
    assert still.status_code == 200


def test_the_source_s_key_copies_within_its_subscription_as_documented(on, other, tuned):
    answer = on("azure-v1")("POST", path(tuned), headers=PREVIEW, json=body(other))
    assert answer.status_code == 200, answer.text
    assert answer.json()["copiedAccountDetails"][0]["destinationResourceId"] == other.resource_id


@pytest.mark.parametrize(
    ("change", "status", "word"),
    [
        ({"destinationResourceId": "/subscriptions/x"}, 400, "resource id"),
        ({"region": "mars"}, 400, "not in 'mars'"),
        ({"extra": 1}, 400, "extra"),
    ],
)
def test_a_faulty_copy_is_refused_by_field(on, account, other, tuned, token, change, status, word):
    headers = PREVIEW | bearer(token(Role.OWNER, Role.OWNER), account)
    answer = on("azure-v1")("POST", path(tuned), headers=headers, json=body(other) | change)
    assert answer.status_code == status
    assert word in answer.json()["error"]["message"]


def test_copying_needs_the_preview_header_and_rights_on_both_sides(on, account, other, tuned, token):
    call = on("azure-v1")
    owner = bearer(token(Role.OWNER, Role.OWNER), account)
    assert call("POST", path(tuned), headers=owner, json=body(other)).json()["error"]["param"] == next(iter(PREVIEW))
    elsewhere = body(other) | {"destinationResourceId": other.resource_id.replace("/sub/", "/another/")}
    assert call("POST", path(tuned), headers=PREVIEW, json=elsewhere).status_code == 401
    here_only = PREVIEW | bearer(token(Role.OWNER, None), account)
    assert call("POST", path(tuned), headers=here_only, json=body(other)).status_code == 401
    assert on("openai")("POST", path(tuned), headers=PREVIEW | owner, json=body(other)).status_code == 404
    unknown = path(tuned).replace(tuned.name, "ftchkpt-none")
    assert call("POST", unknown, headers=PREVIEW | owner, json=body(other)).status_code == 404


def test_a_permission_gives_the_project_the_model_and_revoking_takes_it(on, account, other, tuned, token):
    admin = bearer(token(Role.OWNER, Role.OWNER), account)
    where = f"/fine_tuning/checkpoints/{tuned.openai_name}/permissions"
    made = on("openai")("POST", where, headers=admin, json={"project_ids": [other.name]})
    assert made.status_code == 200, made.text
    permission = made.json()["data"][0]
    assert (permission["object"], permission["project_id"]) == ("checkpoint.permission", other.name)
    assert permission["id"].startswith("cp_")
    again = on("openai")("POST", where, headers=admin, json={"project_ids": [other.name]}).json()
    assert again["data"] == [permission]
    listed = on("openai")("GET", where, headers=admin, params={"order": "ascending", "limit": 1}).json()
    assert (listed["data"], listed["last_id"], listed["has_more"]) == ([permission], permission["id"], False)
    model = f"/models/{tuned.openai_name}"
    assert on("openai")("GET", model, headers={"api-key": other.key1}).status_code == 200
    gone = on("openai")("DELETE", f"{where}/{permission['id']}", headers=admin).json()
    assert gone == {"id": permission["id"], "object": "checkpoint.permission", "deleted": True}
    assert on("openai")("GET", model, headers={"api-key": other.key1}).status_code == 404
    assert on("openai")("DELETE", f"{where}/{permission['id']}", headers=admin).status_code == 404


def test_permissions_need_an_admin_and_a_project_one_may_write_to(on, account, other, tuned, token):
    where = f"/fine_tuning/checkpoints/{tuned.openai_name}/permissions"
    by_key = on("openai")("POST", where, json={"project_ids": [other.name]})
    assert by_key.status_code == 403
    assert "Owner" in by_key.json()["error"]["message"]
    contributor = bearer(token(Role.OPENAI_CONTRIBUTOR, Role.OWNER), account)
    assert on("openai")("GET", where, headers=contributor).status_code == 403
    here_only = bearer(token(Role.OWNER, None), account)
    refused = on("openai")("POST", where, headers=here_only, json={"project_ids": [other.name]})
    assert refused.json()["error"]["param"] == "project_ids"
    assert on("azure-v1")("GET", where, headers=here_only).status_code == 404
