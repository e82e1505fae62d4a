"""What the Studio costs: first load, page changes, and the server's CPU under many open job pages with live charts.

    python benchmarks/studio/pages.py [--pages 50] [--seconds 60]

Starts a service of its own and looks at it with Debian's chromium; then trains a real job on `weaver` and opens its
page so many times, each with a socket of its own. The CPU share is that of the server's process (API and Studio),
without the worker's, the trainer's and the engine's, which run beside it. Needs playwright and chromium.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import socketio
from playwright.sync_api import Browser, BrowserContext, sync_playwright

EXAMPLES = Path(__file__).parents[2] / "examples"
FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-sync"
PAGES = ("/files", "/jobs", "/deployments", "/usage", "/access", "/create", "/playground", "/")
# Clicks a link of the navigation and waits until another page's heading stands there.
CHANGE = """(target) => new Promise((done) => {
  const heading = () => document.querySelector("main h1");
  const before = heading(), begin = performance.now();
  const look = () => {
    if (heading() && heading() !== before) done(performance.now() - begin);
    else if (performance.now() - begin > 20000) done(NaN);
    else requestAnimationFrame(look);
  };
  document.querySelector(`nav a[href$="${target}"]`).click();
  look();
})"""


@dataclass
class Running:
    """A service and who may use it."""

    process: subprocess.Popen[bytes]
    credentials: dict[str, str]

    @property
    def url(self) -> str:
        return self.credentials["AZURE_OPENAI_ENDPOINT"]

    def cpu(self) -> float:
        """Seconds of processor time of the server's process alone."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def api(self, method: str, path: str, **more: Any) -> Any:
        headers = {"api-key": self.credentials["AZURE_OPENAI_API_KEY"]}
        answer = httpx.request(method, f"{self.url}/openai/v1{path}", headers=headers, timeout=60, **more)
        answer.raise_for_status()
        return answer.json()


def start(folder: Path) -> Running:
    environment = {**os.environ, "TAILORBIRD_PORT": "0", "TAILORBIRD_ARM_PORT": "0", "OMP_NUM_THREADS": "1"}
    command = [str(Path(sys.executable).with_name("tailorbird")), "up", "--data-dir", str(folder)]
    log = (folder.parent / "log").open("wb")
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    end = time.monotonic() + 180
    while b"ready endpoint=" not in (folder.parent / "log").read_bytes():
        if process.poll() is not None or time.monotonic() > end:
            raise SystemExit((folder.parent / "log").read_text()[-2000:])
        time.sleep(0.5)
    lines = (folder / "credentials.env").read_text()
    return Running(process, dict(re.findall(r"export (\w+)='?([^'\n]*)", lines)))


def train(service: Running) -> str:
    """A job that takes longer than the measurement; its id, once its first step is told."""

    def upload(name: str) -> str:
        content = (EXAMPLES / name).read_bytes()
        sent = service.api("POST", "/files", files={"file": (name, content)}, data={"purpose": "fine-tune"})
        return str(sent["id"])

    body = {
        "model": "weaver",
        "training_file": upload("bookings.train.jsonl"),
        "validation_file": upload("bookings.valid.jsonl"),
        "suffix": "benchmark",
        "hyperparameters": {"n_epochs": 50, "batch_size": 4},
    }
    job = str(service.api("POST", "/fine_tuning/jobs", json=body)["id"])
    while not any(e["type"] == "metrics" for e in service.api("GET", f"/fine_tuning/jobs/{job}/events")["data"]):
        time.sleep(1)
    return job


def signed_in(service: Running, browser: Browser) -> BrowserContext:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    env = service.credentials
    form = {"way": "user", "name": env["AZURE_CLIENT_ID"], "secret": env["AZURE_CLIENT_SECRET"]}
    answer = httpx.post(f"{service.url}/studio/sign-in", data=form)
    url = f"{service.url}/studio"
    context.add_cookies([{"name": name, "value": value, "url": url} for name, value in answer.cookies.items()])
    return context


def first_load(service: Running, browser: Browser, path: str) -> tuple[float, float]:
    """Seconds until the heading is there, and the megabytes on the wire, of a browser that was never here."""
    context = signed_in(service, browser)
    page = context.new_page()
    wire = context.new_cdp_session(page)
    wire.send("Network.enable")
    received: list[float] = []
    wire.on("Network.loadingFinished", lambda told: received.append(told["encodedDataLength"]))
    begin = time.perf_counter()
    page.goto(f"{service.url}/studio{path}")
    page.locator("main h1").wait_for()
    took = time.perf_counter() - begin
    page.wait_for_load_state("networkidle")
    context.close()
    return took, sum(received) / 1e6


def changes(service: Running, browser: Browser, rounds: int) -> list[float]:
    context = signed_in(service, browser)
    page = context.new_page()
    page.goto(f"{service.url}/studio/")
    page.locator("main h1").wait_for()
    there = [path for path in PAGES if page.locator(f'nav a[href$="{path}"]').count()]
    found = [float(page.evaluate(CHANGE, path)) for _ in range(rounds) for path in there]
    context.close()
    return found[len(there) :]  # the first round fetches what pages are made of


@dataclass
class Watchers:
    """So many open pages of a job, each with its own socket as NiceGUI's own script opens it; nothing is drawn, which
    would be the cost of fifty other machines."""

    service: Running
    job: str
    updates: int = 0
    drawings: int = 0
    sockets: list[socketio.AsyncClient] = field(default_factory=list[socketio.AsyncClient])

    async def open(self, count: int) -> None:
        env = self.service.credentials
        form = {"way": "user", "name": env["AZURE_CLIENT_ID"], "secret": env["AZURE_CLIENT_SECRET"]}
        async with httpx.AsyncClient(base_url=self.service.url, timeout=120) as http:
            await http.post("/studio/sign-in", data=form)
            for _ in range(count):
                text = (await http.get(f"/studio/jobs/{self.job}")).text
                cookies = "; ".join(f"{name}={value}" for name, value in http.cookies.items())
                self.sockets.append(await self._connect(text, cookies))

    async def _connect(self, text: str, cookies: str) -> socketio.AsyncClient:
        told = dict(re.findall(r"['\"](client_id|next_message_id)['\"]: ['\"]?([\w-]+)", text))
        query = {**told, "tab_id": str(uuid.uuid4()), "document_id": str(uuid.uuid4()), "old_tab_id": ""}
        query["implicit_handshake"] = "true"
        socket = socketio.AsyncClient(reconnection=False)
        socket.on("*", self._heard)
        where = f"{self.service.url}?{urlencode(query)}"
        path = "/studio/_nicegui_ws/socket.io"
        await socket.connect(where, headers={"cookie": cookies}, transports=["websocket"], socketio_path=path)
        return socket

    async def _heard(self, event: str, *told: Any) -> None:
        self.updates += 1
        self.drawings += event == "run_javascript" and "studio.plot(" in json.dumps(told)

    async def close(self) -> None:
        for socket in self.sockets:
            await socket.disconnect()


async def share_of_a_core(service: Running, seconds: float) -> float:
    cpu, begin = service.cpu(), time.perf_counter()
    await asyncio.sleep(seconds)
    return (service.cpu() - cpu) / (time.perf_counter() - begin)


def verdict(what: str, value: str, target: str, good: bool) -> None:
    print(f"{what:<58} {value:>12}   target {target:<10} {'ok' if good else 'MISSED'}", flush=True)


def look(service: Running, browser: Browser) -> str:
    """What one browser sees; answers the job that trains now."""
    loads = [first_load(service, browser, "/") for _ in range(3)]
    took, size = statistics.median(load[0] for load in loads), loads[0][1]
    verdict("first load of Home, time (median of 3)", f"{took:.2f} s", "< 1.5 s", took < 1.5)
    verdict("first load of Home, size", f"{size:.2f} MB", "< 1 MB", size < 1)
    between = changes(service, browser, 4)
    middle = statistics.median(between)
    verdict(f"page change, median of {len(between)}", f"{middle:.0f} ms", "< 300 ms", middle < 300)
    job = train(service)
    took, size = first_load(service, browser, f"/jobs/{job}")
    print(f"{'first load of a job page with charts':<58} {took:.2f} s, {size:.2f} MB")
    return job


async def watch(service: Running, job: str, pages: int, seconds: float) -> None:
    watchers = Watchers(service, job)
    await watchers.open(pages)
    await asyncio.sleep(5)  # the pages' first drawing is not what is measured
    watchers.updates = watchers.drawings = 0
    share = await share_of_a_core(service, seconds)
    verdict(f"server's share of a core, {pages} open job pages", f"{100 * share:.1f} %", "< 25 %", share < 0.25)
    print(f"{'messages, and new points for a chart, in a second':<58} ", end="")
    print(f"{watchers.updates / seconds:.1f}, {watchers.drawings / seconds:.1f}")
    await watchers.close()
    await asyncio.sleep(15)  # a page that lost its browser is kept for a while
    print(f"{'the same with no page open':<58} {100 * await share_of_a_core(service, seconds / 2):>10.1f} %")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    asked = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        data.mkdir()
        service = start(data)
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS.split())
                job = look(service, browser)
                browser.close()
            asyncio.run(watch(service, job, asked.pages, asked.seconds))
        finally:
            service.process.send_signal(signal.SIGTERM)
            service.process.wait(60)


if __name__ == "__main__":
    main()
