"""Home's sample job, the readiness check, and what the wizard does besides the straight way."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from installation import EXAMPLES
from playwright.sync_api import Locator, Page, expect

OPEN = Callable[..., Page]
MODEL = "gpt-4o-mini-2024-07-18"
LONG = 240_000


def rows(count: int) -> bytes:
    return b"".join((EXAMPLES / "bookings.train.jsonl").read_bytes().splitlines(keepends=True)[:count])


def pairs() -> bytes:
    def row(number: int) -> dict[str, Any]:
        return {
            "input": {"messages": [{"role": "user", "content": f"say {number}"}]},
            "preferred_output": [{"role": "assistant", "content": f"good {number}"}],
            "non_preferred_output": [{"role": "assistant", "content": "no"}],
        }

    return "".join(json.dumps(row(number)) + "\n" for number in range(12)).encode()


def step(page: Page, name: str) -> None:
    expect(page.get_by_role("heading", level=2, name=name, exact=True)).to_be_visible()


def chosen(page: Page) -> Locator:
    return page.locator(".chosen-file")


def drop(page: Page, name: str, content: bytes) -> None:
    page.locator("input[type=file]").set_input_files({"name": name, "mimeType": "application/jsonl", "buffer": content})
    expect(chosen(page)).to_contain_text(name)


def test_one_click_starts_the_sample_job(studio: Any, open_page: OPEN, accessible: Callable[[Page], None]) -> None:
    # Other tests may have made jobs here; then Home lists them instead.
    page = open_page("/", cookie=studio.as_application)
    start = page.get_by_role("button", name="Start the sample job")
    recent = page.get_by_role("heading", name="Recent jobs")
    expect(start.or_(recent)).to_be_visible()
    accessible(page)
    if not start.is_visible():
        expect(page.get_by_role("row")).not_to_have_count(0)
        return
    start.click()
    page.wait_for_url(re.compile(r"/studio/jobs/ftjob-"))
    job = page.url.rsplit("/", 1)[1]
    page.goto(studio.url + "/")
    expect(page.get_by_role("row").filter(has_text="sample")).to_be_visible()
    expect(start).to_be_hidden()
    studio.api("POST", f"/fine_tuning/jobs/{job}/cancel")
    expect(page.get_by_text("cancelled")).to_be_visible()


def test_the_readiness_check_ends_in_advice_that_a_reload_keeps(
    studio: Any, open_page: OPEN, accessible: Callable[[Page], None]
) -> None:
    page = open_page("/readiness", cookie=studio.as_application)
    expect(page.get_by_text("Questions left before the advice: 5")).to_be_visible()
    for answer in (
        "The model lacks facts of our field or our company.",
        "Different prompts.",
        "Edge cases and exceptions go wrong.",
        "Hundreds or more, checked and in the right format.",
        "People will look at the answers.",
    ):
        page.get_by_role("radio", name=answer).check()
    expect(page.get_by_role("heading", name="First try retrieval (RAG)")).to_be_visible()
    accessible(page)
    page.reload()
    page.get_by_role("radio", name="Answers must have a certain style, tone or format.").check()
    expect(page.get_by_role("heading", name="Fine-tune now")).to_be_visible()
    page.get_by_role("link", name="Create a custom model").click()
    step(page, "Base model")


def test_the_wizard_goes_by_keyboard_and_says_what_is_missing(studio: Any, open_page: OPEN) -> None:
    page = open_page("/create?step=5", cookie=studio.as_application)
    step(page, "Base model")
    following = page.get_by_role("button", name="Next")
    following.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("Choose a base model first.")
    page.get_by_role("radio", name=re.compile("^gpt-35-turbo-0613")).focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    expect(page.get_by_role("radio", name=re.compile("^gpt-35-turbo-0613"))).to_be_checked()
    following.focus()
    page.keyboard.press("Enter")
    step(page, "Training data")
    # The reader's place is the new step.
    expect(page.locator("#step-heading")).to_be_focused()
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_role("alert")).to_contain_text("Choose a file first.")


def test_files_are_judged_in_the_wizard_and_refusals_stand_beside_their_field(
    studio: Any, open_page: OPEN, accessible: Callable[[Page], None]
) -> None:
    page = open_page(f"/create?model={MODEL}", cookie=studio.as_application, width=390, dark=True)
    step(page, "Training data")
    page.get_by_role("radio", name=re.compile("^Local file")).check()
    drop(page, "broken.jsonl", b'{"messages": [\n')
    expect(chosen(page)).to_contain_text("Line 1")
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_text("This file has errors and cannot be used.")).to_be_visible()
    drop(page, "pairs.jsonl", pairs())
    expect(chosen(page)).to_contain_text("the method is set to Preference (DPO)")
    accessible(page)
    page.get_by_role("button", name="Next").click()
    step(page, "Validation data")
    page.get_by_role("button", name="Next").click()
    step(page, "Task parameters")
    expect(page.get_by_role("radio", name=re.compile("^Preference"))).to_be_checked()
    page.get_by_role("radio", name=re.compile("^Supervised")).check()
    page.get_by_label("Suffix").fill("no dots.")
    expect(page.get_by_text("Use 1 to 64 letters")).to_be_visible()
    page.get_by_label("Suffix").fill("kept")
    page.get_by_role("button", name="Next").click()
    step(page, "Review")
    refused = page.locator(".review-row").filter(has=page.get_by_role("alert"))
    expect(refused).to_contain_text("preference pairs", timeout=LONG)
    accessible(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the review scrolls sideways"
    refused.get_by_role("link", name="Change: Training data").click()
    step(page, "Training data")
    # Nothing of it is lost by a browser that was closed.
    page.goto(studio.url + "/")
    page.get_by_role("link", name="Go on where you left").click()
    step(page, "Training data")
    page.goto(studio.url + "/create?step=4")
    expect(page.get_by_label("Suffix")).to_have_value("kept")
    page.get_by_role("button", name="Start over").click()
    page.get_by_role("dialog").get_by_role("button", name="Start over").click()
    step(page, "Base model")
    expect(page.get_by_role("radio", checked=True)).to_have_count(0)


def test_a_link_brings_its_file_into_the_wizard(studio: Any, open_page: OPEN) -> None:
    file = studio.upload("linked.jsonl", rows(12))
    page = open_page(f"/create?training_file={file}", cookie=studio.as_application)
    page.get_by_role("radio", name=re.compile(f"^{MODEL}")).check()
    page.get_by_role("button", name="Next").click()
    step(page, "Training data")
    expect(chosen(page)).to_contain_text("linked.jsonl")
    expect(chosen(page)).to_contain_text("12 rows")
    page.get_by_role("button", name="Next").click()
    step(page, "Validation data")
    page.wait_for_url("**/create?step=3")
    page.go_back()
    step(page, "Training data")
