"""What a request pays for being observed: context, log line (written to a file) and figures, in milliseconds.

    python benchmarks/observe/overhead.py [requests]

Two copies of the smallest app, one of them inside `Observed` with the JSON log as `serve` sets it up, asked in turns in
one process; the difference of their medians is the price. An audit entry's price is measured apart: it is paid only by
what changes something.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from starlette.types import ASGIApp, Receive, Scope, Send

from tailorbird.api.metrics import Observed, Requests
from tailorbird.domain.access import Action
from tailorbird.infra.metrics import StoreFigures
from tailorbird.infra.schema import make_engine, migrate
from tailorbird.infra.store import SqlStore
from tailorbird.protocol import logs
from tailorbird.service import acting
from tailorbird.service.audit import record


class Route:
    path = "/files/{file_id}"


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    scope["route"], scope["path_params"] = Route, {"file_id": "file-1"}
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


async def ask(app: ASGIApp) -> float:
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": "/openai/v1/files/file-1",
        "client": ("127.0.0.1", 1),
        "state": {"request_id": "0123456789abcdef0123456789abcdef"},
    }

    async def receive() -> Any:
        raise AssertionError("nobody reads")

    async def send(message: Any) -> None:
        pass

    begin = time.perf_counter()
    await app(scope, receive, send)
    return (time.perf_counter() - begin) * 1000


async def requests(count: int, folder: Path) -> None:
    observed = Observed(answer, Requests(lambda: 0))
    with (folder / "log").open("w") as out, contextlib.redirect_stderr(out):
        logs.set_up("info", acting.facts)
        plain, seen = [], []
        for _ in range(count):
            plain.append(await ask(answer))
            seen.append(await ask(observed))
    logging.getLogger().handlers = []
    lines = (folder / "log").read_text().count("\n")
    assert lines == count, f"{lines} lines for {count} requests"
    price = statistics.median(seen) - statistics.median(plain)
    print(
        f"a request observed: +{price:.3f} ms (median of {count}; p99 {statistics.quantiles(seen, n=100)[98]:.3f} ms)"
    )


def database(count: int, folder: Path) -> None:
    url = f"sqlite:///{folder / 't.db'}"
    migrate(url)
    engine, registry = make_engine(url), CollectorRegistry()
    store = SqlStore(engine)
    with_entry, without = [], []
    for _ in range(count):
        for times, entry in ((without, False), (with_entry, True)):
            begin = time.perf_counter()
            with store.begin() as tx:
                tx.accounts.add_secret(f"s{len(without)}{entry}", "v")
                if entry:
                    record(tx, datetime.now(UTC), Action.DELETE_FILE, "/subscriptions/s/files/file-1")
            times.append((time.perf_counter() - begin) * 1000)
    price = statistics.median(with_entry) - statistics.median(without)
    print(f"an audit entry in its transaction: +{price:.3f} ms (median of {count})")
    StoreFigures(engine, lambda: datetime.now(UTC), registry, oldest=0)
    scrapes: list[float] = []
    for _ in range(20):
        begin = time.perf_counter()
        generate_latest(registry)
        scrapes.append((time.perf_counter() - begin) * 1000)
    print(f"a look at the database for /metrics: {statistics.median(scrapes):.2f} ms, at most every 10 s")
    engine.dispose()


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(requests(count, Path(folder)))
        database(max(count // 10, 50), Path(folder))


if __name__ == "__main__":
    main()
