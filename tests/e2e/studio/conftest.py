"""Debian's chromium against a live `tailorbird up`: one service and one browser for all tests, a fresh context each.

Playwright's synchronous interface keeps an event loop running in its thread, which asyncio tests do not survive; so
these tests have a run of their own in `make test`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from installation import ROOT, Installation, wait_for
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
AXE = next(ROOT.glob(".venvs/axe-core-*/node_modules/axe-core/axe.min.js"), None)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
# Two busy cores can hold a page up for long; a test that fails is worth the wait.
PATIENCE = 30_000
COOKIE = "tailorbird_studio"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    if CHROMIUM is None:
        skip = pytest.mark.skip(reason="no chromium on this machine (Debian: apt-get install chromium)")
        for item in items:
            if here in item.path.parents:
                item.add_marker(skip)


@dataclass
class Studio:
    installation: Installation
    browser: Browser
    sessions: dict[tuple[str, ...], str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"{self.credentials['AZURE_OPENAI_ENDPOINT']}/studio"

    @property
    def credentials(self) -> dict[str, str]:
        return self.installation.credentials

    @property
    def api_key(self) -> str:
        return self.credentials["AZURE_OPENAI_API_KEY"]

    def api(self, method: str, path: str, **more: Any) -> Any:
        """The data plane with the account's key, `/files`; raises for a refusal."""
        url = f"{self.credentials['AZURE_OPENAI_ENDPOINT']}/openai/v1{path}"
        answer = requests.request(method, url, headers={"api-key": self.api_key}, timeout=60, **more)
        assert answer.status_code < 300, answer.text
        return answer.json()

    def upload(self, name: str, content: bytes) -> str:
        sent = self.api("POST", "/files", files={"file": (name, content)}, data={"purpose": "fine-tune"})
        return str(sent["id"])

    def session(self, **form: str) -> str:
        """A session's cookie, got as the form gets it; the same for the same credentials."""
        known = tuple(sorted(f"{name}={value}" for name, value in form.items()))
        if known not in self.sessions:
            answer = requests.post(f"{self.url}/sign-in", data=form, allow_redirects=False, timeout=60)
            assert answer.status_code == 303, answer.text
            assert COOKIE in answer.cookies, answer.headers["location"]
            self.sessions[known] = str(answer.cookies[COOKIE])
        return self.sessions[known]

    def person(self, name: str, role: str | None = None) -> str:
        """A new user's password; with a role on the subscription."""
        password = "a password for tests"
        self._access("users", "add", name, "--password", password)
        if role is not None:
            self._access("roles", "add", name, role)
        return password

    def _access(self, *words: str) -> None:
        command = [sys.executable, "-m", "tailorbird.cli.main", "access", *words]
        subprocess.run([*command, "--data-dir", str(self.installation.folder)], check=True, capture_output=True)

    @property
    def as_application(self) -> str:
        """The first application: owner of everything, and trainer."""
        env = self.credentials
        return self.session(way="user", name=env["AZURE_CLIENT_ID"], secret=env["AZURE_CLIENT_SECRET"])


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield launched
        finally:
            launched.close()


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[Studio]:
    one = Installation(
        tmp_path_factory.mktemp("up") / "data",
        TAILORBIRD_IMPORT_PRIVATE="true",
        TAILORBIRD_WORKER_JOBS="2",
        # The estimate's measurement would take a minute of the two cores from the jobs that are watched.
        TAILORBIRD_CALIBRATE="false",
    )
    one.start()
    yield Studio(one, browser)
    if one.process is not None and one.process.poll() is None:
        one.kill()


@pytest.fixture(autouse=True)
def empty_account(studio: Studio) -> None:
    """No test finds another's files, jobs and deployments, nor those of its own first try."""
    here = studio.installation

    def deployments() -> list[str]:
        return [one["name"] for one in here.arm("GET", "/deployments").json()["value"]]

    for name in deployments():
        here.arm("DELETE", f"/deployments/{name}")
    wait_for("the deployments' end", lambda: not deployments(), 60)
    ended = ("succeeded", "failed", "canceled", "cancelled")

    def jobs() -> list[dict[str, Any]]:
        return studio.api("GET", "/fine_tuning/jobs", params={"limit": 100})["data"]

    for job in jobs():
        if job["status"] not in ended:
            studio.api("POST", f"/fine_tuning/jobs/{job['id']}/cancel")
    wait_for("the jobs of the test before", lambda: all(job["status"] in ended for job in jobs()), 120)
    dated = f"{studio.credentials['AZURE_OPENAI_ENDPOINT']}/openai/fine_tuning/jobs"
    for job in jobs():
        where, version = f"{dated}/{job['id']}", {"api-version": "2024-10-21"}
        requests.delete(where, params=version, headers={"api-key": studio.api_key}, timeout=60).raise_for_status()
    for file in studio.api("GET", "/files", params={"limit": 1000})["data"]:
        studio.api("DELETE", f"/files/{file['id']}")


@dataclass
class Watched:
    """What went wrong in a page without being asked: script errors and refused resources."""

    troubles: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        def console(message: ConsoleMessage) -> None:
            if message.type == "error":
                self.troubles.append(f"{message.text} ({message.location.get('url', '')})")

        page.on("console", console)
        page.on("pageerror", lambda error: self.troubles.append(str(error)))


@pytest.fixture
def open_page(studio: Studio) -> Iterator[Callable[..., Page]]:
    """`open_page("/files", cookie=…, dark=True, width=390, language="ja")`: a page in a context of its own.

    At the end of the test no page may have had an error in its console."""
    contexts: list[BrowserContext] = []
    watched = Watched()

    def make(
        path: str = "/",
        *,
        cookie: str | None = None,
        dark: bool = False,
        width: int = 1280,
        language: str = "en-US",
        strict: bool = True,
    ) -> Page:
        context = studio.browser.new_context(
            viewport={"width": width, "height": 900},
            locale=language,
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
        )
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        if cookie is not None:
            context.add_cookies([{"name": COOKIE, "value": cookie, "url": studio.url}])
        page = context.new_page()
        if strict:
            watched.watch(page)
        page.goto(studio.url + path)
        return page

    expect.set_options(timeout=PATIENCE)
    yield make
    for context in contexts:
        context.close()
    assert not watched.troubles


@pytest.fixture
def page(studio: Studio, open_page: Callable[..., Page]) -> Page:
    """Home, signed in as the first application, 1280 px wide, light."""
    return open_page("/", cookie=studio.as_application)


def serious(page: Page) -> list[str]:
    """What axe-core finds serious or critical on the page as it is now."""
    assert AXE is not None, "axe-core is not installed: make clients"
    page.add_script_tag(path=AXE)
    found = page.evaluate("async () => (await axe.run(document, {resultTypes: ['violations']})).violations")
    return [
        f"{one['id']}: {one['help']}: {node['html'][:160]} {node.get('failureSummary', '')[:200]}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


@pytest.fixture
def accessible() -> Callable[[Page], None]:
    def check(page: Page) -> None:
        found = serious(page)
        assert not found, "\n".join(found)

    return check
