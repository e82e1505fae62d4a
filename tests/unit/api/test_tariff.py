"""`GET /tailorbird/v1/tariff`: which models can be tuned, what they really are and what they cost."""

from __future__ import annotations

import httpx

from tailorbird.domain.access import Account

PATH = "/tailorbird/v1/tariff"


def test_every_model_that_can_be_tuned_has_its_line(http: httpx.Client, account: Account) -> None:
    told = http.get(PATH, headers={"api-key": account.key1}).json()
    models = http.get("/openai/v1/models", headers={"api-key": account.key1}).json()["data"]
    assert [line["id"] for line in told["data"]] == [row["id"] for row in models if row["capabilities"]["fine_tune"]]
    assert told["has_more"] is False
    for line, row in zip(told["data"], (row for row in models if row["capabilities"]["fine_tune"]), strict=True):
        assert (line["base_model"], line["max_tokens"]) == (row["base_model"], row["tailorbird"]["context_tokens"])
        assert ("dpo" in line["methods"]) is row["capabilities"]["chat_completion"]


def test_a_line_has_the_prices_that_a_job_is_estimated_with(http: httpx.Client, account: Account) -> None:
    headers = {"api-key": account.key1}
    rows = "".join(
        f'{{"messages": [{{"role": "user", "content": "say {n}"}}, {{"role": "assistant", "content": "{n}"}}]}}\n'
        for n in range(12)
    )
    form = {"file": ("train.jsonl", rows.encode())}
    file = http.post("/openai/v1/files", headers=headers, files=form, data={"purpose": "fine-tune"}).json()["id"]
    for line in http.get(PATH, headers=headers).json()["data"]:
        if "dpo" not in line["methods"]:
            continue
        asked = {"model": line["id"], "training_file": file}
        price = http.post("/tailorbird/v1/fine_tuning/jobs/estimate", headers=headers, json=asked).json()["price"]
        assert line["training"] == {"meter": price["meter"], "unit_price": price["unit_price"]}
        assert (line["currency"], line["price_list"]) == (price["currency"], price["price_list"])


def test_nobody_is_told_without_a_credential(http: httpx.Client) -> None:
    assert http.get(PATH).status_code == 401
