"""Deployments in the Studio: what is known of them, when they end, what a new one is called and costs."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tailorbird.studio.pages.deployment_facts import (
    NAME,
    Facts,
    facts_of,
    is_near,
    short,
    suggested_name,
    time_left,
)
from tailorbird.studio.pages.deployment_form import offered
from tailorbird.studio.pages.deployment_quote import lines
from tailorbird.studio.pages.deployments import rate_text, used_text
from tailorbird.studio.words import LANGUAGES, Words

EN = Words("en")
HASH = "0123456789abcdef" * 2
TUNED = f"gpt-4o-mini-2024-07-18.ft-{HASH}-mine"
DAY, NOW = 86_400, 1_800_000_000


def own(**more: Any) -> dict[str, Any]:
    row = {
        "id": "mine",
        "model": f"{TUNED}:ckpt-step-8",
        "model_version": "0613",
        "base_model": "gpt-4o-mini-2024-07-18",
        "fine_tuned": True,
        "status": "Succeeded",
        "error": None,
        "paused": False,
        "sku": "Standard",
        "capacity": 5,
        "tokens_per_minute": 5000,
        "requests_per_minute": 30,
        "price": {"hour": "1.70", "currency": "USD"},
        "created_at": NOW - DAY,
        "created_by": "ana",
        "last_used_at": NOW - 300,
        "expires_at": NOW + 14 * DAY + 7200,
        "expires_because": "idle",
    }
    return row | more


def facts(**more: Any) -> Facts:
    return facts_of(own(**more))


def test_a_key_s_holder_sees_what_our_own_list_tells() -> None:
    row = facts()
    assert (row.name, row.state, row.tokens_per_minute, row.hour) == ("mine", "Succeeded", 5000, Decimal("1.70"))
    assert row.is_ready
    assert row.tuned_model == TUNED


def test_who_made_it_and_the_version_to_make_it_again_are_known() -> None:
    assert (facts().created_by, facts().version) == ("ana", "0613")
    assert facts(model_version="").version == "1"


def test_a_failed_deployment_tells_why_and_a_paused_one_is_not_ready() -> None:
    failed, paused = facts(status="Failed", error="no room"), facts(paused=True)
    assert (failed.error, failed.is_ready, failed.is_moving) == ("no room", False, False)
    assert (paused.shown_state, paused.is_ready) == ("Paused", False)


def test_the_countdown_is_in_days_and_says_what_stops_it() -> None:
    assert time_left(EN, facts(), NOW) == "Deleted in 14 d 2 h unless it is used"
    soon = facts(expires_at=NOW + 3600, expires_because="developer_tier")
    assert time_left(EN, soon, NOW) == "Deleted in 1 h 0 min (developer tier)"
    assert time_left(EN, facts(expires_at=None), NOW) == ""
    assert time_left(EN, facts(status="Deleting"), NOW) == ""


@pytest.mark.parametrize(
    ("left", "because", "near"),
    [
        (2 * DAY, "idle", False),
        (DAY - 1, "idle", True),
        (4 * 3600, "developer_tier", False),
        (2 * 3600, "developer_tier", True),
    ],
)
def test_an_end_that_is_near_stands_out(left: int, because: str, near: bool) -> None:
    assert is_near(facts(expires_at=NOW + left, expires_because=because), NOW) is near


def test_the_last_use_is_told_to_the_minute() -> None:
    assert used_text(EN, facts(), NOW) == "5 min ago"
    assert used_text(EN, facts(last_used_at=NOW - 7300), NOW) == "2 h ago"
    assert used_text(EN, facts(last_used_at=None), NOW) == "Not yet"
    assert used_text(EN, facts(last_used_at=NOW - 5), NOW) == "Just now"
    assert "2027" in used_text(EN, facts(last_used_at=NOW - 2 * DAY), NOW)


def test_a_rate_is_told_in_the_language_s_numbers() -> None:
    assert rate_text(EN, facts()) == "5,000 tokens and 30 requests per minute"
    assert "5.000" in rate_text(Words("nl"), facts())
    assert rate_text(EN, facts(tokens_per_minute=None)) == "None"


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (TUNED, "mine"),
        (f"gpt-4o.ft-{HASH}", "gpt-4o-tuned"),
        (f"{TUNED}:ckpt-step-16", "mine-step16"),
        ("gpt-4o-mini", "gpt-4o-mini"),
        ("weird name/with:signs", "weird-name-with-signs"),
        ("…", "deployment"),
        ("x" * 200, "x" * 56),
    ],
)
def test_a_name_the_service_takes_is_suggested(model: str, name: str) -> None:
    assert suggested_name(model, []) == name
    assert NAME.fullmatch(name)


def test_a_suggested_name_is_free() -> None:
    assert suggested_name(TUNED, ["Mine", "mine-2"]) == "mine-3"


def test_a_long_name_is_short_and_still_tells_models_apart() -> None:
    assert short(TUNED) == "gpt-4o-mini-2024-07-18.ft-01234567…-mine"
    assert short("gpt-4o") == "gpt-4o"


def estimate(**more: Any) -> dict[str, Any]:
    told = {
        "tokens_per_minute": 10_000,
        "requests_per_minute": 60,
        "quota": {"limit": 1000, "left": 400},
        "price": {"hour": "1.70", "input_1k": "0.000165", "output_1k": "0.00066", "currency": "USD"},
        "idle_days": 15.0,
        "developer_hours": None,
    }
    return told | more


@pytest.mark.parametrize("language", list(LANGUAGES))
def test_a_quote_tells_rate_quota_price_and_end_in_every_language(language: str) -> None:
    told = " ".join(value for _, value in lines(Words(language), estimate()))
    for number in ("10,000", "400", "1.70", "0.000165", "15"):
        assert (number.translate(str.maketrans(",.", ".,")) if language == "nl" else number) in told


def test_a_quote_of_the_developer_tier_has_its_hours_and_no_price_of_the_hour() -> None:
    free = {"hour": "0.00", "input_1k": "0.00", "output_1k": "0.00", "currency": "USD"}
    told = dict(lines(EN, estimate(price=free, developer_hours=24.0)))
    assert told["Hosting"] == "Nothing per hour"
    assert told["Ends"].startswith("Deleted 24 hours after")
    assert "Tokens" not in told
    assert dict(lines(EN, estimate(tokens_per_minute=None)))["Rate limit"] == "None"


def test_a_model_of_the_control_plane_is_named_so_that_it_can_be_deployed() -> None:
    made = {"systemData": {"createdAt": "2027-01-14T08:00:00Z"}}
    plain = offered({"name": "gpt-35-turbo", "version": "0613", "isDefaultVersion": True, **made})
    dated = offered({"name": "gpt-35-turbo", "version": "1106", "isDefaultVersion": False, **made})
    tuned = offered({"name": TUNED, "version": "1", "baseModel": {"name": "gpt-4o-mini"}, **made})
    assert [one["id"] for one in (plain, dated, tuned)] == ["gpt-35-turbo", "gpt-35-turbo-1106", TUNED]
    assert [one["fine_tune"] for one in (plain, dated, tuned)] == [False, False, True]
