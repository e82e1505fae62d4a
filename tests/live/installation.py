"""A real `tailorbird up` on a folder, with nothing replaced; e2e and wire tests talk to it."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import psutil
import requests

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


class Installation:
    """`tailorbird up` over one data folder; it can be killed and started again."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith(("TAILORBIRD_", "AZURE_"))}
        self._environment |= {"PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": "1", **settings}
        self.process: subprocess.Popen[str] | None = None
        self.credentials: dict[str, str] = {}
        self._clients: list[openai.AzureOpenAI] = []

    def start(self, port: str = "0") -> None:
        """`port` is the data plane's; 0 picks a free one."""
        command = [sys.executable, "-m", "tailorbird.cli.main", "up", "--data-dir", str(self.folder)]
        with (self.folder.parent / f"{self.folder.name}.up.log").open("a") as log:
            self.process = subprocess.Popen(
                [*command, "--port", port, "--arm-port", "0"],
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("ready endpoint=http://127.0.0.1:"), (line, self.log())
        self.credentials = {}
        for text in (self.folder / "credentials.env").read_text().splitlines():
            name, value = text.removeprefix("export ").split("=", 1)
            self.credentials[name] = shlex.split(value)[0]

    def log(self) -> str:
        return (self.folder.parent / f"{self.folder.name}.up.log").read_text()[-3000:]

    def family(self) -> list[psutil.Process]:
        """`up` and everything below it."""
        assert self.process is not None
        top = psutil.Process(self.process.pid)
        return [top, *top.children(recursive=True)]

    def part(self, word: str) -> psutil.Process | None:
        """The process whose command line holds this word."""
        return self.part_with(word, "")

    def part_with(self, word: str, piece: str) -> psutil.Process | None:
        """The process whose command line holds this word, and somewhere in it this piece."""
        for process in self.family():
            try:
                command = process.cmdline()
            except psutil.NoSuchProcess:
                continue
            if word in command and piece in " ".join(command):
                return process
        return None

    def stop(self) -> float:
        """SIGTERM; answers the seconds until everything was gone."""
        assert self.process is not None
        family = self.family()
        self._hang_up()
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=20)
        alive = _gone(family, 5)
        assert not alive, f"still running: {alive}"
        return time.monotonic() - began

    def kill(self) -> None:
        assert self.process is not None
        family = self.family()
        self._hang_up()
        self.process.kill()
        self.process.communicate(timeout=20)
        alive = _gone(family, 10)
        assert not alive, f"outlived their parent: {alive}"

    def azure(self) -> openai.AzureOpenAI:
        client = openai.AzureOpenAI(
            azure_endpoint=self.credentials["AZURE_OPENAI_ENDPOINT"],
            api_key=self.credentials["AZURE_OPENAI_API_KEY"],
            api_version="2024-10-21",
        )
        self._clients.append(client)
        return client

    def _hang_up(self) -> None:
        """Closes the clients: one left to the garbage collector would fail whatever test it comes round in."""
        while self._clients:
            self._clients.pop().close()

    def token(self, scope: str) -> str:
        """A new token of the first service principal."""
        env = self.credentials
        answer = requests.post(
            f"{env['AZURE_AUTHORITY_HOST']}/{env['AZURE_TENANT_ID']}/oauth2/v2.0/token",
            data={
                "grant_type": "client_credentials",
                "client_id": env["AZURE_CLIENT_ID"],
                "client_secret": env["AZURE_CLIENT_SECRET"],
                "scope": scope,
            },
            verify=env["REQUESTS_CA_BUNDLE"],
            timeout=30,
        )
        return str(answer.json()["access_token"])

    def arm(self, method: str, path: str, body: Any = None, version: str = "2023-05-01") -> requests.Response:
        """A control-plane call below the first account's resource id, with a token of the service principal."""
        account = f"{self.accounts}/{self.credentials['AZURE_OPENAI_RESOURCE']}"
        return self.manage(method, account + path, body, version)

    @property
    def accounts(self) -> str:
        """The path of the first account's neighbours."""
        env = self.credentials
        return (
            f"/subscriptions/{env['AZURE_SUBSCRIPTION_ID']}/resourceGroups/{env['AZURE_RESOURCE_GROUP']}"
            "/providers/Microsoft.CognitiveServices/accounts"
        )

    def manage(self, method: str, path: str, body: Any = None, version: str = "2023-05-01") -> requests.Response:
        """The same for a path from the root."""
        return requests.request(
            method,
            self.credentials["ARM_ENDPOINT"] + path,
            params={"api-version": version},
            headers={"Authorization": f"Bearer {self.token('https://management.azure.com/.default')}"},
            json=body,
            verify=self.credentials["REQUESTS_CA_BUNDLE"],
            timeout=60,
        )


def _gone(family: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Those still alive after `seconds`; a dead one that nobody has reaped yet counts as gone."""
    _, left = psutil.wait_procs(family, timeout=seconds)
    return [process for process in left if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def wait_for(what: str, check: Callable[[], bool], seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < until, f"waited {seconds} s for {what}"
        time.sleep(0.05)


def small_rows(count: int) -> bytes:
    """The first rows of the example data."""
    return b"\n".join((EXAMPLES / "bookings.train.jsonl").read_bytes().split(b"\n")[:count])
