"""Deployments and the playground in a browser: from the form to an answer on both sides, and away again."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page, expect

OPEN = Callable[..., Page]


def field(page: Page, label: str) -> Any:
    return page.get_by_label(label, exact=True)


def create(page: Page, studio: Any, name: str) -> None:
    """Through the form, of the built-in base model; nothing has to be trained."""
    page.goto(f"{studio.url}/deployments?model=weaver")
    expect(field(page, "Name")).to_have_value("weaver")
    field(page, "Name").fill(name)
    # What the capacity means stands there before anything is made.
    expect(page.get_by_text("10,000 tokens and 60 requests per minute")).to_be_visible()
    page.get_by_role("button", name="Create a deployment").click()
    page.wait_for_url(f"**/studio/deployments/{name}")
    expect(page.locator(".status", has_text="Succeeded")).to_be_visible()


def remove(page: Page, studio: Any, name: str) -> None:
    page.goto(f"{studio.url}/deployments/{name}")
    page.get_by_role("button", name="Delete").click()
    page.locator(".dialog").get_by_role("button", name="Delete").click()
    page.wait_for_url("**/studio/deployments")


def test_a_deployment_is_made_asked_beside_a_model_kept_over_a_reload_and_deleted(
    studio: Any, open_page: OPEN, accessible: Callable[[Page], None]
) -> None:
    page = open_page("/", cookie=studio.as_application)
    create(page, studio, "talk")
    accessible(page)
    page.get_by_role("button", name="Show the key").click()
    expect(page.get_by_text(studio.api_key)).to_be_visible()
    page.get_by_role("button", name="Open in playground").click()
    page.wait_for_url("**/playground?deployment=talk")
    field(page, "Side by side with").click()
    page.get_by_role("option", name="gpt-4-0613 (model, without a deployment)").click()
    field(page, "Message").fill("Hello, who are you?")
    field(page, "Message").press("Enter")
    # Both have ended when both tell how long it took.
    expect(page.locator(".figures", has_text=re.compile(r"\d tokens.* s in all"))).to_have_count(2)
    expect(field(page, "Message")).to_have_value("")
    accessible(page)
    page.get_by_role("button", name="View code").click()
    expect(page.get_by_text("Hello, who are you?").last).to_be_visible()
    accessible(page)
    page.reload()
    expect(page.locator(".figures", has_text=re.compile(r"\d tokens"))).to_have_count(2)
    expect(page.locator(".asked-text")).to_have_text("Hello, who are you?")
    page.get_by_role("button", name="Clear").click()
    expect(page.get_by_text("Write a message below.")).to_be_visible()
    remove(page, studio, "talk")


def test_a_wrong_name_and_too_much_capacity_are_told_at_their_fields(studio: Any, open_page: OPEN) -> None:
    page = open_page("/deployments?model=weaver", cookie=studio.as_application)
    expect(field(page, "Name")).to_have_value("weaver")
    field(page, "Name").fill("-no-")
    expect(page.get_by_text("and begin with a letter or digit.")).to_be_visible()
    field(page, "Name").fill("large")
    field(page, "Capacity").fill("100000")
    expect(page.get_by_text(re.compile(r"The quota has only [\d,]+ left"))).to_be_visible()
    page.get_by_role("button", name="Create a deployment").click()
    expect(page.get_by_text("bigger than the current available capacity")).to_be_visible()
    # What was typed outlives a reload.
    page.goto(f"{studio.url}/deployments")
    expect(field(page, "Name")).to_have_value("large")
    page.get_by_role("button", name="Cancel").click()
    expect(field(page, "Name")).to_have_count(0)


def test_a_key_s_holder_sees_why_nothing_can_be_made(
    studio: Any, open_page: OPEN, accessible: Callable[[Page], None]
) -> None:
    cookie = studio.session(way="key", key=studio.api_key)
    page = open_page("/deployments", cookie=cookie, width=390, dark=True)
    expect(page.get_by_role("button", name="Create a deployment")).to_be_disabled()
    expect(page.get_by_text("An account key cannot do this.")).to_be_visible()
    accessible(page)


def test_enter_sends_shift_enter_does_not_and_a_refused_setting_is_marked(studio: Any, open_page: OPEN) -> None:
    page = open_page("/playground?model=weaver", cookie=studio.as_application, width=390)
    message = field(page, "Message")
    message.fill("first line")
    message.press("Shift+Enter")
    message.type("second")
    expect(message).to_have_value("first line\nsecond")
    expect(page.locator(".asked-text")).to_have_count(0)
    field(page, "Maximum tokens").fill("100000")
    message.press("Enter")
    expect(page.locator(".answer .problem")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".asked-text")).to_have_count(0)
    field(page, "Maximum tokens").fill("200")
