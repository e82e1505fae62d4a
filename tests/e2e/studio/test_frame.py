"""The frame: signing in and out, every page in both themes and two widths without a serious violation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

OPEN = Callable[..., Page]


def test_somebody_unknown_is_asked_who_they_are_and_brought_where_they_wanted_to_go(
    studio: Any, open_page: OPEN, accessible: Callable[[Page], None]
) -> None:
    page = open_page("/jobs")
    expect(page.get_by_role("heading", name="Sign in to Tailorbird Studio")).to_be_visible()
    accessible(page)
    page.get_by_label("Account key", exact=True).fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("invalid subscription key")
    page.get_by_label("Account key", exact=True).fill(studio.api_key)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/studio/jobs")
    expect(page.get_by_role("heading", level=1)).to_be_visible()


def test_signing_out_ends_the_session_on_the_server(studio: Any, open_page: OPEN) -> None:
    cookie = studio.session(way="key", key=studio.credentials["AZURE_OPENAI_API_KEY"])
    page = open_page("/", cookie=cookie)
    page.get_by_role("button", name="Signed in as").click()
    page.get_by_text("Sign out").click()
    page.wait_for_url("**/studio/sign-in")
    again = open_page("/", cookie=cookie)
    expect(again.get_by_role("button", name="Sign in")).to_be_visible()
    studio.sessions.clear()


def test_the_language_follows_the_browser_and_can_be_changed(studio: Any, open_page: OPEN) -> None:
    page = open_page("/", cookie=studio.as_application, language="ja-JP")
    expect(page.get_by_role("link", name="データ ファイル")).to_be_visible()
    assert page.evaluate("document.documentElement.lang") == "ja"
    page.get_by_role("button", name="サインイン中").click()
    page.get_by_text("Nederlands").click()
    expect(page.get_by_role("link", name="Gegevensbestanden")).to_be_visible()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_page_is_accessible_and_no_wider_than_the_screen(
    studio: Any, open_page: OPEN, accessible: Callable[[Page], None], dark: bool, width: int
) -> None:
    page = open_page("/", cookie=studio.as_application, dark=dark, width=width)
    for path in ("/", "/files", "/create", "/jobs", "/deployments", "/playground", "/access", "/usage"):
        page.goto(studio.url + path)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        page.wait_for_load_state("networkidle")
        accessible(page)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path} scrolls sideways"


def test_the_keyboard_reaches_the_content_past_the_navigation(page: Page) -> None:
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()


def test_a_browser_at_the_root_is_sent_to_the_studio(studio: Any, open_page: OPEN) -> None:
    page = open_page("/", cookie=studio.as_application)
    answer = page.goto(studio.url.removesuffix("/studio") + "/")
    assert answer is not None
    assert answer.request.redirected_from is not None
    assert page.url == f"{studio.url}/"
