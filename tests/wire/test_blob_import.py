"""Import from Azure Blob Storage: azure-storage-blob signs, azurite serves, and the service fetches."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from azurite import CutWire, azurite
from client_runs import Judge
from client_scripts import run_script
from installation import small_rows, wait_for
from ledger import Ledger
from shared_service import Served

pytestmark = pytest.mark.wire_full

CLIENT, VERSION = "azure-storage-blob", "12.31.1"
LARGE_BYTES = 20 * 2**20
SURFACE = "azure-2025-04-01-preview"


@pytest.fixture(scope="module")
def ledger() -> Iterator[Ledger]:
    one = Ledger(CLIENT, VERSION)
    yield one
    one.keep()


@pytest.fixture(scope="module")
def large() -> bytes:
    """Training rows of just over twenty megabytes."""
    rows = small_rows(40)
    return b"\n".join([rows] * (LARGE_BYTES // len(rows) + 1))


@pytest.fixture(scope="module")
def urls(large: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Signed addresses of blobs, by name; some of them open nothing."""
    folder = tmp_path_factory.mktemp("blobs")
    for name, content in {"small.jsonl": small_rows(12), "large.jsonl": large}.items():
        (folder / name).write_bytes(content)
    files = {name: str(folder / name) for name in ("small.jsonl", "large.jsonl")}
    with azurite(folder / "azurite") as connection:
        given = {"connection": connection, "container": "data", "files": files}
        judge = Judge(CLIENT, VERSION, "blob store", "container, blobs, signatures")
        result, told = run_script(judge, CLIENT, "azure_blob_calls.py", given, folder)
        assert result.failed == {}
        yield told["urls"]


def fetched(served: Served, ledger: Ledger, mode: str, url: str, **fields: Any) -> dict[str, Any]:
    """The file at the end of an import, whichever end that is."""
    with ledger.call(SURFACE, f"import, {mode}", mode):
        body = {"filename": f"{mode}.jsonl".replace(" ", "-"), "purpose": "fine-tune", "content_url": url, **fields}
        made = served.ask("POST", SURFACE, "/files/import", json=body)
        assert made.status_code == 201, made.text
        assert made.headers["Location"].endswith(made.json()["id"])
        found: dict[str, Any] = {}

        def ended() -> bool:
            found.update(served.ask("GET", SURFACE, f"/files/{made.json()['id']}").json())
            return found["status"] in ("processed", "error")

        wait_for("the import", ended, 90)
    return found


def content(served: Served, file: dict[str, Any]) -> bytes:
    return served.ask("GET", SURFACE, f"/files/{file['id']}/content").content


def test_a_blob_is_imported_by_its_signed_address(urls: dict[str, str], served: Served, ledger: Ledger) -> None:
    life = {"anchor": "created_at", "seconds": 1_209_600}
    file = fetched(served, ledger, "a small blob", urls["small.jsonl"], expires_after=life)
    assert (file["status"], file["bytes"]) == ("processed", len(small_rows(12)))
    assert file["expires_at"] == file["created_at"] + life["seconds"]
    assert content(served, file) == small_rows(12)


def test_twenty_megabytes_arrive_whole(urls: dict[str, str], large: bytes, served: Served, ledger: Ledger) -> None:
    file = fetched(served, ledger, "20 MB", urls["large.jsonl"])
    assert (file["status"], file["bytes"]) == ("processed", len(large))
    assert content(served, file) == large


def test_a_transfer_that_breaks_off_goes_on_where_it_was(
    urls: dict[str, str], large: bytes, served: Served, ledger: Ledger
) -> None:
    wire = CutWire(urls["large.jsonl"], after=7_000_000)
    try:
        file = fetched(served, ledger, "a connection cut once", wire.url)
    finally:
        wire.close()
    assert file["status"] == "processed", file
    assert content(served, file) == large
    starts = [int(one.removeprefix("bytes=").split("-")[0]) for one in wire.ranges]
    assert [start for start in starts if start], "it began again instead of asking for the rest"


@pytest.mark.parametrize("what", ["expired", "unsigned", "missing"])
def test_an_address_that_opens_nothing_is_told_in_words_that_keep_the_signature(
    what: str, urls: dict[str, str], served: Served, ledger: Ledger
) -> None:
    file = fetched(served, ledger, f"an address that is {what}", urls[what])
    assert file["status"] == "error"
    assert ("404" if what == "missing" else "403") in file["status_details"], file["status_details"]
    signature = parse_qs(urlsplit(urls["expired" if what == "unsigned" else what]).query)["sig"][0]
    whole = json.dumps(file) + served.installation.log()
    assert signature not in whole
    assert "sig=" not in whole
