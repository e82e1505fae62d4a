"""What requests on the data plane leave in the audit trail and in the log."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tailorbird.domain.access import Account, Assignment, Principal, Role
from tailorbird.domain.audit import Entry, Wanted
from tailorbird.domain.jobs import Checkpoint
from tailorbird.domain.models import TunedModel
from tailorbird.domain.pricing import Period
from tailorbird.protocol.logs import Lines
from tailorbird.service import acting

Lines_ = Callable[[int], bytes]


@pytest.fixture
def trail(world: Any, account: Account) -> Callable[[], list[Entry]]:
    wanted = Wanted((account.resource_id,))
    return lambda: list(reversed(world.services.audit.list(wanted, before=None, limit=100).items))


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the service's loggers write, as `serve` writes it."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(Lines(acting.facts))
    ours = logging.getLogger("tailorbird")
    before = ours.level
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    yield out
    ours.removeHandler(handler)
    ours.setLevel(before)


def upload(call: Any, lines: bytes) -> str:
    sent = call("POST", "/files", files={"file": ("t.jsonl", lines)}, data={"purpose": "fine-tune"})
    return sent.json()["id"]


def test_a_deleted_file_leaves_who_deleted_it(on: Any, account: Account, trail: Any, chat_lines: Lines_) -> None:
    call = on("azure")
    file_id = upload(call, chat_lines(10))
    gone = call("DELETE", f"/files/{file_id}")
    [entry] = trail()
    assert entry.action == "Microsoft.CognitiveServices/accounts/OpenAI/files/delete"
    assert entry.resource == f"{account.resource_id}/files/{file_id}"
    assert (entry.principal_name, entry.request_id) == (f"{account.name} Key1", gone.headers["x-request-id"])
    assert entry.address == "127.0.0.1"
    assert account.key1 not in str(entry)
    assert call("DELETE", f"/files/{file_id}").status_code >= 204
    assert len(trail()) == 1


def test_a_deleted_job_leaves_who_deleted_it(on: Any, account: Account, trail: Any, chat_lines: Lines_) -> None:
    call = on("azure")
    file_id = upload(call, chat_lines(10))
    job = call("POST", "/fine_tuning/jobs", json={"model": "gpt-4o-mini", "training_file": file_id}).json()["id"]
    call("POST", f"/fine_tuning/jobs/{job}/cancel")
    assert call("DELETE", f"/fine_tuning/jobs/{job}").status_code == 204
    assert [(entry.resource, entry.detail) for entry in trail()] == [
        (f"{account.resource_id}/fineTuningJobs/{job}", "")
    ]


@pytest.fixture
def tuned(world: Any, account: Account) -> str:
    """A fine-tuned model whose checkpoint can be deployed; answers its name."""
    now, checkpoint = datetime.now(UTC), f"ftchkpt-{account.id}"
    name, openai_name = f"gpt-4o-mini-2024-07-18.ft-{account.id}", f"ft:gpt-4o-mini-2024-07-18:o::{account.id[:8]}"
    key = f"accounts/{account.id}/adapters/{checkpoint}"
    digest = world.catalogue.renderer("tiny").template_hash
    with world.store.begin() as tx:
        tx.models.add(
            TunedModel(
                name, openai_name, account.id, "ftjob-1", checkpoint, "gpt-4o-mini-2024-07-18", "tiny", digest, now
            )
        )
        tx.jobs.add_checkpoint(
            Checkpoint(checkpoint, "ftjob-1", account.id, 2, name, openai_name, key, now, {}, True, True)
        )
    world.blobs.put(f"{key}/adapter_config.json", [b"{}"])
    return name


def test_a_deleted_model_leaves_who_deleted_it(on: Any, account: Account, trail: Any, tuned: str) -> None:
    assert on("openai")("DELETE", f"/models/{tuned}").status_code == 200
    [entry] = trail()
    assert entry.action == "Microsoft.CognitiveServices/accounts/OpenAI/models/delete"
    assert entry.resource == f"{account.resource_id}/models/{tuned}"


def test_weights_that_leave_the_account_are_written_down(world: Any, account: Account, trail: Any, tuned: str) -> None:
    other = world.new_account()
    who = Principal(
        "id", "olga", tuple(Assignment(r, "/subscriptions/sub") for r in (Role.OWNER, Role.OPENAI_CONTRIBUTOR))
    )
    sharing = world.services.sharing
    sharing.begin_copy(who, account, "ftjob-1", tuned, other.resource_id, other.location)
    [permission] = sharing.grant(who, account, tuned, [other.name])
    sharing.revoke(who, account, tuned, permission.id)
    assert [(entry.action.split("/", 1)[1], entry.detail) for entry in trail()] == [
        ("checkpoints/copies/write", f"to {other.resource_id}"),
        ("checkpoints/permissions/write", f"with {other.name}"),
        ("checkpoints/permissions/delete", f"with {other.name}"),
    ]


def test_a_budget_set_and_removed_is_written_down(world: Any, account: Account, trail: Any) -> None:
    budgets = world.services.cost.budgets
    budgets.put(account.id, Decimal("12.50"), Period.MONTH, [])
    budgets.delete(account.id)
    assert [(entry.resource, entry.detail) for entry in trail()] == [
        (f"{account.resource_id}/budget", "12.50 for each month"),
        (f"{account.resource_id}/budget", "removed"),
    ]


def test_setting_a_foreign_key_is_written_down_without_it(on: Any, trail: Any) -> None:
    call = on("openai")
    call("PUT", "/fine_tuning/integrations/wandb", json={"api_key": "s3cr3t-of-wandb"})
    call("DELETE", "/fine_tuning/integrations/wandb")
    assert [(entry.action, entry.detail) for entry in trail()] == [
        ("Tailorbird/integrations/write", "set"),
        ("Tailorbird/integrations/write", "removed"),
    ]
    assert "s3cr3t" not in str(trail())


async def test_what_the_clock_deletes_was_done_by_the_service(
    world: Any, on: Any, account: Account, trail: Any, chat_lines: Lines_
) -> None:
    file_id = upload(on("azure"), chat_lines(10))
    with world.store.begin() as tx:
        tx.files.save(replace(tx.files.get(account.id, file_id), expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    await world.services.files.sweep()
    [entry] = trail()
    assert (entry.resource.rsplit("/", 1)[1], entry.detail) == (file_id, "expired")
    assert (entry.principal_name, entry.request_id, entry.address) == (acting.SERVICE, "", "")


def test_each_line_of_a_request_names_request_account_principal_and_job(
    on: Any, account: Account, log: io.StringIO
) -> None:
    asked = on("openai")("GET", "/fine_tuning/jobs/ftjob-nobodys")
    request_id = asked.headers["x-request-id"]
    lines = [json.loads(text) for text in log.getvalue().splitlines()]
    [line] = [one for one in lines if one.get("request_id") == request_id]
    assert (line["logger"], line["message"], line["status"]) == ("tailorbird.access", "request", 404)
    assert (line["account"], line["principal"]) == (account.id, f"{account.name} Key1")
    assert (line["job"], line["error"]) == ("ftjob-nobodys", "NotFound")


def test_nothing_a_caller_sends_as_a_secret_reaches_the_log(on: Any, account: Account, log: io.StringIO) -> None:
    token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"
    call = on("azure")
    source = "https://127.0.0.1/f?sv=1&sig=s3cr3t-signature"
    call("POST", "/files/import", json={"content_url": source, "filename": "f.jsonl", "purpose": "fine-tune"})
    call("GET", "/files", params={"sig": "s3cr3t-signature", "code": "s3cr3t-code"})
    call("GET", "/files", headers={"api-key": "s3cr3t-key"})
    call("GET", "/files", headers={"api-key": "", "authorization": f"Bearer {token}"})
    call("PUT", "/fine_tuning/integrations/wandb", json={"api_key": "s3cr3t-of-wandb"})
    text = log.getvalue()
    assert text.count("\n") >= 5
    assert not any(word in text for word in ("s3cr3t", token, account.key1, account.key2))
