"""Takes the pictures of docs/studio.md: `make studio-pictures`, from a live service with a job trained for it.

Needs Debian's chromium. Every page is taken light at 1280 px; some also dark at 390 px.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import requests
from installation import EXAMPLES, ROOT, Installation, wait_for
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
OUT = ROOT / "docs" / "studio"
ROWS = 60


class Pictures:
    def __init__(self, service: Installation, browser: Browser) -> None:
        self.service = service
        self.url = f"{service.credentials['AZURE_OPENAI_ENDPOINT']}/studio"
        self._browser = browser
        env = service.credentials
        form = {"way": "user", "name": env["AZURE_CLIENT_ID"], "secret": env["AZURE_CLIENT_SECRET"]}
        answer = requests.post(f"{self.url}/sign-in", data=form, allow_redirects=False, timeout=60)
        self._cookies = [{"name": name, "value": value, "url": self.url} for name, value in answer.cookies.items()]

    def page(self, path: str, *, dark: bool = False, width: int = 1280, signed_in: bool = True) -> Page:
        context = self._browser.new_context(
            viewport={"width": width, "height": 860 if width > 600 else 800},
            color_scheme="dark" if dark else "light",
            locale="en-US",
            reduced_motion="reduce",
        )
        if signed_in:
            context.add_cookies(self._cookies)  # type: ignore[arg-type]
        page = context.new_page()
        page.goto(self.url + path)
        page.get_by_role("heading", level=1).wait_for()
        return page

    def take(self, name: str, path: str, *, small: bool = False, **more: Any) -> None:
        self.shoot(self.page(path, **more), name)
        if small:
            self.shoot(self.page(path, dark=True, width=390, **more), f"{name}-phone")

    @staticmethod
    def shoot(page: Page, name: str) -> None:
        page.wait_for_load_state("networkidle")
        # Charts draw a frame after their data has come.
        page.wait_for_timeout(800)
        # A page that has been scrolled would show its fixed header in the middle of a full picture.
        keep(page, name, full=page.evaluate("scrollY") == 0)
        page.context.close()


def keep(page: Page, name: str, *, full: bool = True) -> None:
    """With 64 colours, which is all that these pages have: a third of the bytes."""
    path = OUT / f"{name}.png"
    page.screenshot(path=path, full_page=full)
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(64).save(path, optimize=True)
    print(f"docs/studio/{name}.png", flush=True)


def prepare(service: Installation) -> dict[str, str]:
    """A checked file, a broken one, a finished job, a deployment: what the pages show."""
    client = service.azure()

    def upload(name: str, content: bytes) -> str:
        return client.files.create(file=(name, content), purpose="fine-tune").id

    def rows(part: str, count: int) -> bytes:
        return b"".join((EXAMPLES / f"bookings.{part}.jsonl").read_bytes().splitlines(keepends=True)[:count])

    training, validation = (
        upload("training_set.jsonl", rows("train", ROWS)),
        upload("validation.jsonl", rows("valid", 12)),
    )
    broken = upload("broken.jsonl", b'{"messages": [{"role": "user"}]}\n{"prompt": 1}\nnot json\n' * 4)
    job = client.fine_tuning.jobs.create(
        model="gpt-35-turbo-0613",
        training_file=training,
        validation_file=validation,
        suffix="bookings",
        hyperparameters={"n_epochs": 3, "batch_size": 8},
    )
    wait_for("the job", lambda: client.fine_tuning.jobs.retrieve(job.id).status in ("succeeded", "failed"), 600)
    model = client.fine_tuning.jobs.retrieve(job.id).fine_tuned_model
    assert model is not None
    body = {
        "sku": {"name": "Standard", "capacity": 10},
        "properties": {"model": {"format": "OpenAI", "name": model, "version": "1"}},
    }
    assert service.arm("PUT", "/deployments/bookings", body).status_code in (200, 201)

    def deployed() -> bool:
        state = service.arm("GET", "/deployments/bookings").json()["properties"]["provisioningState"]
        return str(state) == "Succeeded"

    wait_for("the deployment", deployed, 120)
    return {"training": training, "broken": broken, "job": job.id}


def main() -> int:
    chromium = shutil.which("chromium")
    if chromium is None:
        print("no chromium on this machine (Debian: apt-get install chromium)", file=sys.stderr)
        return 1
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        service = Installation(Path(folder) / "data")
        service.start()
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        try:
            made = prepare(service)
            pictures = Pictures(service, browser)
            pictures.take("sign-in", "/sign-in", signed_in=False)
            pictures.take("home", "/", small=True)
            pictures.take("files", "/files")
            pictures.take("file", f"/files/{made['training']}")
            pictures.take("broken-file", f"/files/{made['broken']}")
            wizard(pictures)
            pictures.take("jobs", "/jobs")
            pictures.take("job", f"/jobs/{made['job']}", small=True)
            pictures.take("deployments", "/deployments")
            pictures.take("deployment", "/deployments/bookings")
            playground(pictures)
            pictures.take("access", "/access")
            pictures.take("usage", "/usage")
        finally:
            browser.close()
            service.stop()
    return 0


def wizard(pictures: Pictures) -> None:
    """The six steps, each as it looks when its turn has come."""
    page = pictures.page("/create?step=1")
    page.locator("input[value='gpt-35-turbo-0613']").check()
    for number, file in ((1, ""), (2, "training_set.jsonl"), (3, "validation.jsonl"), (4, ""), (5, "")):
        if file:
            page.get_by_text("Existing file", exact=True).click()
            page.get_by_text(file).first.click()
            page.get_by_text(f"Chosen: {file}").wait_for()
        if number == 5:
            page.get_by_text("Tokens to train").wait_for(timeout=240_000)
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(500)
        keep(page, f"wizard-{number}")
        if number < 5:
            page.get_by_role("button", name="Next").click()
            page.get_by_text(re.compile(rf"^{number + 1}$")).first.wait_for()
    page.get_by_role("button", name="Start training job").click()
    page.wait_for_url(re.compile("/jobs/ftjob-"))
    page.get_by_text(re.compile(r"step \d+ of \d+")).first.wait_for(timeout=240_000)
    page.wait_for_timeout(4000)
    pictures.shoot(page, "wizard-6-started")


def playground(pictures: Pictures) -> None:
    """A question asked of the tuned model and of its base, side by side."""
    for name, dark, width in (("playground", False, 1280), ("playground-phone", True, 390)):
        page = pictures.page("/playground?deployment=bookings", dark=dark, width=width)
        page.get_by_label("Message", exact=True).fill("free seats for weaving, friday ?")
        page.keyboard.press("Enter")
        page.get_by_text("tokens/s").nth(1).wait_for(timeout=60_000)
        pictures.shoot(page, name)


if __name__ == "__main__":
    sys.exit(main())
