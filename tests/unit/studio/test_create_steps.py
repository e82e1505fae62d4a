"""What the wizard's steps say of models, files and estimates."""

from __future__ import annotations

from typing import Any

import pytest

from tailorbird.studio.pages.create import model, review
from tailorbird.studio.pages.create.data import judged
from tailorbird.studio.words import LANGUAGES, Words

T = Words("en")


def row(name: str, **more: Any) -> dict[str, Any]:
    able = {"fine_tune": True, "chat_completion": True} | more.pop("capabilities", {})
    facts = {"base_model": "weaver", "context_tokens": 1024}
    return {"id": name, "created_at": 0, "capabilities": able, "tailorbird": facts, **more}


def test_base_models_and_own_models_are_two_lists_without_what_cannot_be_tuned() -> None:
    rows = [
        row("base"),
        row("vectors", capabilities={"fine_tune": False}),
        row("base.ft-1", fine_tune="ftjob-1", created_at=1),
        row("base.ft-2", fine_tune="ftjob-2", created_at=2),
    ]
    bases, own = model.tunable(rows)
    assert [one["id"] for one in bases] == ["base"]
    assert [one["id"] for one in own] == ["base.ft-2", "base.ft-1"], "the newest first"


def test_a_model_s_card_says_what_really_stands_behind_its_name() -> None:
    assert (
        model.choice_of(T, row("gpt-4")).note == "Runs on weaver, up to 1,024 tokens an example. Learns conversations."
    )
    completing = row("babbage-002", capabilities={"chat_completion": False})
    assert "prompts with completions" in model.choice_of(T, completing).note
    assert "Fine-tuned from gpt-4." in model.choice_of(T, row("m", fine_tune="ftjob-1", model="gpt-4")).note
    line = {"training": {"meter": "training_hours", "unit_price": "45"}, "currency": "USD"}
    assert model.choice_of(T, row("gpt-4"), line).note.endswith("Learns conversations. $45.00 per training hour.")
    assert "checkpoint" in model.choice_of(T, {"id": "ftchkpt-1"}).note


STATISTICS: dict[str, Any] = {
    "examples": 480,
    "tokens": 51_648,
    "kind": "chat",
    "max_tokens": 1024,
    "too_long": 0,
    "unusable": 0,
}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({}, ""),
        ({"examples": 9}, "needs at least 10"),
        ({"examples": 60}, "few to learn from"),
        ({"too_long": 3}, "3 rows are longer than 1,024 tokens"),
        ({"unusable": 2}, "2 rows cannot be read"),
    ],
)
def test_a_file_s_card_warns_of_what_would_fail_or_disappoint(found: dict[str, Any], said: str) -> None:
    facts = judged(T, STATISTICS | found, "168 KB")
    assert [said in one for one in facts.warnings] == ([True] if said else [])
    assert facts.kind == "chat"


def test_a_file_s_card_tells_rows_and_tokens() -> None:
    assert judged(T, STATISTICS, "167.9 KB").text == "480 rows, 51,648 tokens, 167.9 KB"


ESTIMATE: dict[str, Any] = {
    "examples": 480,
    "epoch_tokens": 51_648,
    "tokens_are_exact": True,
    "training_seconds": {"low": 26.0, "likely": 39.0, "high": 58.0},
    "total_seconds": {"low": 30.0, "likely": 45.0, "high": 70.0},
}
PRICE = {
    "meter": "training_tokens",
    "unit_price": "0.0033",
    "currency": "USD",
    "amount": "0.34",
    "low": "0.34",
    "high": "0.34",
}


def test_an_estimate_is_told_with_its_range() -> None:
    assert review.tokens_said(T, ESTIMATE) == "480 rows, 51,648 tokens per epoch"
    assert review.tokens_said(T, ESTIMATE | {"tokens_are_exact": False}).startswith("about 480 rows")
    assert review.time_said(T, ESTIMATE).startswith("26 s to 58 s. With checks about 45 s")


def test_a_price_is_told_by_what_is_counted_and_free_is_free() -> None:
    assert review.cost_said(T, PRICE) == "$0.0033 per 1,000 tokens."
    hours = PRICE | {"meter": "training_hours", "unit_price": "45", "low": "11.25", "high": "22.50"}
    assert review.cost_said(T, hours) == "$11.25 to $22.50. $45.00 per training hour."
    assert review.cost_said(T, PRICE | {"unit_price": "0"}) == "Training is free here."


@pytest.mark.parametrize("language", list(LANGUAGES))
def test_the_review_tells_every_choice_in_every_language(language: str) -> None:
    t = Words(language)
    chosen = {"model": "weaver", "training_file": "file-1", "mode": "custom", "n_epochs": "2", "suffix": "s"}
    told = {field: review.said(t, chosen, field, {"file-1": "train.jsonl"}) for field in review.FIELDS}
    assert told["training_file"] == "train.jsonl (file-1)"
    assert told["validation_file"] == t("create.none")
    assert told["hyperparameters"] == f"{t('create.n_epochs')}: 2"
    assert (told["model"], told["suffix"]) == ("weaver", "s")
    assert told["seed"] == t("create.drawn")
