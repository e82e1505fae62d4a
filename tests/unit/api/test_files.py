from __future__ import annotations

import time

import httpx


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
        "purpose": [no_purpose, upload(call, data, purpose="vision")],
        "file": [upload(call, b""), call("POST", "/files", files={"purpose": (None, "fine-tune")})],
        "x": [no_file],
        "expires_after": [
            upload(call, data, **{"expires_after[anchor]": "created_at"}),
            upload(call, data, **{"expires_after.seconds": "86400"}),
            upload(call, data, expires_after='{"anchor": "created_at", "seconds": 86400}'),
        ],
    }
    for param, answers in cases.items():
        for answer in answers:
            error = error_of(answer, call, 400)
            assert error["param"] == param
            assert param in error["message"] or param == "file"
    assert call("GET", "/files").json()["data"] == []


def test_the_allowed_purposes_are_listed_when_one_is_unknown(call, chat_lines):
    assert "'fine-tune'" in upload(call, chat_lines(1), purpose="vision").json()["error"]["message"]


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
