"""`tailorbird usage`, `budget` and `jobs estimate` against a server of ours that answers what it is told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from typer.testing import CliRunner, Result

from tailorbird.cli.main import app

BUDGET = {
    "amount": "20.00", "currency": "USD", "period": "month", "start": "2026-11-01T00:00:00+00:00",
    "end": "2026-12-01T00:00:00+00:00", "spent": "17.00", "reached": 80, "actions": ["stop_jobs"],
}  # fmt: skip
USAGE = {
    "start": "2026-11-01T00:00:00+00:00", "end": "2026-11-21T00:00:00+00:00", "currency": "USD", "total": "17.00",
    "data": [{"day": "2026-11-02", "meter": "training_hours", "quantity": "0.500", "unit_price": "34.00",
              "amount": "17.00"}],
    "budgets": [{"account": "local", **BUDGET}],
}  # fmt: skip
ESTIMATE = {
    "trained_tokens": 12_345, "tokens_are_exact": True, "steps": 60, "measured_runs": 3, "times_from": "jobs",
    "hyperparameters": {"n_epochs": 2, "batch_size": 8},
    "total_seconds": {"low": 60.0, "likely": 90.4, "high": 7300.0},
    "price": {"amount": "25.50", "low": "25.50", "high": "229.50", "currency": "USD"},
}  # fmt: skip


@dataclass
class Server:
    url: str
    answers: dict[str, Any] = field(default_factory=dict[str, Any])
    asked: list[tuple[str, str, dict[str, str], dict[str, list[str]], Any]] = field(default_factory=list[Any])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            split = urlsplit(self.path)
            raw = self.rfile.read(int(self.headers.get("content-length", 0)))
            body = json.loads(raw) if raw[:1] == b"{" else None
            made.asked.append((self.command, split.path, dict(self.headers), parse_qs(split.query), body))
            found = made.answers[f"{self.command} {split.path}"]
            data = found.encode() if isinstance(found, str) else json.dumps(found).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 - http.server's names

        def log_message(self, format: str, *args: Any) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    made = Server(f"http://127.0.0.1:{httpd.server_port}")
    made.answers["POST /tenant/oauth2/v2.0/token"] = {"access_token": "the-token"}
    for name, value in {
        "AZURE_OPENAI_ENDPOINT": made.url,
        "AZURE_OPENAI_API_KEY": "the-key",
        "AZURE_OPENAI_RESOURCE": "local",
        "AZURE_AUTHORITY_HOST": made.url,
        "AZURE_TENANT_ID": "tenant",
        "AZURE_CLIENT_ID": "client",
        "AZURE_CLIENT_SECRET": "secret",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    yield made
    httpd.shutdown()
    httpd.server_close()
    thread.join(5)


@pytest.fixture
def run() -> Callable[..., Result]:
    def call(*words: str) -> Result:
        result = CliRunner().invoke(app, list(words))
        assert result.exit_code == 0, result.output
        return result

    return call


def test_usage_prints_totals_and_the_budget(server: Server, run: Callable[..., Result]) -> None:
    server.answers["GET /tailorbird/v1/usage"] = USAGE
    text = run("usage", "--start", "2026-11-01").output
    assert "training_hours" in text
    assert "total 17.00 USD" in text
    assert "budget of local: 17.00 of 20.00 USD this month; then: stop jobs (80 % reached)" in text
    _, _, headers, query, _ = server.asked[-1]
    assert headers["api-key"] == "the-key"
    assert (query["start"], query["group_by"], query["format"]) == (["2026-11-01"], ["day"], ["json"])
    assert json.loads(run("usage", "-o", "json").output) == USAGE


def test_usage_as_csv_is_the_servers(server: Server, run: Callable[..., Result]) -> None:
    server.answers["GET /tailorbird/v1/usage"] = "day,meter\n2026-11-02,training_hours\n"
    assert run("usage", "-o", "csv").output == "day,meter\n2026-11-02,training_hours\n"
    assert server.asked[-1][3]["format"] == ["csv"]


def test_all_accounts_are_asked_for_with_a_token(server: Server, run: Callable[..., Result]) -> None:
    server.answers["GET /tailorbird/v1/usage"] = USAGE | {"data": [], "budgets": []}
    run("usage", "--by", "account")
    headers = {name.lower(): value for name, value in server.asked[-1][2].items()}
    assert headers["authorization"] == "Bearer the-token"
    assert not {"api-key", "x-tailorbird-account"} & set(headers)


def test_charges_are_read_page_by_page(server: Server, run: Callable[..., Result]) -> None:
    line = dict.fromkeys(("at", "job", "model", "meter", "quantity", "unit_price", "amount"), "x")
    server.answers["GET /tailorbird/v1/usage/charges"] = {
        "data": [line | {"deployment": None}], "has_more": False, "last_id": "k",
    }  # fmt: skip
    assert len(json.loads(run("usage", "--charges", "-o", "json").output)) == 1
    assert "deployment" in run("usage", "--charges").output
    header, row = run("usage", "--charges", "-o", "csv").output.splitlines()
    assert header == "id,at,account,job,deployment,model,meter,quantity,unit,unit_price,amount,price_list"
    assert row == ",x,,x,,x,x,x,,x,x,"


def test_an_estimate_is_told_in_four_lines(server: Server, run: Callable[..., Result]) -> None:
    server.answers["POST /tailorbird/v1/fine_tuning/jobs/estimate"] = ESTIMATE
    lines = run("jobs", "estimate", "file-1", "--n-epochs", "2").output.splitlines()
    assert lines == [
        "tokens  12,345 in 2 epoch(s)",
        "steps   60 of batch size 8",
        "time    90 s (60 s to 2 h 1 min), from 3 finished job(s)",
        "price   25.50 USD (25.50 to 229.50)",
    ]
    assert server.asked[-1][4] == {
        "model": "gpt-35-turbo-0613", "training_file": "file-1", "hyperparameters": {"n_epochs": 2},
    }  # fmt: skip


def test_a_budget_is_set_shown_and_removed(server: Server, run: Callable[..., Result]) -> None:
    path = "/tailorbird/v1/budget"
    server.answers |= {f"GET {path}": BUDGET, f"PUT {path}": BUDGET, f"DELETE {path}": ""}
    assert "17.00 of 20.00 USD this month" in run("budget", "set", "20.00", "--retire-deployments").output
    _, _, headers, _, body = server.asked[-1]
    assert headers["Authorization" if "Authorization" in headers else "authorization"] == "Bearer the-token"
    assert body == {"amount": "20.00", "period": "month", "actions": ["stop_jobs", "retire_deployments"]}
    assert json.loads(run("budget", "show", "-o", "json").output) == BUDGET
    run("budget", "remove")
    assert server.asked[-1][0] == "DELETE"


def test_findings_are_read_page_by_page_and_told_by_line(server: Server, run: Callable[..., Result]) -> None:
    row = {"file": "training_file", "line": 17, "role": "user", "category": "violence", "severity": "high"}
    path = "/tailorbird/v1/fine_tuning/jobs/ftjob-1/findings"
    server.answers[f"GET {path}"] = {"data": [row], "has_more": False, "last_id": "finding-1"}
    lines = run("jobs", "findings", "ftjob-1").stdout.splitlines()
    assert lines[1].split() == ["training_file", "17", "user", "violence", "high"]
    assert lines[-1] == "1 finding(s)"
    assert json.loads(run("jobs", "findings", "ftjob-1", "-o", "json").stdout) == [row]
