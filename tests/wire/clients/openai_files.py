"""Calls of files, uploads and models."""

from __future__ import annotations

import hashlib
import time
from typing import Any

from call_log import Run, done, fields_for, same, walk

MONTH = 2_592_000


async def files(run: Run) -> None:
    client, rows = run.client, run.given["rows"].encode()
    name = f"{run.label}.jsonl"
    async with run.call("files.create"):
        made = await done(client.files.create(file=(name, rows), purpose="fine-tune"))
        assert made.id.startswith("file-"), made
        same((made.object, made.filename, made.purpose), ("file", name, "fine-tune"))
        same(made.status, "uploaded" if run.openai_words else "pending", "status")
        assert isinstance(made.created_at, int), made.created_at
    async with run.call("files.create with expires_after"):
        fields = fields_for(client.files.create, expires_after={"anchor": "created_at", "seconds": MONTH})
        kept = await done(client.files.create(file=(f"kept-{name}", rows), purpose="fine-tune", **fields))
        same(kept.to_dict()["expires_at"] - kept.created_at, MONTH, "expires_at")
    async with run.call("files.wait_for_processing"):
        began = time.monotonic()
        waited = await done(client.files.wait_for_processing(made.id, poll_interval=0.1, max_wait_seconds=30))
        same((waited.id, waited.status, waited.bytes), (made.id, "processed", len(rows)))
        assert time.monotonic() - began < 10, "ten seconds are the promise"
    async with run.call("files.retrieve"):
        found = await done(client.files.retrieve(made.id))
        same((found.id, found.bytes, found.status), (made.id, len(rows), "processed"))
    async with run.call("files.list"):
        listed = [f.id for f in await walk(client.files.list(purpose="fine-tune"))]
        assert {made.id, kept.id} <= set(listed), listed
        same(len(listed), len(set(listed)), "ids listed")
    async with run.call("files.list page by page"):
        page = await done(client.files.list(extra_query={"limit": 3, "order": "asc"}))
        same(len(page.data), 3, "files on the page")
        after = page.data[0].id
        second = await done(client.files.list(extra_query={"limit": 1, "order": "asc", "after": after}))
        same([f.id for f in second.data], [page.data[1].id])
    async with run.call("files.content"):
        content = await done(client.files.content(made.id))
        same(content.read(), rows, "content")
    for file in (made, kept):
        async with run.call("files.delete"):
            gone = await done(client.files.delete(file.id))
            same((gone.id, gone.object, gone.deleted), (file.id, "file", True))
    async with run.call("files.retrieve after delete"):
        same(await _status_of(client.files.retrieve, made.id), 404)


async def uploads(run: Run) -> None:
    client, rows = run.client, run.given["rows"].encode()
    if not run.has("uploads.create"):
        return
    name, cut = f"{run.label}-parts.jsonl", len(rows) // 2
    about: dict[str, Any] = {"filename": name, "mime_type": "application/jsonl", "purpose": "fine-tune"}
    async with run.call("uploads.create"):
        upload = await done(client.uploads.create(bytes=len(rows), **about))
        same((upload.object, upload.status, upload.bytes), ("upload", "pending", len(rows)))
    async with run.call("uploads.parts.create"):
        last = await done(client.uploads.parts.create(upload.id, data=rows[cut:]))
        same((last.object, last.upload_id), ("upload.part", upload.id))
        first = await done(client.uploads.parts.create(upload.id, data=rows[:cut]))
    async with run.call("uploads.complete"):
        digest = hashlib.md5(rows).hexdigest()
        whole = await done(client.uploads.complete(upload.id, part_ids=[first.id, last.id], md5=digest))
        same((whole.id, whole.status, whole.file.bytes), (upload.id, "completed", len(rows)))
        content = await done(client.files.content(whole.file.id))
        same(content.read(), rows, "content in the order of part_ids")
    async with run.call("uploads.cancel"):
        other = await done(client.uploads.create(bytes=10, **about))
        same((await done(client.uploads.cancel(other.id))).status, "cancelled")
    async with run.call("uploads.upload_file_chunked"):
        chunked = await done(client.uploads.upload_file_chunked(
            file=rows, bytes=len(rows), **{**about, "part_size": 1500}
        ))  # fmt: skip
        same((chunked.status, chunked.file.filename), ("completed", name))
        waited = await done(client.files.wait_for_processing(chunked.file.id, poll_interval=0.1, max_wait_seconds=30))
        same((waited.status, waited.bytes), ("processed", len(rows)))
    for file in (whole.file, chunked.file):
        await done(client.files.delete(file.id))


async def models(run: Run) -> None:
    client, tuned = run.client, run.given["models"][run.surface]
    async with run.call("models.list"):
        listed = {model.id: model for model in await walk(client.models.list())}
        assert {tuned, "gpt-4o-mini-2024-07-18"} <= set(listed), sorted(listed)
        model = listed[tuned]
        same((model.object, type(model.created)), ("model", int))
        assert model.owned_by, model
    async with run.call("models.retrieve"):
        found = await done(client.models.retrieve(tuned))
        same(found.id, tuned)
        union = found.to_dict()
        assert {"created", "created_at", "owned_by", "capabilities", "lifecycle_status"} <= set(union), union
    async with run.call("models.retrieve of an unknown model"):
        same(await _status_of(client.models.retrieve, "no-such-model"), 404)


async def _status_of(call: Any, *arguments: Any) -> int:
    try:
        await done(call(*arguments))
    except Exception as error:
        return int(getattr(error, "status_code", 0))
    return 200
