"""A container, blobs and shared access signatures, made with azure-storage-blob; one JSON line for each call.

    python azure_blob_calls.py GIVEN.json

Prints the signed addresses as well, as `{"urls": {...}}`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from azure.storage.blob import (  # pyright: ignore[reportMissingImports]
    BlobSasPermissions,
    BlobServiceClient,
    generate_blob_sas,
)
from call_log import Run, SectionEnded, same


async def prepare(run: Run) -> dict[str, str]:
    given, service = run.given, run.client
    container = service.get_container_client(given["container"])
    async with run.call("create_container"):
        container.create_container()
        same(container.exists(), True, "exists")
    urls: dict[str, str] = {}
    for name, path in given["files"].items():
        content = Path(path).read_bytes()
        async with run.call(f"upload_blob {name}"):
            container.upload_blob(name, content)
            same(container.get_blob_client(name).get_blob_properties().size, len(content), "size")
        urls[name] = signed(service, given, name, timedelta(hours=1))
    async with run.call("generate_blob_sas"):
        name = next(iter(given["files"]))
        urls["expired"] = signed(service, given, name, timedelta(hours=-1))
        urls["unsigned"] = urls[name].split("?")[0]
        urls["missing"] = signed(service, given, "none.jsonl", timedelta(hours=1))
    return urls


def signed(service: Any, given: dict[str, Any], name: str, life: timedelta) -> str:
    until = datetime.now(UTC) + life
    signature = generate_blob_sas(
        service.account_name, given["container"], name, account_key=service.credential.account_key,
        permission=BlobSasPermissions(read=True), start=until - timedelta(days=1), expiry=until,
    )  # fmt: skip
    return f"{service.get_blob_client(given['container'], name).url}?{signature}"


async def main() -> None:
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    service = BlobServiceClient.from_connection_string(given["connection"])
    run = Run(service, service, given, "blob", "")
    with contextlib.suppress(SectionEnded):
        print(json.dumps({"urls": await prepare(run)}))
    print(json.dumps({"absent": run.absent}))


asyncio.run(main())
