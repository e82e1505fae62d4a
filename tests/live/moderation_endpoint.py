"""A `/moderations` endpoint on a free port that scores as a test tells it to, and waits when it is closed."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Generator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Score = Callable[[list[str]], list[Mapping[str, float]]]


class ModerationEndpoint:
    """`asked` counts questions; while `open` is not set, whoever asks waits."""

    def __init__(self, score: Score) -> None:
        self.asked = 0
        self.open = threading.Event()
        self.open.set()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["input"]
                endpoint.asked += 1
                endpoint.open.wait(120)
                body = json.dumps({"results": [{"category_scores": dict(found)} for found in score(texts)]}).encode()
                with contextlib.suppress(ConnectionError):  # whoever asked was killed meanwhile
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    @contextlib.contextmanager
    def running(self) -> Generator[None]:
        thread = threading.Thread(target=self._server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            self.open.set()
            self._server.shutdown()
            thread.join()
            self._server.server_close()
