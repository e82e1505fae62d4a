"""Azure's blob emulator as a process of its own, and a wire to it that can be cut in the middle of an answer."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from client_runs import ROOT
from installation import wait_for

VERSION = "3.35.0"
ACCOUNT = "devstoreaccount1"
# The emulator's own key, which is printed in its documentation and opens nothing else.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@contextmanager
def azurite(folder: Path) -> Generator[str]:
    """Its connection string, while it runs."""
    main = ROOT / ".venvs" / f"azurite-{VERSION}" / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    assert main.exists(), f"azurite {VERSION} is not installed: `make clients-all` installs it"
    port = _free_port()
    place = ("--location", str(folder), "--blobHost", "127.0.0.1", "--blobPort", str(port))
    process = subprocess.Popen(
        ["node", str(main), *place, "--silent", "--disableTelemetry", "--skipApiVersionCheck"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for("azurite", lambda: _listens(port), 60)
        endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
        yield f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={endpoint};"
    finally:
        process.terminate()
        process.wait(20)


class CutWire:
    """Passes bytes on to an address; breaks off the first answer after so many bytes, and no other.

    `ranges` are the Range headers of the requests, in their order.
    """

    def __init__(self, url: str, after: int) -> None:
        self._target = urlsplit(url)
        self._after = after
        self._cut = False
        self.ranges: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = urlunsplit(self._target._replace(netloc=f"127.0.0.1:{self._listener.getsockname()[1]}"))
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with closing(client), suppress(OSError):
            request = b""
            while b"\r\n\r\n" not in request:
                piece = client.recv(65536)
                if not piece:
                    return
                request += piece
            head = request.split(b"\r\n\r\n", 1)[0].decode()
            lines = [line for line in head.split("\r\n") if not line.lower().startswith(("host:", "connection:"))]
            self.ranges += [line.split(":", 1)[1].strip() for line in lines if line.lower().startswith("range:")]
            lines += [f"Host: {self._target.netloc}", "Connection: close", "", ""]
            self._pass_on(client, "\r\n".join(lines).encode())

    def _pass_on(self, client: socket.socket, request: bytes) -> None:
        host, port = str(self._target.hostname), int(self._target.port or 80)
        with closing(socket.create_connection((host, port))) as server:
            server.sendall(request)
            sent = 0
            while piece := server.recv(65536):
                if not self._cut and sent + len(piece) > self._after:
                    self._cut = True
                    client.sendall(piece[: self._after - sent])
                    return
                client.sendall(piece)
                sent += len(piece)


def _free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as held:
        return int(held.getsockname()[1])


def _listens(port: int) -> bool:
    with suppress(OSError), closing(socket.create_connection(("127.0.0.1", port), 1)):
        return True
    return False
