"""Keys, roles, budget; and what somebody with a small role sees of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page, expect

OPEN = Callable[..., Page]


def test_a_key_is_shown_only_when_asked_for_and_changes_when_regenerated(studio: Any, page: Page) -> None:
    page.get_by_role("link", name="Access and keys").click()
    expect(page.get_by_role("heading", name="Access and keys")).to_be_visible()
    second = page.locator(".key").filter(has_text="KEY 2")
    assert studio.api_key not in page.content()
    page.get_by_role("button", name="Show KEY 2").click()
    expect(second.locator(".mono")).to_have_text(re.compile("^[0-9a-f]{32}$"))
    before = second.locator(".mono").inner_text()
    second.get_by_role("button", name="Regenerate").click()
    page.get_by_role("dialog").get_by_role("button", name="Regenerate").click()
    expect(second.locator(".mono")).not_to_have_text(before)
    page.get_by_role("button", name="Hide KEY 2").click()
    expect(second.locator(".mono")).to_have_text(re.compile("^•+$"))


def test_an_owner_gives_a_role_and_its_holder_may_do_more(studio: Any, page: Page, open_page: OPEN) -> None:
    password = studio.person("carla@example.org", "Reader")
    cookie = studio.session(way="user", name="carla@example.org", secret=password)
    reader = open_page("/access", cookie=cookie)
    expect(reader.locator(".key")).to_have_count(0)
    expect(reader.get_by_text("Needs the role Cognitive Services OpenAI Contributor.").first).to_be_visible()
    expect(reader.get_by_role("button", name="Add a role assignment")).to_be_disabled()

    page.goto(f"{studio.url}/access")
    page.get_by_label("User or application").fill("carla")
    page.get_by_role("option", name="carla@example.org").click()
    page.get_by_label("Role", exact=True).click()
    page.get_by_role("option", name="Cognitive Services OpenAI Contributor").click()
    page.get_by_role("button", name="Add a role assignment").click()
    given = page.locator(".holder").filter(has_text="carla@example.org")
    expect(given.filter(has_text="OpenAI Contributor")).to_be_visible()

    reader.reload()
    train = reader.locator(".right").filter(has_text="Start fine-tuning jobs")
    expect(train.get_by_label("Allowed", exact=True)).to_be_visible()


def test_a_budget_is_set_refused_with_a_reason_and_removed(studio: Any, page: Page) -> None:
    page.goto(f"{studio.url}/usage")
    expect(page.get_by_text("No budget is set")).to_be_visible()
    page.get_by_label("Amount").fill("much")
    page.get_by_role("button", name="Set budget").click()
    expect(page.get_by_role("alert")).to_contain_text("use a number")
    page.get_by_label("Amount").fill("250.00")
    page.get_by_role("button", name="Set budget").click()
    expect(page.get_by_text("$0.00 of $250.00 are spent (each month).")).to_be_visible()
    page.get_by_role("button", name="Remove budget").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove budget").click()
    expect(page.get_by_text("No budget is set")).to_be_visible()


def test_who_may_not_see_usage_is_told_which_role_would_do(studio: Any, open_page: OPEN) -> None:
    password = studio.person("dora@example.org", "Cognitive Services OpenAI User")
    cookie = studio.session(way="user", name="dora@example.org", secret=password)
    page = open_page("/usage", cookie=cookie)
    expect(page.get_by_text("Needs the role Cognitive Services Usages Reader.")).to_be_visible()
