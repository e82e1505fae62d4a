"""POST /v1/embeddings over a live socket."""

from __future__ import annotations

import base64
import json
import socket
import struct
import time
from typing import Any

import httpx
import pytest

ASK: dict[str, Any] = {"model": "base", "input": [[5, 6, 7], [8]]}


def test_each_text_has_a_vector_of_length_one_in_its_place(client: httpx.Client) -> None:
    body = client.post("/v1/embeddings", json=ASK).json()
    assert (body["object"], body["model"]) == ("list", "base")
    assert [(row["index"], row["object"]) for row in body["data"]] == [(0, "embedding"), (1, "embedding")]
    for row in body["data"]:
        assert len(row["embedding"]) == 32
        assert sum(value * value for value in row["embedding"]) == pytest.approx(1.0, abs=1e-5)
    assert body["usage"] == {"prompt_tokens": 4, "completion_tokens": 0, "total_tokens": 4}


def test_one_text_may_stand_without_the_outer_list(client: httpx.Client) -> None:
    def first(given: Any) -> list[float]:
        return client.post("/v1/embeddings", json=ASK | {"input": given}).json()["data"][0]["embedding"]

    assert first([5, 6, 7]) == pytest.approx(first([[5, 6, 7], [8]]), abs=1e-6)


def test_base64_holds_the_same_numbers(client: httpx.Client) -> None:
    plain = client.post("/v1/embeddings", json=ASK).json()["data"]
    packed = client.post("/v1/embeddings", json=ASK | {"encoding_format": "base64"}).json()["data"]
    for one, other in zip(plain, packed, strict=True):
        assert list(struct.unpack("<32f", base64.b64decode(other["embedding"]))) == pytest.approx(one["embedding"])


def test_an_adapter_embeds_otherwise_than_its_base(client: httpx.Client) -> None:
    base, red = (client.post("/v1/embeddings", json=ASK | {"model": m}).json()["data"][0] for m in ("base", "red"))
    assert base["embedding"] != pytest.approx(red["embedding"], abs=1e-3)


def test_an_unknown_model_is_404(client: httpx.Client) -> None:
    assert client.post("/v1/embeddings", json=ASK | {"model": "who"}).status_code == 404


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input": None}, "input"),
        ({"input": "text"}, "input"),
        ({"input": []}, "input"),
        ({"input": [[]]}, "input"),
        ({"input": [[5], 6]}, "input"),
        ({"input": [["a"]]}, "input"),
        ({"input": [[300]]}, "input"),
        ({"input": [[5]] * 2049}, "input"),
        ({"input": [[5] * 257]}, "input"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"dimensions": 8}, "dimensions"),
        ({"model": ""}, "model"),
    ],
)
def test_what_cannot_be_embedded_is_400_and_named(client: httpx.Client, change: dict[str, Any], param: str) -> None:
    reply = client.post("/v1/embeddings", json=ASK | change)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)


def test_a_text_as_long_as_the_context_is_embedded(client: httpx.Client) -> None:
    assert client.post("/v1/embeddings", json=ASK | {"input": [[5] * 256]}).status_code == 200


def test_a_client_that_hangs_up_frees_the_engine(client: httpx.Client, live: Any) -> None:
    def wait_until(busy: bool) -> None:
        deadline = time.monotonic() + 20
        while bool(live.api.engine._open) != busy:
            assert time.monotonic() < deadline
            time.sleep(0.001)

    body = json.dumps(ASK | {"input": [[5] * 256] * 800}).encode()
    head = f"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as other:
        other.sendall(head.encode() + body)
        wait_until(busy=True)
    wait_until(busy=False)
    lines = client.get("/metrics").text.splitlines()
    done = next(line for line in lines if line.startswith("tailorbird_engine_embedding_tokens_total "))
    assert float(done.split()[1]) < 800 * 256, "it ran to its end instead of being dropped"


def test_embedded_tokens_are_counted_apart(client: httpx.Client) -> None:
    def value(name: str) -> float:
        lines = client.get("/metrics").text.splitlines()
        return float(next(line for line in lines if line.startswith(f"tailorbird_engine_{name}_total ")).split()[1])

    before = value("embedding_tokens"), value("prompt_tokens")
    client.post("/v1/embeddings", json=ASK)
    assert (value("embedding_tokens"), value("prompt_tokens")) == (before[0] + 4, before[1])
