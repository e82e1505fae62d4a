"""Data files in the browser: uploaded, dropped, imported, looked into, mended, fine-tuned with, deleted."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

OPEN = Callable[..., Page]
TURNS = [
    {"role": "system", "content": "You answer in one word."},
    {"role": "user", "content": "Which colour has the sky?"},
    {"role": "assistant", "content": "Blue."},
]
GOOD = "\n".join(json.dumps({"messages": TURNS}) for _ in range(12)).encode()
BROKEN = GOOD + b'\nnot json\n{"messages": [{"role": "bot", "content": "x"}]}\n' + b"{}\n" * 40


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """Somebody's web server with `remote.jsonl`."""
    (tmp_path / "remote.jsonl").write_bytes(GOOD)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def row(page: Page, name: str) -> Locator:
    return page.get_by_role("row").filter(has=page.get_by_role("link", name=name, exact=True))


def files_page(studio: Any, open_page: OPEN, **options: Any) -> Page:
    page = open_page("/files", cookie=studio.as_application, **options)
    expect(page.get_by_role("heading", name="Data files", level=1)).to_be_visible()
    return page


def test_files_that_are_chosen_are_checked_shown_as_conversations_and_deleted(
    studio: Any, open_page: OPEN, accessible: Callable[[Page], None]
) -> None:
    page = files_page(studio, open_page)
    name = 'two "colours" 予約.jsonl'
    page.locator("input[type=file]").set_input_files(
        [
            {"name": name, "mimeType": "application/jsonl", "buffer": GOOD},
            {"name": "second.jsonl", "mimeType": "application/jsonl", "buffer": GOOD},
        ]
    )
    expect(row(page, "second.jsonl")).to_contain_text("processed")
    expect(row(page, name)).to_contain_text("processed")

    page.get_by_role("link", name=name, exact=True).click()
    expect(page.get_by_role("heading", name=name, level=1)).to_be_visible()
    first = page.get_by_role("article").first
    trained = first.get_by_role("listitem").filter(has_text="Trained")
    expect(trained).to_have_count(1)
    expect(trained).to_contain_text("Blue.")
    expect(trained).to_contain_text("tokens")
    expect(page.get_by_role("article")).to_have_count(5)
    page.get_by_role("button", name="Show more examples").click()
    expect(page.get_by_role("article")).to_have_count(10)
    accessible(page)
    with page.expect_download() as got:
        page.get_by_role("link", name="Download").click()
    # What no file system takes in a name, the browser replaces.
    assert got.value.suggested_filename.endswith("予約.jsonl")
    assert Path(got.value.path()).read_bytes() == GOOD

    page.get_by_role("button", name="Delete").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(name)
    dialog.get_by_role("button", name="Delete").click()
    page.wait_for_url("**/studio/files")
    expect(row(page, "second.jsonl")).to_be_visible()
    expect(row(page, name)).to_have_count(0)


def test_a_broken_file_lists_every_problem_by_line(
    studio: Any, open_page: OPEN, accessible: Callable[[Page], None]
) -> None:
    studio.upload("broken.jsonl", BROKEN)
    page = files_page(studio, open_page, dark=True, width=390)
    expect(row(page, "broken.jsonl")).to_contain_text("error")
    row(page, "broken.jsonl").get_by_role("link", name="See what is wrong").click()
    expect(page.get_by_role("heading", name="Problems: 43")).to_be_visible()
    problems = page.locator("#problems").get_by_role("listitem")
    expect(problems).to_have_count(25)
    expect(problems.nth(0)).to_contain_text("Line 13")
    expect(problems.nth(1)).to_contain_text("messages[0].role")
    expect(problems.nth(1)).to_contain_text("Write system, user, assistant or tool.")
    page.get_by_role("button", name="Show 18 more").click()
    expect(problems).to_have_count(43)
    accessible(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_file_is_fetched_from_a_url_and_refusals_stand_beside_the_field(
    studio: Any, open_page: OPEN, web: str
) -> None:
    page = files_page(studio, open_page)
    address = page.get_by_label("File location (URL)")
    address.fill("ftp://nowhere/x.jsonl")
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.get_by_text("cannot be imported")).to_be_visible()
    page.get_by_label("File name").fill("")
    address.fill(f"{web}/remote.jsonl?sig=secret")
    address.press("Enter")
    expect(row(page, "remote.jsonl")).to_contain_text("processed")
    expect(address).to_have_value("")


def test_a_dropped_file_arrives(studio: Any, open_page: OPEN) -> None:
    page = files_page(studio, open_page)
    dropped = page.evaluate_handle(
        """(text) => { const data = new DataTransfer();
        data.items.add(new File([text], "dropped.jsonl")); return data; }""",
        GOOD.decode(),
    )
    page.locator(".drop").dispatch_event("drop", {"dataTransfer": dropped})
    expect(row(page, "dropped.jsonl")).to_contain_text("processed")


def test_a_file_uploaded_elsewhere_appears_and_search_and_order_outlive_a_reload(studio: Any, open_page: OPEN) -> None:
    page = files_page(studio, open_page)
    studio.upload("elsewhere.jsonl", GOOD)
    studio.upload("another.jsonl", GOOD)
    expect(row(page, "another.jsonl")).to_contain_text("processed")
    expect(row(page, "elsewhere.jsonl")).to_contain_text("processed")
    search = page.get_by_label("Search by name or id")
    search.fill("elsewhere")
    # The heading's row and one other: the service has heard of the search.
    expect(page.get_by_role("row")).to_have_count(2)
    page.reload()
    expect(page.get_by_label("Search by name or id")).to_have_value("elsewhere")
    expect(page.get_by_role("row")).to_have_count(2)
    page.get_by_label("Search by name or id").fill("")
    expect(row(page, "another.jsonl")).to_be_visible()
    row(page, "elsewhere.jsonl").get_by_role("button", name="Fine-tune with elsewhere.jsonl").click()
    # The wizard takes the file over into its draft, and may say so by another address.
    page.wait_for_url(re.compile(r"/studio/create\b"))
