from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tailorbird.domain.jobs import Checkpoint
from tailorbird.domain.models import TunedModel

AT = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@pytest.fixture
def tuned(world, account) -> TunedModel:
    """A fine-tuned model with its adapter and an earlier checkpoint."""
    job = f"ftjob-{account.id}"
    model = TunedModel(
        f"gpt-4o-mini-2024-07-18.ft-{account.id}", f"ft:gpt-4o-mini-2024-07-18:o::{account.id[:8]}", account.id, job,
        f"ftchkpt-{account.id}", "gpt-4o-mini-2024-07-18", "tiny", "", AT,
    )  # fmt: skip
    with world.store.begin() as tx:
        tx.models.add(model)
        for step, final in ((1, False), (2, True)):
            suffix = "" if final else ":ckpt-step-1"
            checkpoint = model.checkpoint_id if final else f"ftchkpt-{account.id[::-1]}"
            key = f"accounts/{account.id}/adapters/{checkpoint}"
            tx.jobs.add_checkpoint(
                Checkpoint(
                    checkpoint,
                    job,
                    account.id,
                    step,
                    model.name + suffix,
                    model.openai_name + suffix,
                    key,
                    AT,
                    {},
                    final,
                    True,
                )
            )
            world.blobs.put(f"{key}/adapter_config.json", [b"{}"])
    return model


def test_a_catalogue_entry_says_what_it_really_is(call):
    listed = {model["id"]: model for model in call("GET", "/models").json()["data"]}
    body = listed["gpt-4o-mini-2024-07-18"]
    assert body["base_model"] == "tiny"
    assert body["tailorbird"] == {"base_model": "tiny", "context_tokens": 256}
    assert body["capabilities"] == {
        "fine_tune": True, "inference": True, "completion": False, "chat_completion": True, "embeddings": False,
    }  # fmt: skip
    assert body["created"] == body["created_at"] == int(datetime(2024, 7, 18, tzinfo=UTC).timestamp())
    assert body["deprecation"]["inference"] == int(datetime(2099, 1, 1, tzinfo=UTC).timestamp())
    assert (body["object"], body["status"], body["owned_by"]) == ("model", "succeeded", "tailorbird")
    assert listed["babbage-002"]["capabilities"]["completion"]
    assert call("GET", "/models").json()["has_more"] is False


def test_a_short_name_in_any_case_leads_to_the_entry(call):
    assert call("GET", "/models/GPT-4o-mini").json()["id"] == "gpt-4o-mini-2024-07-18"


def test_a_fine_tuned_model_has_the_surface_s_name_and_both_lead_to_it(call, tuned):
    expected = tuned.openai_name if call.is_openai else tuned.name
    assert expected in [model["id"] for model in call("GET", "/models").json()["data"]]
    for name in (tuned.name, tuned.openai_name):
        body = call("GET", f"/models/{name}").json()
        assert body["id"] == expected
        assert (body["model"], body["fine_tune"]) == ("gpt-4o-mini-2024-07-18", tuned.job_id)
        assert "fine_tune" not in body["deprecation"]


def test_an_unknown_model_is_not_found(call):
    answer = call("GET", "/models/ft:none:o::x")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == ("model_not_found" if call.is_openai else "notFound")


def test_a_deleted_model_is_gone_with_its_adapters(call, world, account, tuned):
    body = call("DELETE", f"/models/{tuned.openai_name}").json()
    assert body == {"id": tuned.openai_name, "object": "model", "deleted": True}
    assert call("GET", f"/models/{tuned.name}").status_code == 404
    assert world.blobs.list(f"accounts/{account.id}/adapters") == []
    with world.store.begin() as tx:
        left = tx.jobs.checkpoints(tuned.job_id, after=None, limit=10).items
    assert [checkpoint.deployable for checkpoint in left] == [False, False]


def test_a_model_with_a_deployment_of_a_checkpoint_cannot_be_deleted(call, world, account, tuned):
    world.services.deployments.create(account, "busy", model_name=f"{tuned.name}:ckpt-step-1", by="test")
    answer = call("DELETE", f"/models/{tuned.name}")
    assert answer.status_code == 409
    assert answer.headers["x-should-retry"] == "false"
    assert "'busy'" in answer.json()["error"]["message"]
    assert len(world.blobs.list(f"accounts/{account.id}/adapters")) == 2


def test_a_base_model_cannot_be_deleted(call):
    assert call("DELETE", "/models/gpt-4o-mini").status_code == 400
