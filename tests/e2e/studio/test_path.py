"""The whole way in a browser: sign in, upload, six steps, charts, deploy, compare, clean up; and what goes wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from installation import EXAMPLES, wait_for
from playwright.sync_api import Page, expect

OPEN = Callable[..., Page]
# Training on two busy cores.
LONG = 240_000
BASE = "gpt-35-turbo-0613"


def some_rows(part: str, count: int) -> bytes:
    return b"".join((EXAMPLES / f"bookings.{part}.jsonl").read_bytes().splitlines(keepends=True)[:count])


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "way_in.jsonl"
    path.write_bytes(some_rows("train", 16))
    return path


def at(page: Page, heading: str) -> None:
    expect(page.get_by_role("heading", level=1, name=heading)).to_be_visible()


def step(page: Page, name: str) -> None:
    expect(page.get_by_role("heading", level=2, name=name, exact=True)).to_be_visible()


def go(page: Page, name: str) -> None:
    menu = page.get_by_role("button", name="Menu")
    if menu.is_visible():
        menu.click()
    page.get_by_role("navigation", name="Pages").get_by_role("link", name=name).click()


@pytest.mark.parametrize(("dark", "width"), [(False, 1280), (True, 390)], ids=["light-1280", "dark-390"])
def test_the_whole_way_from_signing_in_to_cleaning_up(
    studio: Any, open_page: OPEN, accessible: Callable[[Page], None], rows: Path, dark: bool, width: int
) -> None:
    page = open_page("/sign-in?way=user", dark=dark, width=width)
    page.get_by_label("User name or application id").fill(studio.credentials["AZURE_CLIENT_ID"])
    page.get_by_label("Password or client secret").fill(studio.credentials["AZURE_CLIENT_SECRET"])
    page.get_by_role("button", name="Sign in").click()
    at(page, "Home")

    name = f"way_{width}.jsonl"
    go(page, "Data files")
    at(page, "Data files")
    page.locator("input[type=file]").set_input_files(
        {"name": name, "mimeType": "application/jsonl", "buffer": rows.read_bytes()}
    )
    listed = page.get_by_role("row").filter(has_text=name)
    expect(listed.get_by_text("processed")).to_be_visible(timeout=60_000)

    go(page, "Fine-tune a model")
    job = through_the_wizard(page, name, f"way{width}")
    watch(page, accessible)

    page.get_by_role("button", name="Deploy").last.click()
    deployment = f"way-{width}"
    deploy(page, deployment)
    compare(page, deployment)
    clean_up(studio, page, deployment, job, name)


def through_the_wizard(page: Page, file: str, suffix: str) -> str:
    at(page, "Create a custom model")
    step(page, "Base model")
    page.locator(f"input[value='{BASE}']").check()
    page.get_by_role("button", name="Next").click()
    step(page, "Training data")
    page.get_by_text("Existing file", exact=True).click()
    page.get_by_text(file).first.click()
    page.get_by_role("button", name="Next").click()
    step(page, "Validation data")
    page.get_by_role("button", name="Next").click()
    step(page, "Task parameters")
    page.get_by_text("Custom", exact=True).click()
    page.get_by_label("Epochs").fill("2")
    page.get_by_label("Suffix").fill(suffix)
    # Going back and a reload lose nothing.
    page.get_by_role("button", name="Back").click()
    step(page, "Validation data")
    page.reload()
    step(page, "Validation data")
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_label("Suffix")).to_have_value(suffix)
    page.get_by_role("button", name="Next").click()
    step(page, "Review")
    expect(page.get_by_text("Tokens to train")).to_be_visible(timeout=LONG)
    page.get_by_role("button", name="Start training job").click()
    page.wait_for_url(re.compile(r"/studio/jobs/ftjob-"))
    return page.url.rsplit("/", 1)[1]


def watch(page: Page, accessible: Callable[[Page], None]) -> None:
    """The job page follows its job to the end without being touched."""
    expect(page.get_by_text("The model is ready.")).to_be_visible(timeout=LONG)
    accessible(page)
    expect(page.get_by_text("Checkpoints", exact=True)).to_be_visible()
    page.get_by_role("button", name="Show the numbers").first.click()
    expect(page.get_by_role("button", name="Hide the numbers")).to_be_visible()
    expect(page.get_by_role("table").filter(has_text="Training loss").first).to_be_visible()


def deploy(page: Page, name: str) -> None:
    at(page, "Deployments")
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_role("button", name="Create").last.click()
    made = page.get_by_role("row").filter(has_text=name).get_by_text("Succeeded")
    expect(made.or_(page.get_by_role("heading", name=name, level=1)).first).to_be_visible(timeout=60_000)
    expect(page.get_by_text("Succeeded").first).to_be_visible(timeout=60_000)


def compare(page: Page, deployment: str) -> None:
    go(page, "Playground")
    at(page, "Playground")
    page.get_by_label("Ask", exact=True).click()
    page.get_by_role("option", name=deployment).click()
    page.get_by_label("Message", exact=True).fill("free seats for weaving, friday ?")
    page.keyboard.press("Enter")
    expect(page.get_by_text("tokens/s").nth(1)).to_be_visible(timeout=60_000)


def clean_up(studio: Any, page: Page, deployment: str, job: str, file: str) -> None:
    page.goto(f"{studio.url}/deployments/{deployment}")
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.goto(f"{studio.url}/files")
    page.get_by_role("button", name=f"Delete {file}").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("row").filter(has_text=file)).to_have_count(0)
    assert studio.api("GET", f"/fine_tuning/jobs/{job}")["status"] == "succeeded"


def test_a_broken_file_says_what_is_wrong_line_by_line(studio: Any, page: Page) -> None:
    go(page, "Data files")
    lines = [json.dumps({"messages": [{"role": "user", "content": "a"}]}), "{broken", json.dumps({"prompt": 1})] * 4
    page.locator("input[type=file]").set_input_files(
        {"name": "broken.jsonl", "mimeType": "application/jsonl", "buffer": "\n".join(lines).encode()}
    )
    listed = page.get_by_role("row").filter(has_text="broken.jsonl")
    listed.get_by_role("link", name="See what is wrong").click(timeout=60_000)
    at(page, "broken.jsonl")
    expect(page.get_by_role("listitem").filter(has_text="Line 2")).to_contain_text("invalid JSON")
    expect(page.get_by_role("listitem").filter(has_text="Line 12")).to_have_count(2)


def test_a_role_that_may_not_train_sees_everything_and_starts_nothing(studio: Any, open_page: OPEN, rows: Path) -> None:
    studio.upload("seen.jsonl", rows.read_bytes())
    password = studio.person("evert@example.org", "Cognitive Services OpenAI User")
    page = open_page("/files", cookie=studio.session(way="user", name="evert@example.org", secret=password))
    expect(page.get_by_role("row").filter(has_text="seen.jsonl")).to_be_visible()
    expect(page.get_by_text("Needs the role Cognitive Services OpenAI Contributor.").first).to_be_visible()


def test_a_job_page_goes_on_after_the_server_was_killed_and_started_again(
    studio: Any, open_page: OPEN, rows: Path
) -> None:
    file = studio.upload("restart.jsonl", some_rows("train", 48))
    made = studio.api(
        "POST",
        "/fine_tuning/jobs",
        json={"model": BASE, "training_file": file, "hyperparameters": {"n_epochs": 3, "batch_size": 2}},
    )
    page = open_page(f"/jobs/{made['id']}", cookie=studio.as_application, strict=False)
    expect(page.get_by_text(re.compile(r"step \d+ of \d+")).first).to_be_visible(timeout=LONG)
    url = studio.credentials["AZURE_OPENAI_ENDPOINT"]
    port = url.rsplit(":", 1)[1]
    studio.installation.kill()
    studio.installation.start(port)
    assert studio.credentials["AZURE_OPENAI_ENDPOINT"] == url
    expect(page.get_by_text("The model is ready.")).to_be_visible(timeout=LONG)
    wait_for("the job", lambda: studio.api("GET", f"/fine_tuning/jobs/{made['id']}")["status"] == "succeeded", 60)
