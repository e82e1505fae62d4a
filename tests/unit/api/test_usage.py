"""Estimates, usage, charges and budgets over HTTP."""

from __future__ import annotations

import csv
import io
import json
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tailorbird.domain.access import Account, Role, subscription_scope
from tailorbird.domain.pricing import Charge, Meter

OWN = "/tailorbird/v1"
MINI, BABBAGE = "gpt-4o-mini-2024-07-18", "babbage-002"
ESTIMATE = f"{OWN}/fine_tuning/jobs/estimate"


@pytest.fixture
def ask(http: httpx.Client, account: Account) -> Callable[..., httpx.Response]:
    def call(method: str, path: str, *, token: str | None = None, **options: Any) -> httpx.Response:
        headers = {"api-key": account.key1} if token is None else {"authorization": f"Bearer {token}"}
        return http.request(method, path, headers=headers, **options)

    return call


@pytest.fixture
def robot(world: Any) -> Callable[..., str]:
    """A token of a new application with one role."""

    def make(role: Role, scope: str) -> str:
        access = world.services.access
        made, secret = access.users.add_application("robot")
        access.roles.assign(made.object_id, role, scope, by="test")
        audience = ["https://management.azure.com/.default"]
        return access.logins.by_secret(made.app_id, secret, audience, authority="https://control.test").access_token

    return make


def charge(world: Any, account: Account, **fields: Any) -> Charge:
    usual: dict[str, Any] = {
        "key": uuid.uuid4().hex,
        "account": account.id,
        "meter": Meter.TRAINING_HOURS,
        "quantity": 2,
        "unit_price": Decimal("34"),
        "price_list": "2023+test",
        "model": BABBAGE,
        "at": datetime(2026, 1, 5, 12, tzinfo=UTC),
    }
    line = Charge(**(usual | fields))
    with world.store.begin() as tx:
        tx.ledger.append(line)
    return line


def upload(ask: Callable[..., httpx.Response], lines: list[dict[str, Any]]) -> str:
    data = "\n".join(json.dumps(line) for line in lines).encode()
    made = ask("POST", "/openai/v1/files", data={"purpose": "fine-tune"}, files={"file": ("t.jsonl", data)}).json()
    end = time.monotonic() + 10
    while made["status"] in ("pending", "running"):
        assert time.monotonic() < end
        time.sleep(0.01)
        made = ask("GET", f"/openai/v1/files/{made['id']}").json()
    assert made["status"] == "processed", made
    return made["id"]


def chats(count: int) -> list[dict[str, Any]]:
    said = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]
    return [{"messages": said}] * count


# --- estimates --------------------------------------------------------------------------------------------------------


def test_an_estimate_counts_with_the_one_renderer_and_starts_nothing(ask: Any) -> None:
    file = upload(ask, chats(20))
    body = {"model": MINI, "training_file": file, "hyperparameters": {"n_epochs": 3, "batch_size": 8}}
    answer = ask("POST", ESTIMATE, json=body)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    # <|user|>hi<|end|><|assistant|>yo<|end|>: four marks and four letters.
    assert (found["examples"], found["epoch_tokens"], found["trained_tokens"]) == (20, 160, 480)
    assert (found["steps"], found["tokens_are_exact"], found["measured_runs"]) == (9, True, 0)
    assert found["hyperparameters"] == {"n_epochs": 3, "batch_size": 8, "learning_rate_multiplier": 1.0}
    price = found["price"]
    assert (price["meter"], price["quantity"], price["unit_price"]) == ("training_tokens", "480", "0.0033")
    assert price["low"] == price["amount"] == price["high"] == "0.00"
    seconds = found["training_seconds"]
    assert 0 < seconds["low"] < seconds["likely"] < seconds["high"]
    assert found["total_seconds"]["likely"] > seconds["likely"]
    assert ask("GET", "/openai/v1/fine_tuning/jobs").json()["data"] == []


def test_hours_are_estimated_in_begun_quarters(ask: Any) -> None:
    file = upload(ask, [{"prompt": "a", "completion": "b"}] * 12)
    price = ask("POST", ESTIMATE, json={"model": BABBAGE, "training_file": file}).json()["price"]
    assert (price["meter"], price["quantity"], price["amount"]) == ("training_hours", "0.250", "8.50")
    assert price["currency"] == "USD"
    assert price["price_list"].startswith("2023+")


def test_every_training_type_costs_the_same(ask: Any) -> None:
    file = upload(ask, [{"prompt": "a", "completion": "b"}] * 12)
    prices = [
        ask("POST", ESTIMATE, json={"model": BABBAGE, "training_file": file, "trainingType": kind}).json()["price"]
        for kind in ("Standard", "GlobalStandard", "DeveloperTier")
    ]
    assert prices[0] == prices[1] == prices[2]


def test_an_estimate_refuses_what_the_job_would_refuse(ask: Any, account: Account, world: Any) -> None:
    file = upload(ask, chats(12))
    for body, word in (
        ({"model": "nobody", "training_file": file}, "nobody"),
        ({"model": MINI, "training_file": "file-0"}, "file-0"),
        ({"model": BABBAGE, "training_file": file}, "completion model"),
        ({"model": MINI, "training_file": file, "epochs": 1}, "epochs"),
    ):
        answer = ask("POST", ESTIMATE, json=body)
        assert answer.status_code in (400, 404)
        assert word in answer.json()["error"]["message"]
    long = upload(ask, [*chats(12), {"messages": [{"role": "user", "content": "x" * 300}, *chats(1)[0]["messages"]]}])
    answer = ask("POST", ESTIMATE, json={"model": MINI, "training_file": long})
    assert answer.status_code == 400
    assert "Line 13: " in answer.json()["error"]["message"]


def test_a_full_queue_or_a_spent_budget_does_not_keep_one_from_asking(
    ask: Any, account: Account, world: Any, robot: Any
) -> None:
    file = upload(ask, chats(12))
    token = robot(Role.OWNER, account.resource_id)
    ask("PUT", f"{OWN}/budget", token=token, json={"amount": 1})
    charge(world, account, at=datetime.now(UTC))
    refused = ask("POST", "/openai/v1/fine_tuning/jobs", json={"model": MINI, "training_file": file})
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "quotaExceeded"
    assert "budget" in refused.json()["error"]["message"]
    assert ask("POST", ESTIMATE, json={"model": MINI, "training_file": file}).status_code == 200


# --- usage ------------------------------------------------------------------------------------------------------------


JANUARY = {"start": "2026-01-01", "end": "2026-02-01"}


def test_usage_is_totalled_by_group_with_exact_rows_and_a_total_in_cents(
    ask: Any, account: Account, world: Any
) -> None:
    charge(world, account, job_id="ftjob-1")
    tokens = {"meter": Meter.INPUT_TOKENS, "unit_price": Decimal("0.0004"), "deployment": "Bot"}
    charge(world, account, quantity=7, **tokens)
    charge(world, account, quantity=5, at=datetime(2026, 1, 6, tzinfo=UTC), **tokens)
    by_deployment = ask("GET", f"{OWN}/usage", params={**JANUARY, "group_by": "deployment"}).json()
    assert by_deployment["total"] == "17.00"
    assert by_deployment["currency"] == "USD"
    assert by_deployment["data"] == [
        {"deployment": None, "meter": "training_hours", "quantity": "0.500", "unit": "hours", "unit_price": "34.00",
         "amount": "17.00"},
        {"deployment": "Bot", "meter": "input_tokens", "quantity": "12", "unit": "tokens", "unit_price": "0.0004",
         "amount": "0.0000048"},
    ]  # fmt: skip
    days = ask("GET", f"{OWN}/usage", params=JANUARY).json()["data"]
    assert [row["day"] for row in days] == ["2026-01-05", "2026-01-05", "2026-01-06"]
    accounts = ask("GET", f"{OWN}/usage", params={**JANUARY, "group_by": "account"}).json()["data"]
    assert {row["account"] for row in accounts} == {account.name}
    assert ask("GET", f"{OWN}/usage").json()["data"] == []


def test_usage_as_csv(ask: Any, account: Account, world: Any) -> None:
    charge(world, account)
    answer = ask("GET", f"{OWN}/usage", params={**JANUARY, "format": "csv", "group_by": "model"})
    assert answer.headers["content-type"].startswith("text/csv")
    (row,) = csv.DictReader(io.StringIO(answer.text))
    assert row == {
        "model": BABBAGE, "meter": "training_hours", "quantity": "0.500", "unit": "hours", "unit_price": "34.00",
        "amount": "17.00", "currency": "USD",
    }  # fmt: skip


def test_every_charge_is_listed_with_what_it_is_for_and_its_price(ask: Any, account: Account, world: Any) -> None:
    lines = [charge(world, account, job_id="ftjob-1"), charge(world, account, deployment="Bot")]
    first = ask("GET", f"{OWN}/usage/charges", params={**JANUARY, "limit": 1}).json()
    assert first["has_more"]
    second = ask("GET", f"{OWN}/usage/charges", params={**JANUARY, "limit": 1, "after": first["last_id"]}).json()
    assert not second["has_more"]
    assert [page["data"][0]["id"] for page in (first, second)] == [lines[1].key, lines[0].key]
    assert second["data"][0] == {
        "id": lines[0].key, "object": "charge", "account": account.name, "at": "2026-01-05T12:00:00+00:00",
        "job": "ftjob-1", "deployment": None, "model": BABBAGE, "meter": "training_hours", "quantity": "0.500",
        "unit": "hours", "unit_price": "34.00", "price_list": "2023+test", "amount": "17.00",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"start": "yesterday"}, "start"),
        ({"end": "99999999999999999"}, "end"),
        ({"start": "2026-02-01", "end": "2026-01-01"}, "end"),
        ({"group_by": "week"}, "group_by"),
        ({"format": "xml"}, "format"),
        ({"currency": "EUR"}, "currency"),
    ],
)
def test_a_bad_question_is_refused_by_name(ask: Any, query: dict[str, str], param: str) -> None:
    answer = ask("GET", f"{OWN}/usage", params=query)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_times_may_be_days_moments_or_seconds(ask: Any, account: Account, world: Any) -> None:
    charge(world, account)
    noon = int(datetime(2026, 1, 5, 12, tzinfo=UTC).timestamp())
    for start, end, found in (
        ("2026-01-05T13:00:00+01:00", "2026-01-05T12:00:01Z", True),
        (str(noon), str(noon + 1), True),
        (str(noon + 1), "2026-01-06", False),
        ("2026-01-05", str(noon), False),
    ):
        rows = ask("GET", f"{OWN}/usage", params={"start": start, "end": end}).json()["data"]
        assert bool(rows) is found, (start, end)


def test_chatting_is_charged_by_deployment_and_minute(ask: Any, account: Account, world: Any, engine: Any) -> None:
    import asyncio

    world.services.deployments.create(account, "Bot", model_name=MINI, by="test")
    asyncio.run(world.services.deployments.provision(account.id, "Bot"))
    body = {"model": "bot", "messages": [{"role": "user", "content": "hi"}]}
    used = [ask("POST", "/openai/v1/chat/completions", json=body).json()["usage"] for _ in range(3)]
    with ask_stream(ask, body) as text:
        assert "[DONE]" in text
    embedded = ask("POST", "/v1/embeddings", json={"model": "text-embedding-3-small", "input": "abc"}).json()["usage"]
    failed = {**body, "messages": "no"}
    assert ask("POST", "/openai/v1/chat/completions", json=failed).status_code == 400
    world.services.cost.tokens.charge(all_of_it=True)
    rows = ask("GET", f"{OWN}/usage", params={"group_by": "deployment"}).json()["data"]
    sums = {(row["deployment"], row["meter"]): row["quantity"] for row in rows}
    assert sums == {
        ("Bot", "input_tokens"): str(4 * used[0]["prompt_tokens"]),
        ("Bot", "output_tokens"): str(4 * used[0]["completion_tokens"]),
        (None, "input_tokens"): str(embedded["prompt_tokens"]),
    }


def test_an_answer_that_broke_off_for_our_fault_is_free(ask: Any, account: Account, world: Any, engine: Any) -> None:
    import asyncio

    world.services.deployments.create(account, "Bot", model_name=MINI, by="test")
    asyncio.run(world.services.deployments.provision(account.id, "Bot"))
    engine.break_after = 3
    body = {"model": "bot", "messages": [{"role": "user", "content": "hi"}]}
    with ask_stream(ask, body) as text:
        assert "error" in text
    world.services.cost.tokens.charge(all_of_it=True)
    assert ask("GET", f"{OWN}/usage").json()["data"] == []


class ask_stream:  # noqa: N801 - used as a with-statement's word
    def __init__(self, ask: Any, body: dict[str, Any]) -> None:
        self._answer = ask("POST", "/openai/v1/chat/completions", json={**body, "stream": True})

    def __enter__(self) -> str:
        return self._answer.text

    def __exit__(self, *exc: object) -> None:
        self._answer.close()


# --- who sees and sets what -------------------------------------------------------------------------------------------


def test_a_token_sees_the_accounts_on_which_it_reads_usages(ask: Any, world: Any, robot: Any) -> None:
    first, second = world.new_account(), world.new_account()
    for one in (first, second):
        charge(world, one)
    token = robot(Role.USAGES_READER, first.resource_id)
    both = robot(Role.READER, subscription_scope(first.subscription_id))
    params = {**JANUARY, "group_by": "account"}

    def names(token: str, **more: str) -> set[str]:
        found = ask("GET", f"{OWN}/usage", token=token, params={**params, **more}).json()
        return {row["account"] for row in found["data"]}

    assert names(token) == {first.name}
    assert {first.name, second.name} <= names(both)
    assert names(both, account=second.name) == {second.name}
    refused = ask("GET", f"{OWN}/usage", token=token, params={**params, "account": second.name})
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "PermissionDenied")
    at_endpoint = ask("GET", f"/accounts/{second.name}{OWN}/usage", token=both, params=params).json()
    assert {row["account"] for row in at_endpoint["data"]} == {second.name}
    user = robot(Role.OPENAI_USER, first.resource_id)
    assert ask("GET", f"{OWN}/usage", token=user, params=params).status_code == 401


def test_a_key_is_wrong_at_another_accounts_endpoint_and_without_one_nothing_is_shown(
    ask: Any, http: httpx.Client, world: Any
) -> None:
    other = world.new_account()
    assert ask("GET", f"/accounts/{other.name}{OWN}/usage").status_code == 401
    assert http.get(f"{OWN}/usage").status_code == 401


def test_a_budget_is_set_by_who_may_write_the_account_and_never_with_its_key(
    ask: Any, account: Account, world: Any, robot: Any
) -> None:
    owner = robot(Role.OWNER, account.resource_id)
    body = {"amount": "20.00", "period": "month", "actions": ["stop_jobs", "retire_deployments"]}
    refused = ask("PUT", f"{OWN}/budget", json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "PermissionDenied")
    assert ask("GET", f"{OWN}/budget").status_code == 404
    charge(world, account, at=datetime.now(UTC))
    made = ask("PUT", f"{OWN}/budget", token=owner, json=body)
    assert made.status_code == 200, made.text
    assert (made.json()["spent"], made.json()["reached"]) == ("17.00", 80)
    assert made.json()["actions"] == body["actions"]
    assert ask("GET", f"{OWN}/budget").json() == made.json()
    (shown,) = ask("GET", f"{OWN}/usage").json()["budgets"]
    assert (shown["account"], shown["warning"]) == (account.name, "80 % of the budget are spent.")
    assert ask("DELETE", f"{OWN}/budget", token=owner).status_code == 204
    assert ask("DELETE", f"{OWN}/budget", token=owner).status_code == 404
    assert ask("GET", f"{OWN}/usage").json()["budgets"] == []


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"amount": "0"}, "amount"),
        ({"amount": "1.001"}, "amount"),
        ({"amount": "much"}, "amount"),
        ({"amount": 5, "period": "week"}, "period"),
        ({"amount": 5, "actions": ["explode"]}, "actions[0]"),
        ({"amount": 5, "limit": 3}, "limit"),
        ({}, "amount"),
    ],
)
def test_a_bad_budget_is_refused_by_name(
    ask: Any, account: Account, robot: Any, body: dict[str, Any], param: str
) -> None:
    answer = ask("PUT", f"{OWN}/budget", token=robot(Role.OWNER, account.resource_id), json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_a_spent_budget_retires_the_deployments_and_refuses_new_ones(
    ask: Any, account: Account, world: Any, robot: Any
) -> None:
    import asyncio

    from tailorbird.domain.errors import QuotaExceeded

    world.services.deployments.create(account, "Bot", model_name=MINI, by="test")
    asyncio.run(world.services.deployments.provision(account.id, "Bot"))
    other = world.new_account()
    world.services.deployments.create(other, "Other", model_name=MINI, by="test")
    owner = robot(Role.OWNER, account.resource_id)
    ask("PUT", f"{OWN}/budget", token=owner, json={"amount": 17, "actions": ["retire_deployments"]})
    asyncio.run(world.services.cost.sweep())
    assert [one.name for one in world.services.deployments.list(account.id)] == ["Bot"]
    charge(world, account, at=datetime.now(UTC))
    asyncio.run(world.services.cost.sweep())
    assert world.services.deployments.list(account.id) == []
    assert [one.name for one in world.services.deployments.list(other.id)] == ["Other"]
    with pytest.raises(QuotaExceeded, match="no new deployment"):
        world.services.deployments.create(account, "Bot", model_name=MINI, by="test")
