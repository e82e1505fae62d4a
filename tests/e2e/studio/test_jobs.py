"""Jobs in the browser: listed and watched without a reload, their curves, their end; what a reader may not do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

OPEN = Callable[..., Page]
TRAINING_PATIENCE = 240_000
ROWS = [
    {"messages": [{"role": "user", "content": f"Say {word}."}, {"role": "assistant", "content": word}]}
    for word in ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
] * 8
LINES = "\n".join(json.dumps(row) for row in ROWS).encode()


@pytest.fixture
def start(studio: Any) -> Iterator[Callable[..., str]]:
    """Starts a job by the API, as a script would; what has not ended with the test is cancelled."""
    started: list[str] = []

    def make(suffix: str, epochs: int) -> str:
        body = {
            "model": "weaver",
            "training_file": studio.upload(f"{suffix}.jsonl", LINES),
            "validation_file": studio.upload(f"{suffix}-valid.jsonl", LINES),
            "suffix": suffix,
            "hyperparameters": {"n_epochs": epochs, "batch_size": 1},
        }
        started.append(studio.api("POST", "/fine_tuning/jobs", json=body)["id"])
        return started[-1]

    yield make
    known = {job["id"]: job["status"] for job in studio.api("GET", "/fine_tuning/jobs")["data"]}
    for job in started:
        if known.get(job) not in (None, "succeeded", "failed", "cancelled"):
            studio.api("POST", f"/fine_tuning/jobs/{job}/cancel")


def points(page: Page) -> int:
    """How many steps the first chart shows."""
    return page.evaluate(
        "getElement(+document.querySelector('.plot-area').id.slice(1)).chart.getOption().series[0].data.length"
    )


def test_a_job_is_listed_watched_and_ended_without_a_reload(
    studio: Any, open_page: OPEN, start: Callable[..., str], accessible: Callable[[Page], None]
) -> None:
    page = open_page("/jobs", cookie=studio.as_application)
    expect(page.get_by_role("heading", name="Jobs and models", level=1)).to_be_visible()
    job = start("watched", 50)
    page.get_by_role("link", name="watched", exact=True).click()
    expect(page.get_by_role("heading", name="watched", level=1)).to_be_visible()
    expect(page.get_by_text(job, exact=True)).to_be_visible()

    expect(page.locator(".plot-area svg").first).to_be_visible(timeout=TRAINING_PATIENCE)
    known = points(page)
    first = page.locator(".plot-area").first
    said = first.get_attribute("aria-label") or ""
    assert "Training loss" in said
    expect(first).not_to_have_attribute("aria-label", said, timeout=TRAINING_PATIENCE)
    assert points(page) > known
    expect(page.locator(".feed")).to_contain_text("Step 10: training loss=")

    page.get_by_role("button", name="Show the numbers").click()
    expect(page.get_by_role("columnheader", name="Validation accuracy", exact=True)).to_be_visible()
    accessible(page)
    with page.expect_download() as fetched:
        page.get_by_label("Download watched.jsonl").click()
    assert fetched.value.path().read_bytes() == LINES

    page.get_by_role("button", name="Cancel the job").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the job").click()
    expect(page.get_by_text("The job was cancelled.")).to_be_visible(timeout=TRAINING_PATIENCE)
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.wait_for_url("**/studio/jobs")
    expect(page.get_by_role("link", name="watched", exact=True)).to_have_count(0)


def test_search_and_filter_outlive_a_reload(studio: Any, open_page: OPEN, start: Callable[..., str]) -> None:
    for suffix in ("aa-apple", "aa-banana"):
        studio.api("POST", f"/fine_tuning/jobs/{start(suffix, 50)}/cancel")
    page = open_page("/jobs", cookie=studio.as_application)
    page.get_by_label("Search by name").fill("appl")
    expect(page.get_by_role("link", name="aa-banana", exact=True)).to_have_count(0)
    expect(page.get_by_role("link", name="aa-apple", exact=True)).to_be_visible()
    page.reload()
    expect(page.get_by_label("Search by name")).to_have_value("appl")
    expect(page.get_by_role("link", name="aa-apple", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="aa-banana", exact=True)).to_have_count(0)
    page.get_by_label("Search by name").fill("")
    page.get_by_role("columnheader", name="Job").get_by_role("button").click()
    names = page.locator("tbody th a")
    expect(names.first).to_have_text("aa-apple")
    expect(page.get_by_role("columnheader", name="Job")).to_have_attribute("aria-sort", "ascending")
    page.get_by_role("columnheader", name="Created").get_by_role("button").click()
    expect(names.first).to_have_text("aa-banana")


def test_a_job_that_is_not_there_is_said_to_be_missing(studio: Any, open_page: OPEN) -> None:
    page = open_page("/jobs/ftjob-unknown", cookie=studio.as_application)
    expect(page.get_by_role("alert")).to_contain_text("ftjob-unknown")
