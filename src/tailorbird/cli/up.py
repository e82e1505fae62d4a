"""Everything on one machine: binds the ports, writes the credentials, starts engine and worker, keeps them running."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
import os
import shlex
import signal
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

from tailorbird import wiring
from tailorbird.api.app import Addresses, create_app
from tailorbird.api.listen import App, bind, listen
from tailorbird.infra.certificates import ensure_certificates
from tailorbird.settings import Settings, as_environment

log = logging.getLogger(__name__)

API_VERSION = "2024-10-21"
_ENGINE_START_SECONDS = 120.0
_STOP_SECONDS = 8.0
# A child that dies at once is started again after this long, doubled each time up to the limit.
_RESTART_SECONDS = 0.5
_RESTART_LIMIT_SECONDS = 30.0


class UpFailed(Exception):
    """A part did not start; the text says which and where its output is."""


class Front:
    """The server: sockets bound at construction, so that port 0 has become a number before anything needs it."""

    def __init__(self, settings: Settings) -> None:
        self._plain = bind(settings.host, settings.port)
        try:
            self._secure = bind(settings.host, settings.arm_port)
        except OSError:
            self._plain.close()
            raise
        host = settings.host if settings.host not in ("0.0.0.0", "::") else settings.public_host
        shown = f"[{host}]" if ":" in host else host
        self.addresses = Addresses(
            data_plane=f"http://{shown}:{self._plain.getsockname()[1]}",
            control_plane=f"https://{settings.public_host}:{self._secure.getsockname()[1]}",
        )
        wiring.migrate_database(settings)
        self._certificates = ensure_certificates(settings.folder / "tls", settings.public_host)
        self.credentials = settings.folder / "credentials.env"
        self._write_credentials(settings)

    async def serve(self, settings: Settings, stop: asyncio.Event) -> None:
        app = create_app(wiring.build_services(settings, self.addresses))
        certificates = self._certificates
        async with self._with_studio(app, settings) as door:
            announce = functools.partial(self._announce, settings)
            await listen(door, self._plain, self._secure, certificates.cert, certificates.key, stop, announce)

    @contextlib.asynccontextmanager
    async def _with_studio(self, app: App, settings: Settings) -> AsyncGenerator[App]:
        if not settings.studio:
            yield app
            return
        # Half a second and 40 MB that a server without the Studio does not need.
        from tailorbird.studio.app import Studio

        host, port = self._plain.getsockname()[:2]
        reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, str(host))
        base = f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"
        studio = Studio(base, settings.folder / "studio")
        async with studio.running():
            yield studio.beside(app)

    def _announce(self, settings: Settings) -> None:
        arm, plain = self.addresses.control_plane, self.addresses.data_plane
        studio = f" studio={plain}/studio/" if settings.studio else ""
        print(f"ready endpoint={plain} arm={arm}{studio} credentials={self.credentials}", flush=True)

    def _write_credentials(self, settings: Settings) -> None:
        access = wiring.build_access(settings)
        found = access.first_run()
        secret = found.client_secret or _read_env(self.credentials).get("AZURE_CLIENT_SECRET")
        values = {
            "AZURE_OPENAI_ENDPOINT": self.addresses.data_plane,
            "AZURE_OPENAI_API_KEY": found.account.key1,
            "OPENAI_API_VERSION": API_VERSION,
            "AZURE_SUBSCRIPTION_ID": found.account.subscription_id,
            "AZURE_RESOURCE_GROUP": found.account.resource_group,
            "AZURE_OPENAI_RESOURCE": found.account.name,
            "AZURE_TENANT_ID": found.tenant_id,
            "AZURE_CLIENT_ID": found.client_id,
            # The database keeps only a digest; when the file is lost a new secret takes the old one's place.
            "AZURE_CLIENT_SECRET": secret or access.users.reset_secret(found.client_id),
            "AZURE_AUTHORITY_HOST": self.addresses.control_plane,
            "ARM_ENDPOINT": self.addresses.control_plane,
            "REQUESTS_CA_BUNDLE": str(self._certificates.bundle),
        }
        text = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items())
        draft = self.credentials.with_suffix(".part")
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            out.write(text)
        draft.replace(self.credentials)


class Up:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._children: dict[str, asyncio.subprocess.Process] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Returns when `stop` is set and all it started has ended. Raises UpFailed, OSError (a port is taken)."""
        front = Front(self._settings)
        keepers: list[asyncio.Task[None]] = []
        try:
            commands: dict[str, list[str]] = {}
            urls = dict(self._settings.engines)
            bases = {entry.base for entry in wiring.build_catalogue(self._settings).entries}
            for base in sorted(bases - set(urls)):
                urls[base] = await self._start_engine(base, commands)
            engine_urls = ",".join(f"{base}={url}" for base, url in urls.items())
            settings = dataclasses.replace(self._settings, engine_urls=engine_urls)
            commands["worker"] = [
                sys.executable,
                "-m",
                "tailorbird.cli.main",
                "worker",
                f"--exit-with-parent={os.getpid()}",
            ]
            await self._start("worker", commands["worker"], settings)
            keepers = [asyncio.create_task(self._keep(name, commands[name], settings, stop)) for name in commands]
            await front.serve(settings, stop)
        finally:
            stop.set()
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)
            await self._stop_children()

    async def _start_engine(self, base: str, commands: dict[str, list[str]]) -> str:
        row = wiring.build_catalogue(self._settings).base(base)
        port_file = self._settings.folder / f"engine-{base}.port"
        port_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "tailorbird.serving", "--base", row.folder, "--served-name", base]
        command += ["--host", "127.0.0.1", "--dtype", self._settings.engine_dtype, "--threads"]
        command += [str(self._settings.engine_threads), "--max-batch", str(self._settings.engine_max_batch)]
        command += ["--port-file", str(port_file), "--exit-with-parent", str(os.getpid())]
        command += ["--log-level", self._settings.log_level]
        name = f"engine-{base}"
        child = await self._start(name, [*command, "--port", "0"], self._settings)
        waited = 0.0
        while not (port_file.exists() and port_file.read_text().strip()):
            if child.returncode is not None or waited > _ENGINE_START_SECONDS:
                raise UpFailed(f"the engine of {base!r} ({row.folder}) did not start; see {self._log(name)}")
            await asyncio.sleep(0.05)
            waited += 0.05
        port = port_file.read_text().strip()
        # Started again, it must be where everybody looks for it.
        commands[name] = [*command, "--port", port]
        return f"http://127.0.0.1:{port}"

    async def _start(self, name: str, command: list[str], settings: Settings) -> asyncio.subprocess.Process:
        environment = {**os.environ, **as_environment(settings)}
        with self._log(name).open("ab") as out:
            self._children[name] = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=environment,
                # Ctrl-C reaches `up` alone, which then stops the others in order.
                start_new_session=True,
            )
        return self._children[name]

    async def _keep(self, name: str, command: list[str], settings: Settings, stop: asyncio.Event) -> None:
        """Starts the child again whenever it ends before everything does."""
        pause = _RESTART_SECONDS
        loop = asyncio.get_running_loop()
        while not stop.is_set():
            began = loop.time()
            code = await self._children[name].wait()
            if stop.is_set():
                return
            log.error("a process ended and is started again", extra={"part": name, "exit_code": code})
            if loop.time() - began > _RESTART_LIMIT_SECONDS:
                pause = _RESTART_SECONDS
            await asyncio.sleep(pause)
            pause = min(pause * 2, _RESTART_LIMIT_SECONDS)
            await self._start(name, command, settings)

    async def _stop_children(self) -> None:
        alive = [child for child in self._children.values() if child.returncode is None]
        for child in alive:
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(signal.SIGTERM)
        if alive:
            await asyncio.wait([asyncio.create_task(child.wait()) for child in alive], timeout=_STOP_SECONDS)
        for child in alive:
            if child.returncode is None:
                child.kill()
                await child.wait()

    def _log(self, name: str) -> Path:
        return self._settings.folder / f"{name}.log"


def _read_env(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    words = (line.removeprefix("export ").split("=", 1) for line in path.read_text().splitlines() if "=" in line)
    return {name: "".join(shlex.split(value)) for name, value in words}
