"""Traps 30, 31, 35, 36: where Azure's and OpenAI's inference differs, on the wire itself."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest
import requests
from shared_service import EMBEDDING_MODEL, SURFACES, Served

QUESTION: dict[str, Any] = {
    "messages": [{"role": "user", "content": "A room for two"}],
    "max_tokens": 4,
    "temperature": 0,
}
DATED_QUERY = "?api-version=2024-10-21"


def post(served: Served, path: str, body: dict[str, Any]) -> requests.Response:
    """To a whole path, with the key in both headers, as old SDKs send it."""
    headers = {"api-key": served.key, "Authorization": f"Bearer {served.key}"}
    return requests.post(served.endpoint + path, json=body, headers=headers, timeout=60)


@pytest.mark.parametrize(
    "path",
    [
        "/openai/deployments/{d}/chat/completions" + DATED_QUERY,
        "/openai/v1/deployments/{d}/chat/completions?api-version=preview",
        "/openai/v1/deployments/{d}/chat/completions",
        "/openai/v1/chat/completions",
        "/api/projects/wire/openai/v1/chat/completions",
    ],
)
def test_trap_30_chat_answers_under_every_path_that_a_client_makes(path: str, served: Served) -> None:
    answer = post(served, path.format(d=served.chat_deployment), {"model": served.chat_deployment, **QUESTION})
    assert answer.ok, answer.text
    assert answer.json()["model"] == served.azure_model


@pytest.mark.parametrize("prefix", ["/openai/deployments/{d}", "/openai/v1/deployments/{d}"])
@pytest.mark.parametrize("path", ["/models", "/files", "/fine_tuning/jobs"])
def test_trap_30_the_whole_data_plane_answers_below_a_deployment(prefix: str, path: str, served: Served) -> None:
    """`AzureOpenAI(azure_deployment=…)` of openai 1.35 sends everything there."""
    address = served.endpoint + prefix.format(d=served.chat_deployment) + path + DATED_QUERY
    answer = requests.get(address, headers={"api-key": served.key}, timeout=30)
    assert answer.json()["object"] == "list"


def test_trap_31_the_path_decides_on_the_dated_surface_and_the_answer_names_the_model(served: Served) -> None:
    path = f"/openai/deployments/{served.chat_deployment}/chat/completions{DATED_QUERY}"
    for named in ({"model": "something-else"}, {}):
        assert post(served, path, {**named, **QUESTION}).json()["model"] == served.azure_model
    base = f"/openai/deployments/{served.base_deployment}/chat/completions{DATED_QUERY}"
    assert post(served, base, QUESTION).json()["model"] == "weaver"


def test_trap_31_v1_takes_a_deployment_and_openai_a_tuned_or_base_model(served: Served) -> None:
    by_deployment = post(served, "/openai/v1/chat/completions", {"model": served.chat_deployment, **QUESTION})
    assert by_deployment.json()["model"] == served.azure_model
    for name in (served.openai_model, served.azure_model, served.chat_deployment):
        answer = post(served, "/v1/chat/completions", {"model": name, **QUESTION})
        assert answer.json()["model"] in (served.openai_model, served.azure_model)
    base = post(served, "/v1/chat/completions", {"model": "gpt-4o-mini", **QUESTION})
    assert base.json()["model"] == "gpt-4o-mini-2024-07-18"


@pytest.mark.parametrize("surface", SURFACES)
def test_trap_35_embeddings_come_as_base64_or_as_floats_as_they_were_asked_for(surface: str, served: Served) -> None:
    name = EMBEDDING_MODEL if surface == "openai" else served.embedding_deployment
    path = f"/deployments/{name}/embeddings" if surface.startswith("azure-2") else "/embeddings"

    def ask(**more: object) -> object:
        answer = served.ask("POST", surface, path, json={"model": name, "input": "a room", **more})
        assert answer.ok, answer.text
        return answer.json()["data"][0]["embedding"]

    floats, packed = ask(encoding_format="float"), ask(encoding_format="base64")
    assert isinstance(floats, list)
    assert isinstance(packed, str)
    raw = base64.b64decode(packed)
    unpacked = struct.unpack(f"<{len(raw) // 4}f", raw)
    assert unpacked == pytest.approx(floats, abs=1e-5)
    assert isinstance(ask(), list), "floats, when nothing is asked for"


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("usage", [True, False])
def test_trap_36_a_stream_is_data_lines_only_without_an_empty_chunk(surface: str, usage: bool, served: Served) -> None:
    name = served.openai_model if surface == "openai" else served.chat_deployment
    path = f"/deployments/{name}/chat/completions" if surface.startswith("azure-2") else "/chat/completions"
    options = {"stream_options": {"include_usage": True}} if usage else {}
    answer = served.ask("POST", surface, path, json={"model": name, **QUESTION, "stream": True, **options})
    assert answer.headers["content-type"].startswith("text/event-stream")
    *chunks, end = [line for line in answer.text.split("\n\n") if line and not line.startswith(":")]
    assert end == "data: [DONE]"
    assert all(chunk.startswith("data: {") and "\n" not in chunk for chunk in chunks)
    bodies = [json.loads(chunk.removeprefix("data: ")) for chunk in chunks]
    assert {body["object"] for body in bodies} == {"chat.completion.chunk"}
    assert all(body["id"] and body["model"] for body in bodies)
    told = bodies.pop() if usage else None
    assert told is None or (told["choices"], told["usage"]["completion_tokens"] <= 4) == ([], True)
    assert all(body["choices"] for body in bodies)
    assert bodies[0]["choices"][0]["delta"]["role"] == "assistant"
    assert bodies[-1]["choices"][0]["finish_reason"] in ("length", "stop")
