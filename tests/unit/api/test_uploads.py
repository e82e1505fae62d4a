from __future__ import annotations

import hashlib
import time
from base64 import b64decode

import httpx


def create(call, size: int, **extra: object) -> httpx.Response:
    body = {"filename": "train.jsonl", "purpose": "fine-tune", "bytes": size, "mime_type": "text/jsonl"} | extra
    return call("POST", "/uploads", json=body)


def part(call, upload_id: str, data: bytes) -> httpx.Response:
    return call("POST", f"/uploads/{upload_id}/parts", files={"data": ("upload", data)})


def test_parts_become_a_file_that_is_judged(call, chat_lines, world, account):
    data = chat_lines(12)
    answer = create(call, len(data))
    assert answer.status_code == 200, answer.text
    upload = answer.json()
    assert (upload["object"], upload["status"], upload["bytes"]) == ("upload", "pending", len(data))
    assert upload["expires_at"] == upload["created_at"] + 3600
    assert ("file" in upload) == call.is_openai, "Azure leaves out what has no value"
    assert ("location" in answer.headers) == (call.surface == "azure")
    if call.surface == "azure":
        assert answer.headers["location"] == f"http://data.test/openai/uploads/{upload['id']}"
    parts = [part(call, upload["id"], data[500:]).json(), part(call, upload["id"], data[:500]).json()]
    assert (parts[0]["object"], parts[0]["upload_id"]) == ("upload.part", upload["id"])
    assert type(parts[0]["created_at"]) is int
    if call.is_openai:
        assert "azure_block_id" not in parts[0]
    else:
        assert len(b64decode(parts[0]["azure_block_id"])) == 16
    order = [parts[1]["id"], parts[0]["id"]]
    path = f"/uploads/{upload['id']}/complete"
    done = call("POST", path, json={"part_ids": order, "md5": hashlib.md5(data).hexdigest()})
    assert done.status_code == 200, done.text
    file = done.json()["file"]
    assert (done.json()["status"], file["object"], file["bytes"]) == ("completed", "file", len(data))
    assert call("POST", path, json={"part_ids": order}).json()["file"]["id"] == file["id"]
    deadline = time.monotonic() + 10
    while (found := call("GET", f"/files/{file['id']}").json())["status"] != "processed":
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    assert call("GET", f"/files/{file['id']}/content").content == data
    assert call("GET", f"/uploads/{upload['id']}").json()["file"] == found
    assert len(world.blobs.list(f"accounts/{account.id}")) == 1


def test_an_expiry_is_that_of_the_file(call):
    upload = create(call, 1, purpose="batch", expires_after={"anchor": "created_at", "seconds": 7200}).json()
    body = {"part_ids": [part(call, upload["id"], b"x").json()["id"]]}
    file = call("POST", f"/uploads/{upload['id']}/complete", json=body).json()["file"]
    assert file["expires_at"] == file["created_at"] + 7200


def test_nothing_is_done_to_an_upload_that_has_ended(call, world, account):
    upload = create(call, 3).json()
    one = part(call, upload["id"], b"abc").json()["id"]
    cancelled = call("POST", f"/uploads/{upload['id']}/cancel")
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    assert world.blobs.list(f"accounts/{account.id}") == []
    late = [
        part(call, upload["id"], b"abc"),
        call("POST", f"/uploads/{upload['id']}/complete", json={"part_ids": [one]}),
    ]
    for answer in late:
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == (None if call.is_openai else "unexpectedEntityState")


def test_each_fault_is_named_by_its_field(call):
    upload_id = create(call, 3).json()["id"]
    part_id = part(call, upload_id, b"ab").json()["id"]
    complete = f"/uploads/{upload_id}/complete"
    cases = [
        (create(call, 0), "bytes"),
        (create(call, 1, bytes="1"), "bytes"),
        (create(call, 1, purpose="fine-tune-results"), "purpose"),
        (create(call, 1, filename=""), "filename"),
        (create(call, 1, mime_type=""), "mime_type"),
        (create(call, 1, chunked=True), "chunked"),
        (create(call, 1, expires_after={"anchor": "created_at", "seconds": 1}), "expires_after.seconds"),
        (call("POST", f"/uploads/{upload_id}/parts", files={"file": ("a", b"x")}), "file"),
        (call("POST", f"/uploads/{upload_id}/parts", files={"data": (None, "x")}), "data"),
        (part(call, upload_id, b""), "data"),
        (part(call, upload_id, b"abcd"), "data"),
        (call("POST", complete, json={"part_ids": []}), "part_ids"),
        (call("POST", complete, json={"part_ids": [part_id]}), "part_ids"),
        (call("POST", complete, json={"part_ids": ["part_x"]}), "part_ids[0]"),
        (call("POST", complete, json={"part_ids": [part_id], "md5": "x"}), "md5"),
    ]
    for answer, param in cases:
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["param"] == param, answer.text


def test_an_upload_or_a_part_above_its_limit_is_refused(call, world, account):
    large = create(call, 1_000_001)
    upload_id = create(call, 1_000_000).json()["id"]
    for answer in (large, part(call, upload_id, b"x" * 400_001), part(call, upload_id, b"x" * 900_000)):
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == ("file_too_large" if call.is_openai else "quotaExceeded")
    assert world.blobs.list(f"accounts/{account.id}") == []


def test_another_account_s_upload_does_not_exist(call, world):
    upload_id = create(call, 3).json()["id"]
    stranger = {"api-key": world.new_account().key1}
    path = f"/uploads/{upload_id}"
    answers = [
        call("GET", path, headers=stranger),
        call("POST", f"{path}/parts", files={"data": ("upload", b"abc")}, headers=stranger),
        call("POST", f"{path}/complete", json={"part_ids": ["x"]}, headers=stranger),
        call("POST", f"{path}/cancel", headers=stranger),
    ]
    assert [answer.status_code for answer in answers] == [404] * 4
