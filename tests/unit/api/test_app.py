from __future__ import annotations

import logging

import httpx
import pytest

from tailorbird.api.app import create_app


def test_health_answers_without_a_key(http):
    answer = http.get("/health")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")


def test_health_is_503_without_the_database(world, http, monkeypatch):
    def broken() -> None:
        raise OSError("disk gone at /secret/path")

    monkeypatch.setattr(world.store, "ping", broken)
    answer = http.get("/health")
    assert answer.status_code == 503
    assert "secret" not in answer.text


def test_an_unknown_path_is_the_surface_s_404(call):
    for method, path in (("GET", "/nothing"), ("PUT", "/files"), ("GET", "/completions")):
        answer = call(method, path)
        assert answer.status_code == 404, (method, path, answer.text)
        if call.is_openai:
            error = answer.json()["error"]
            assert error == {
                "message": f"Invalid URL ({method} /v1{path})",
                "type": "invalid_request_error",
                "param": None,
                "code": None,
            }
        else:
            assert answer.json()["error"]["code"] == "404"
            assert answer.json()["error"]["message"] == "Resource not found"


def test_the_dated_surface_needs_an_api_version_and_takes_any(http, account):
    key = {"api-key": account.key1}
    missing = http.get("/openai/files", headers=key)
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "404")
    for version in ("2024-10-21", "2023-05-15", "2025-04-01-preview", "preview", "v1", "latest"):
        assert http.get("/openai/files", headers=key, params={"api-version": version}).status_code == 200
    bad = http.get("/openai/files", headers=key, params={"api-version": "tomorrow"})
    assert (bad.status_code, bad.json()["error"]["param"]) == (400, "api-version")
    assert http.get("/openai/v1/files", headers=key, params={"api-version": "preview"}).status_code == 200


def test_every_answer_carries_its_ids(call):
    for path in ("/files", "/files/file-none", "/nothing"):
        answer = call("GET", path, headers={"x-ms-client-request-id": "mine"})
        assert len(answer.headers["x-request-id"]) == 32
        assert answer.headers["x-request-id"] == answer.headers["apim-request-id"]
        assert answer.headers["x-ms-client-request-id"] == "mine"


def test_double_and_trailing_slashes_and_a_deployment_in_front_change_nothing(http, account):
    key = {"api-key": account.key1}
    for path in (
        "//openai/v1/files",
        "/openai//v1/files/",
        "/openai/v1/deployments/dep/files",
        "/openai/deployments/dep/files?api-version=2024-10-21",
        "/openai/deployments/dep/fine_tuning/jobs?api-version=2024-10-21",
        "/openai/deployments/dep/models?api-version=2024-10-21",
    ):
        answer = http.get(path, headers=key)
        assert answer.status_code == 200, (path, answer.text)
    posted = http.post("/openai/v1/fine_tuning/jobs/", headers=key, json={})
    assert posted.status_code == 400, "no redirect, which would lose the body"


def test_a_failure_of_ours_shows_an_id_and_nothing_else(world, call, monkeypatch, caplog):
    def broken(*args: object, **options: object) -> None:
        raise ZeroDivisionError("/secret/path")

    monkeypatch.setattr(world.services.files, "list", broken)
    with caplog.at_level(logging.ERROR):
        answer = call("GET", "/files")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.headers["x-request-id"] in answer.json()["error"]["message"]
    assert any(record.exc_info and "secret" in str(record.exc_info[1]) for record in caplog.records)


def test_a_huge_json_body_is_refused_on_every_surface(call, monkeypatch):
    monkeypatch.setattr("tailorbird.api.transport.MAX_JSON_BYTES", 1000)
    body = b'{"model": "' + b"x" * 2000 + b'"}'
    declared = call("POST", "/fine_tuning/jobs", content=body)
    streamed = call("POST", "/fine_tuning/jobs", content=iter([body[:900], body[900:]]))
    assert (declared.status_code, streamed.status_code) == (413, 413), streamed.text
    assert call("GET", "/files").status_code == 200, "the connection still works"


def test_the_description_of_the_api_is_served(http):
    paths = http.get("/openapi.json").json()["paths"]
    for path in ("/openai/files", "/openai/v1/fine_tuning/jobs", "/v1/chat/completions"):
        assert path in paths


def test_start_up_finishes_what_was_left(world, account):
    from datetime import UTC, datetime

    from starlette.testclient import TestClient

    from tailorbird.domain.files import File, FileStatus, Purpose

    world.blobs.put("left", [b"{}\n"])
    file = File(
        "file-left" + account.id,
        account.id,
        "l.jsonl",
        Purpose.FINE_TUNE,
        3,
        FileStatus.RUNNING,
        datetime.now(UTC),
        "left",
    )
    with world.store.begin() as tx:
        tx.files.add(file)
    with TestClient(create_app(world.services)) as client:
        assert client.get("/health").status_code == 200
        for _ in range(200):
            if world.services.files.get(account.id, file.id).status is FileStatus.ERROR:
                break
            import time

            time.sleep(0.01)
    assert world.services.files.get(account.id, file.id).status is FileStatus.ERROR


@pytest.mark.parametrize("length", [b"abc", b"-5"])
def test_a_content_length_that_is_no_number_breaks_nothing(world, account, length):
    import socket

    host, port = world.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as wire:
        wire.sendall(b"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: " + length + b"\r\n\r\n")
        assert wire.recv(100).startswith(b"HTTP/1.1 4")
    assert httpx.get(f"{world.url}/health").status_code == 200
