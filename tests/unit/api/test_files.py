from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote

import httpx
import pytest


def upload(call, data: bytes, purpose: str = "fine-tune", name: str = "train.jsonl", **extra: str) -> httpx.Response:
    return call("POST", "/files", data={"purpose": purpose, **extra}, files={"file": (name, data)})


def wait(call, file_id: str) -> dict:
    deadline = time.monotonic() + 10
    while (body := call("GET", f"/files/{file_id}").json())["status"] not in ("processed", "error"):
        assert time.monotonic() < deadline, body
        time.sleep(0.02)
    return body


def test_an_upload_is_stored_judged_and_given_back_byte_for_byte(call, chat_lines):
    data = chat_lines(10)
    answer = upload(call, data)
    created = call.surface == "azure"
    assert answer.status_code == (201 if created else 200), answer.text
    body = answer.json()
    assert body["status"] == ("uploaded" if call.is_openai else "pending")
    assert ("location" in answer.headers) == created
    if created:
        assert answer.headers["location"] == f"http://data.test/openai/files/{body['id']}"
    assert ("status_details" in body) == call.is_openai, "Azure leaves out what has no value"
    done = wait(call, body["id"])
    assert (done["status"], done["bytes"], done["filename"]) == ("processed", len(data), "train.jsonl")
    assert call("GET", f"/files/{body['id']}/content").content == data


def test_a_file_with_faults_ends_in_error_and_says_each_line(call):
    lines = [
        b'{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}',
        b"{not json",
        b'{"messages": [{"role": "bot", "content": "q"}, {"role": "assistant", "content": "a"}]}',
        b'{"messages": [{"role": "user", "content": "q"}]}',
        b'{"messages": [{"role": "user", "content": ""}, {"role": "assistant", "content": "a"}]}',
        b'{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 2}]}',
        b'{"messages": [{"role": "user", "content": "\xff"}, {"role": "assistant", "content": "a"}]}',
    ]
    body = wait(call, upload(call, b"\n".join(lines)).json()["id"])
    assert body["status"] == "error"
    details = body["status_details"].split("\n")
    assert [line.split(",")[0].split(":")[0] for line in details] == [f"Line {n}" for n in range(2, 8)]
    assert "UTF-8" in details[-1]


def test_more_than_twenty_problems_are_counted(call):
    body = wait(call, upload(call, b"{\n" * 30).json()["id"])
    lines = body["status_details"].split("\n")
    assert len(lines) == 21
    assert lines[-1] == "… and 10 more problem(s)."


def test_a_byte_order_mark_is_taken(call, chat_lines):
    body = wait(call, upload(call, b"\xef\xbb\xbf" + chat_lines(10)).json()["id"])
    assert body["status"] == "processed"


def error_of(answer: httpx.Response, call, status: int) -> dict:
    """The error, after a check of the surface's shape."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert isinstance(error["message"], str)
    if call.is_openai:
        assert set(error) == {"message", "type", "param", "code"}
    else:
        assert error["code"]
        assert None not in error.values()
    return error


def test_an_upload_above_the_limit_is_refused_and_nothing_stays(call, world, account):
    error = error_of(upload(call, b"x" * 1_200_000), call, 413)
    assert "1000000 bytes" in error["message"] or "MB" in error["message"]
    assert call("GET", "/files").json()["data"] == []
    assert world.blobs.list(f"accounts/{account.id}") == []


def test_a_file_just_above_the_limit_is_refused_although_its_form_could_pass(call, world, account):
    assert upload(call, b"x" * 1_000_001).status_code == 413
    assert world.blobs.list(f"accounts/{account.id}") == []
    assert upload(call, b"x" * 1_000_000).status_code in (200, 201)


def test_a_declared_length_above_the_limit_is_refused_before_the_body_is_sent(world, account, call):
    import socket

    host, port = world.url.removeprefix("http://").split(":")
    query = "?api-version=2024-10-21" if call.surface == "azure" else ""
    from_path = {"azure": "/openai", "azure-v1": "/openai/v1", "azure-project": "/api/projects/p/openai/v1"}
    path = from_path.get(call.surface, "/v1") + "/files" + query
    with socket.create_connection((host, int(port)), timeout=5) as wire:
        wire.sendall(
            f"POST {path} HTTP/1.1\r\nHost: x\r\napi-key: {account.key1}\r\nContent-Length: 629145600\r\n"
            "Expect: 100-continue\r\nContent-Type: multipart/form-data; boundary=b\r\n\r\n".encode()
        )
        answer = wire.recv(65536)
    assert answer.startswith(b"HTTP/1.1 413"), answer


def test_each_fault_of_an_upload_form_names_its_field(call, chat_lines):
    data = chat_lines(10)
    no_purpose = call("POST", "/files", files={"file": ("a.jsonl", data)})
    no_file = call("POST", "/files", data={"purpose": "fine-tune"}, files={"x": (None, "y")})
    cases = {
        "purpose": [no_purpose, upload(call, data, purpose="fine-tune-results")],
        "file": [upload(call, b""), call("POST", "/files", files={"purpose": (None, "fine-tune")})],
        "x": [no_file],
        "expires_after": [upload(call, data, expires_after="soon"), upload(call, data, expires_after="[]")],
        "expires_after.seconds": [
            upload(call, data, **{"expires_after[anchor]": "created_at"}),
            upload(call, data, expires_after='{"anchor": "created_at", "seconds": 3599}'),
            upload(call, data, expires_after='{"anchor": "created_at", "seconds": 2592001}'),
            upload(call, data, **{"expires_after[anchor]": "created_at", "expires_after[seconds]": "1e4"}),
        ],
        "expires_after.anchor": [
            upload(call, data, **{"expires_after.seconds": "86400"}),
            upload(call, data, **{"expires_after.anchor": "last_active_at", "expires_after.seconds": "86400"}),
        ],
        "expires_after[unit]": [upload(call, data, **{"expires_after[unit]": "days"})],
    }
    for param, answers in cases.items():
        for answer in answers:
            error = error_of(answer, call, 400)
            assert error["param"] == param
            assert param in error["message"] or param == "file"
    assert call("GET", "/files").json()["data"] == []


def test_the_allowed_purposes_are_listed_when_one_is_unknown(call, chat_lines):
    message = upload(call, chat_lines(1), purpose="fine_tune").json()["error"]["message"]
    for purpose in ("fine-tune", "evals", "batch", "assistants", "vision", "user_data"):
        assert f"'{purpose}'" in message


@pytest.mark.parametrize("purpose", ["evals", "batch", "assistants", "vision", "user_data"])
def test_trap_12_files_of_every_purpose_end_in_processed(call, purpose):
    body = upload(call, b'{"any": "thing"}\n', purpose=purpose).json()
    assert body["status"] == ("uploaded" if call.is_openai else "pending")
    assert wait(call, body["id"])["status"] == "processed"
    assert [file["id"] for file in call("GET", "/files", params={"purpose": purpose}).json()["data"]] == [body["id"]]


SPELLINGS = {
    "bracketed": {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"},
    "dotted": {"expires_after.anchor": "created_at", "expires_after.seconds": "3600"},
    "json": {"expires_after": '{"anchor": "created_at", "seconds": 3600}'},
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_trap_20_expiry_is_taken_in_every_spelling(call, spelling):
    body = upload(call, b"x", purpose="batch", **SPELLINGS[spelling]).json()
    assert body["expires_at"] == body["created_at"] + 3600
    assert call("GET", f"/files/{body['id']}").json()["expires_at"] == body["expires_at"]


def test_trap_28_moments_are_whole_seconds(call):
    body = upload(call, b"x", purpose="batch", **SPELLINGS["json"]).json()
    assert (type(body["created_at"]), type(body["expires_at"])) == (int, int)


def test_expiry_fields_behind_the_file_count_too(call, world, account):
    form = [
        ("purpose", (None, "batch")),
        ("file", ("a", b"x")),
        ("expires_after[anchor]", (None, "created_at")),
        ("expires_after[seconds]", (None, "3600")),
    ]
    body = call("POST", "/files", files=form).json()
    assert body["expires_at"] == body["created_at"] + 3600
    form[3] = ("expires_after[seconds]", (None, "1"))
    error_of(call("POST", "/files", files=form), call, 400)
    assert len(world.blobs.list(f"accounts/{account.id}")) == 1


def test_an_expired_file_is_not_found_on_any_route(call, world, account, chat_lines):
    file_id = upload(call, chat_lines(10), **SPELLINGS["dotted"]).json()["id"]
    wait(call, file_id)
    with world.store.begin() as tx:
        file = tx.files.get(account.id, file_id)
        tx.files.save(replace(file, expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        error_of(call(method, f"/files/{file_id}{path}"), call, 404)
    assert call("GET", "/files").json()["data"] == []
    job = call("POST", "/fine_tuning/jobs", json={"model": "gpt-4o-mini", "training_file": file_id})
    assert error_of(job, call, 400)["param"] == "training_file"
    assert world.blobs.list(f"accounts/{account.id}")
    asyncio.run(world.services.files.sweep())
    assert world.blobs.list(f"accounts/{account.id}") == []


def test_a_body_that_is_no_form_is_refused(call):
    error_of(call("POST", "/files", json={"purpose": "fine-tune"}), call, 400)
    broken = call(
        "POST", "/files", content=b"no boundary here", headers={"Content-Type": "multipart/form-data; boundary=b"}
    )
    error_of(broken, call, 400)


def test_a_form_cut_off_in_the_middle_leaves_nothing(call, world, account):
    head = b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\nhalf a fi'
    answer = call("POST", "/files", content=head + part, headers={"Content-Type": "multipart/form-data; boundary=b"})
    error_of(answer, call, 400)
    assert world.blobs.list(f"accounts/{account.id}") == []


def test_a_file_before_its_purpose_is_taken(call, chat_lines):
    data = chat_lines(10)
    answer = call("POST", "/files", files=[("file", ("a.jsonl", data)), ("purpose", (None, "fine-tune"))])
    assert answer.is_success, answer.text
    assert call("GET", f"/files/{answer.json()['id']}/content").content == data


def test_lists_page_by_the_last_id_in_either_order(call, chat_lines):
    ids = [upload(call, chat_lines(10)).json()["id"] for _ in range(3)]
    first = call("GET", "/files", params={"limit": 2}).json()
    assert [file["id"] for file in first["data"]] == [ids[2], ids[1]]
    assert (first["has_more"], first["first_id"], first["last_id"]) == (True, ids[2], ids[1])
    rest = call("GET", "/files", params={"limit": 2, "after": first["last_id"]}).json()
    assert ([file["id"] for file in rest["data"]], rest["has_more"]) == ([ids[0]], False)
    upward = call("GET", "/files", params={"order": "asc"}).json()
    assert [file["id"] for file in upward["data"]] == ids
    assert call("GET", "/files", params={"purpose": "batch"}).json()["data"] == []


def test_a_bad_query_is_refused_by_name(call):
    for params, param in (({"limit": 0}, "limit"), ({"limit": "many"}, "limit"), ({"status": "x"}, "status")):
        error = error_of(call("GET", "/files", params=params), call, 400)
        assert error["param"] == param


def test_a_deleted_file_is_gone_with_its_bytes(call, world, account, chat_lines):
    file_id = upload(call, chat_lines(10)).json()["id"]
    wait(call, file_id)
    assert call("DELETE", f"/files/{file_id}").json() == {"id": file_id, "object": "file", "deleted": True}
    assert world.blobs.list(f"accounts/{account.id}") == []
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        error = error_of(call(method, f"/files/{file_id}{path}"), call, 404)
        assert file_id in error["message"]


def test_another_accounts_file_does_not_exist(call, world, chat_lines):
    file_id = upload(call, chat_lines(10)).json()["id"]
    stranger = world.new_account()
    answer = call("GET", f"/files/{file_id}", headers={"api-key": stranger.key1})
    assert answer.status_code == 404


def content(call, file_id: str, asked: str | None = None, method: str = "GET", **headers: str) -> httpx.Response:
    sent = headers | ({} if asked is None else {"Range": asked})
    return call(method, f"/files/{file_id}/content", headers=sent)


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=2-4", 2, 5),
        ("bytes=7-", 7, 10),
        ("bytes=-3", 7, 10),
        ("bytes=-99", 0, 10),
        ("bytes=8-99", 8, 10),
    ],
)
def test_a_single_range_of_bytes_is_answered_with_its_place(call, asked, start, end):
    file_id = upload(call, b"0123456789", purpose="batch").json()["id"]
    answer = content(call, file_id, asked)
    assert (answer.status_code, answer.content) == (206, b"0123456789"[start:end])
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/10"
    assert answer.headers["content-length"] == str(end - start)


@pytest.mark.parametrize("asked", ["bytes=0-1,3-4", "bytes=4-2", "bytes=-", "bytes=x", "lines=1-2", ""])
def test_what_is_no_single_range_is_answered_with_the_whole(call, asked):
    file_id = upload(call, b"0123456789", purpose="batch").json()["id"]
    answer = content(call, file_id, asked)
    assert (answer.status_code, answer.content) == (200, b"0123456789")
    assert answer.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=99-100", "bytes=-0"])
def test_a_range_outside_the_file_is_refused_with_its_size(call, asked):
    file_id = upload(call, b"0123456789", purpose="batch").json()["id"]
    answer = content(call, file_id, asked)
    assert answer.headers["content-range"] == "bytes */10"
    error_of(answer, call, 416)


def test_a_range_of_another_version_is_answered_with_the_whole(call):
    file_id = upload(call, b"0123456789", purpose="batch").json()["id"]
    tag = content(call, file_id).headers["etag"]
    assert content(call, file_id, "bytes=1-2", **{"If-Range": tag}).status_code == 206
    assert content(call, file_id, "bytes=1-2", **{"If-Range": '"other"'}).status_code == 200


def test_a_head_request_says_what_a_get_would(call):
    file_id = upload(call, b"0123456789", purpose="batch").json()["id"]
    for asked in (None, "bytes=2-4"):
        head, get = content(call, file_id, asked, "HEAD"), content(call, file_id, asked)
        assert head.content == b""
        assert head.status_code == get.status_code
        for name in ("content-length", "content-range", "content-type", "etag", "accept-ranges", "content-disposition"):
            assert head.headers.get(name) == get.headers.get(name)


def test_a_file_s_name_comes_back_in_any_script_and_breaks_out_of_no_header(call):
    name = 'träin "1"; x=y\u4e2d.jsonl'
    body = call("POST", "/files", data={"purpose": "batch"}, files={"file": (name, b"x")}).json()
    assert body["filename"] in (name, name.replace('"', "%22")), "the client escapes the quotes"
    header = content(call, body["id"]).headers["content-disposition"]
    plain, _, encoded = header.partition("; filename*=UTF-8''")
    assert plain.startswith('attachment; filename="tr_in ')
    assert plain.count('"') == 2
    assert unquote(encoded) == body["filename"]


def test_trap_42_a_slash_at_the_end_changes_nothing(call, chat_lines):
    answer = call("POST", "/files/", data={"purpose": "fine-tune"}, files={"file": ("a.jsonl", chat_lines(10))})
    assert answer.is_success, answer.text
    assert call("GET", f"/files/{answer.json()['id']}/").json()["id"] == answer.json()["id"]


def test_a_quoted_boundary_and_a_utf_8_name_are_read(call):
    head = '--a b=c\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    part = '--a b=c\r\nContent-Disposition: form-data; name="file"; filename="größe.jsonl"\r\n\r\nx\r\n--a b=c--\r\n'
    sent = {"Content-Type": 'multipart/form-data; boundary="a b=c"'}
    answer = call("POST", "/files", content=(head + part).encode(), headers=sent)
    assert answer.is_success, answer.text
    assert answer.json()["filename"] == "größe.jsonl"


def test_trap_19_a_list_always_says_whether_more_follows(call):
    empty = call("GET", "/files").json()
    assert (empty["has_more"], empty["first_id"], empty["last_id"]) == (False, None, None)
