"""Embeddings on every surface."""

from __future__ import annotations

import asyncio
import base64
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from openai import OpenAI

Send = Callable[..., Any]
MODEL = "text-embedding-3-small"


@pytest.fixture
def embed(call: Any, world: Any, account: Any, engine: Any) -> Iterator[Send]:
    """Asks a deployment of the embedding model; Azure's dated surface names it in the path."""
    deployments = world.services.deployments
    deployments.create(account, "vectors", model_name=MODEL, by="test", capacity=10)
    asyncio.run(deployments.provision(account.id, "vectors"))

    def send(**fields: Any) -> Any:
        if call.surface == "azure":
            return call("POST", "/deployments/vectors/embeddings", json=fields)
        return call("POST", "/embeddings", json={"model": "vectors"} | fields)

    yield send
    asyncio.run(deployments.delete(account.id, "vectors"))


def test_every_form_of_input_becomes_a_vector_each(embed: Send, engine: Any) -> None:
    body = embed(input="ab").json()
    assert body["data"] == [{"object": "embedding", "index": 0, "embedding": [0.6, -0.8, 0.0, 0.0]}]
    assert (body["object"], body["model"], body["usage"]) == (
        "list", MODEL, {"prompt_tokens": 2, "total_tokens": 2},
    )  # fmt: skip
    ids = engine.tokenizer.encode("abc").ids
    for given in (["ab", "abc"], [ids[:2], ids]):
        data = embed(input=given).json()["data"]
        assert [item["index"] for item in data] == [0, 1]
        assert engine.embedded[-1].inputs == [ids[:2], ids]
        assert data[1]["embedding"][1] == 0.8
    embed(input=ids)
    assert engine.embedded[-1].inputs == [ids]


def test_base64_is_little_endian_float32(embed: Send) -> None:
    packed = embed(input="ab", encoding_format="base64").json()["data"][0]["embedding"]
    assert struct.unpack("<4f", base64.b64decode(packed)) == pytest.approx((0.6, -0.8, 0.0, 0.0))
    assert embed(input="ab", encoding_format="float").json()["data"][0]["embedding"] == [0.6, -0.8, 0.0, 0.0]


def test_fewer_dimensions_are_of_length_1_again(embed: Send) -> None:
    assert embed(input="ab", dimensions=1).json()["data"][0]["embedding"] == [1.0]
    assert embed(input="ab", dimensions=4).json()["data"][0]["embedding"] == pytest.approx([0.6, -0.8, 0.0, 0.0])


def test_many_inputs_are_sent_in_parts_and_come_back_in_order(embed: Send, engine: Any) -> None:
    data = embed(input=["a" * (1 + n % 2) for n in range(150)]).json()["data"]
    assert [len(request.inputs) for request in engine.embedded] == [64, 64, 22]
    assert [item["embedding"][1] for item in data] == [0.8, -0.8] * 75
    assert [item["index"] for item in data] == list(range(150))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "input"),
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": ["a", ""]}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": [99999]}, "input"),
        ({"input": "x" * 257}, "input"),
        ({"input": "x", "dimensions": 5}, "dimensions"),
        ({"input": "x", "dimensions": 0}, "dimensions"),
        ({"input": "x", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "x", "input_type": "query"}, "input_type"),
        ({"input": "x", "colour": 1}, "colour"),
    ],
)
def test_a_fault_is_named(embed: Send, fields: dict[str, Any], param: str) -> None:
    answer = embed(**fields)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param


def test_a_chat_model_makes_no_vectors_and_the_reverse(call: Any, deployed: str, engine: Any) -> None:
    answer = call("POST", f"/deployments/{deployed}/embeddings", json={"input": "x"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "OperationNotSupported")
    assert error["message"].startswith("The embeddings operation does not work with the specified model, gpt-4o-mini")
    if call.is_openai:
        for path, body in (("chat/completions", {"messages": []}), ("completions", {"prompt": "x"})):
            error = call("POST", f"/{path}", json={"model": MODEL} | body).json()["error"]
            assert error["code"] == "OperationNotSupported"
            assert "use the embeddings endpoint" in error["message"]


def test_an_embedding_model_says_so_and_cannot_be_fine_tuned(call: Any, chat_lines: Any) -> None:
    abilities = call("GET", f"/models/{MODEL}").json()["capabilities"]
    assert abilities == {
        "fine_tune": False, "inference": True, "completion": False, "chat_completion": False, "embeddings": True,
    }  # fmt: skip
    answer = call("POST", "/fine_tuning/jobs", json={"model": MODEL, "training_file": "file-none"})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "The specified base model does not support fine-tuning."


def test_the_sdk_asks_for_base64_and_reads_it(world: Any, account: Any, engine: Any) -> None:
    with OpenAI(base_url=f"{world.url}/v1", api_key=account.key1) as client:
        made = client.embeddings.create(model=MODEL, input=["ab", "abc"])
    assert made.data[0].embedding == pytest.approx([0.6, -0.8, 0.0, 0.0])
    assert made.usage.prompt_tokens == 5
