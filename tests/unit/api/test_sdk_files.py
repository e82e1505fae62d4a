"""Files and multi-part uploads through the vendors' SDK, unmodified, on every surface."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import AsyncOpenAI, AzureOpenAI, OpenAI

pytestmark = pytest.mark.wire


@pytest.fixture(params=["azure", "azure-v1", "azure-project", "openai"])
def client(request: pytest.FixtureRequest, world, account) -> Iterator[OpenAI]:
    url, key = world.url, account.key1
    if request.param == "azure":
        made: OpenAI = AzureOpenAI(azure_endpoint=url, api_key=key, api_version="2025-04-01-preview")
    elif request.param == "openai":
        made = OpenAI(base_url=f"{url}/v1", api_key=key, _strict_response_validation=True)
    else:
        base = {"azure-v1": "/openai/v1/", "azure-project": "/api/projects/p1/openai/v1/"}[request.param]
        made = OpenAI(base_url=url + base, api_key=key)
    yield made
    made.close()


@pytest.fixture
def training(tmp_path: Path, chat_lines) -> Path:
    path = tmp_path / "train.jsonl"
    path.write_bytes(chat_lines(200))
    return path


def test_a_file_is_uploaded_in_chunks(client, training):
    size = training.stat().st_size
    upload = client.uploads.upload_file_chunked(
        file=training, mime_type="text/jsonl", purpose="fine-tune", part_size=5000
    )
    assert (upload.status, upload.bytes, upload.file.bytes) == ("completed", size, size)
    file = client.files.wait_for_processing(upload.file.id, poll_interval=0.05, max_wait_seconds=10)
    assert file.status == "processed"
    assert client.files.content(file.id).read() == training.read_bytes()


def test_bytes_are_uploaded_in_chunks_with_a_checksum_and_without_asynchrony_mattering(world, account):
    async def run() -> None:
        async with AsyncOpenAI(base_url=f"{world.url}/v1", api_key=account.key1) as client:
            upload = await client.uploads.upload_file_chunked(
                file=b"0123456789",
                filename="a.bin",
                bytes=10,
                mime_type="application/octet-stream",
                purpose="batch",
                part_size=4,
                md5="781e5e245d69b566979b86e28d23f2c7",
            )
            assert upload.file is not None
            assert (await client.files.content(upload.file.id)).read() == b"0123456789"

    asyncio.run(run())


def test_an_upload_is_cancelled(client):
    upload = client.uploads.create(bytes=9, filename="a", mime_type="text/plain", purpose="batch")
    part = client.uploads.parts.create(upload.id, data=b"abc")
    assert part.upload_id == upload.id
    assert client.uploads.cancel(upload.id).status == "cancelled"


def test_a_file_s_expiry_and_every_page_of_the_list(client):
    life = {"anchor": "created_at", "seconds": 3600}
    made = [client.files.create(file=(f"{n}", b"x"), purpose="batch", expires_after=life) for n in range(3)]
    assert made[0].expires_at == made[0].created_at + 3600
    assert [file.id for file in client.files.list(limit=1, order="asc")] == [file.id for file in made]
