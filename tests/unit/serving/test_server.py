"""The routes over a live socket, as any client of vLLM would use them."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tailorbird.serving import server
from tailorbird.serving.__main__ import main, read_options

ASK: dict[str, Any] = {"model": "base", "prompt": [5, 6, 7, 8], "max_tokens": 12, "temperature": 0}
LONG: dict[str, Any] = ASK | {"max_tokens": 240, "logit_bias": {"2": -100}}


def load(client: httpx.Client, name: str, path: object, **more: Any) -> httpx.Response:
    return client.post("/v1/load_lora_adapter", json={"lora_name": name, "lora_path": str(path)} | more)


def stream(client: httpx.Client, body: dict[str, Any]) -> list[dict[str, Any]]:
    with client.stream("POST", "/v1/completions", json=body | {"stream": True}) as reply:
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in reply.iter_lines() if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line[6:]) for line in lines[:-1]]


def test_health_is_200(client: httpx.Client) -> None:
    assert client.get("/health").status_code == 200


def test_a_plain_completion_has_openais_shape(client: httpx.Client, llama: Any) -> None:
    body = client.post("/v1/completions", json=ASK | {"model": "red", "return_token_ids": True}).json()
    assert body["object"] == "text_completion"
    assert body["model"] == "red"
    (choice,) = body["choices"]
    assert [choice["token_ids"]] == llama.greedy("red", [ASK["prompt"]], 12)
    assert choice["prompt_token_ids"] == ASK["prompt"]
    assert choice["finish_reason"] in ("stop", "length")
    count = len(choice["token_ids"])
    assert body["usage"] == {"prompt_tokens": 4, "completion_tokens": count, "total_tokens": 4 + count}


def test_a_stream_says_the_same_as_a_plain_answer(client: httpx.Client) -> None:
    asked = ASK | {"model": "red", "temperature": 0.8, "seed": 4, "n": 3, "logprobs": 2, "max_tokens": 30}
    asked |= {"return_token_ids": True, "return_tokens_as_token_ids": True}
    plain = client.post("/v1/completions", json=asked).json()
    events = stream(client, asked | {"stream_options": {"include_usage": True}})
    assert events[-1]["choices"] == []
    assert events[-1]["usage"] == plain["usage"]
    for choice in plain["choices"]:
        pieces = [piece for event in events for piece in event["choices"] if piece["index"] == choice["index"]]
        assert "".join(piece["text"] for piece in pieces) == choice["text"]
        assert [token for piece in pieces for token in piece["token_ids"]] == choice["token_ids"]
        for part in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
            assert [entry for piece in pieces for entry in piece["logprobs"][part]] == choice["logprobs"][part], part
        assert [piece["finish_reason"] for piece in pieces] == [None] * (len(pieces) - 1) + [choice["finish_reason"]]


def test_a_stream_without_the_option_has_no_usage(client: httpx.Client) -> None:
    assert all("usage" not in event and event["choices"] for event in stream(client, ASK))


def test_prompt_logprobs_stand_in_the_first_choice_with_rank_and_text(client: httpx.Client, llama: Any) -> None:
    body = client.post("/v1/completions", json=ASK | {"prompt_logprobs": 0}).json()
    scores = body["choices"][0]["prompt_logprobs"]
    plain = llama.logprobs(None, ASK["prompt"])
    assert scores[0] is None
    assert [list(score) for score in scores[1:]] == [["6"], ["7"], ["8"]]
    for i, token in enumerate(ASK["prompt"][1:]):
        entry = scores[i + 1][str(token)]
        assert entry["logprob"] == pytest.approx(plain[i, token].item(), abs=1e-4)
        assert entry["rank"] == int((plain[i] > plain[i, token]).sum()) + 1
        assert isinstance(entry["decoded_token"], str)


def test_models_lists_the_base_and_its_adapters(client: httpx.Client) -> None:
    base, red = client.get("/v1/models").json()["data"]
    assert (base["id"], base["parent"], base["max_model_len"]) == ("base", None, 256)
    assert (red["id"], red["parent"]) == ("red", "base")


def test_an_adapter_is_loaded_replaced_and_unloaded(client: httpx.Client, llama: Any) -> None:
    assert load(client, "red", llama.adapters["red"]).status_code == 200
    refused = load(client, "red", llama.adapters["green"])
    assert refused.status_code == 400
    assert "load_inplace" in refused.json()["error"]["message"]
    assert load(client, "red", llama.adapters["green"], load_inplace=True).status_code == 200
    answer = client.post("/v1/completions", json=ASK | {"model": "red", "return_token_ids": True}).json()
    assert [answer["choices"][0]["token_ids"]] == llama.greedy("green", [ASK["prompt"]], 12)
    assert client.post("/v1/unload_lora_adapter", json={"lora_name": "red"}).status_code == 200
    gone = client.post("/v1/unload_lora_adapter", json={"lora_name": "red"})
    assert (gone.status_code, gone.json()["error"]["type"]) == (404, "NotFoundError")
    assert client.post("/v1/completions", json=ASK | {"model": "red"}).status_code == 404


def test_an_evicted_adapter_is_unknown_until_it_is_loaded_again(client: httpx.Client, llama: Any) -> None:
    for name in ("green", "blue"):
        load(client, name, llama.adapters[name])
    assert client.post("/v1/completions", json=ASK | {"model": "red"}).status_code == 404
    load(client, "red", llama.adapters["red"])
    assert client.post("/v1/completions", json=ASK | {"model": "red"}).status_code == 200


def test_a_folder_that_is_no_adapter_is_refused_with_the_reason(client: httpx.Client, tmp_path: Path) -> None:
    reply = load(client, "x", tmp_path)
    assert reply.status_code == 400
    assert "adapter_config.json" in reply.json()["error"]["message"]


def test_the_bases_name_cannot_be_taken(client: httpx.Client, llama: Any) -> None:
    assert load(client, "base", llama.adapters["red"]).status_code == 400


def test_an_unknown_model_is_404_in_vllms_shape(client: httpx.Client) -> None:
    reply = client.post("/v1/completions", json=ASK | {"model": "who"})
    assert reply.status_code == 404
    assert reply.json()["error"] == {
        "message": "The model `who` does not exist.",
        "type": "NotFoundError",
        "param": None,
        "code": 404,
    }


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff"])
def test_a_body_that_is_no_json_object_is_400(client: httpx.Client, body: bytes) -> None:
    reply = client.post("/v1/completions", content=body)
    assert (reply.status_code, reply.json()["error"]["type"]) == (400, "BadRequestError")


def test_an_unknown_field_is_400_and_named(client: httpx.Client) -> None:
    reply = client.post("/v1/completions", json=ASK | {"min_p": 0.1})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "min_p")


@pytest.mark.parametrize("streamed", [False, True])
def test_a_client_that_hangs_up_frees_the_engine(client: httpx.Client, live: Any, streamed: bool) -> None:
    with httpx.Client(base_url=client.base_url) as other:
        if streamed:
            with other.stream("POST", "/v1/completions", json=LONG | {"stream": True, "n": 8}) as reply:
                next(reply.iter_lines())
        else:
            with pytest.raises(httpx.ReadTimeout):
                other.post("/v1/completions", json=LONG | {"n": 8}, timeout=0.05)
    deadline = time.monotonic() + 10
    while live.api.engine._running or live.api.engine._waiting:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert live.api.engine._open == set(), "it ran to its end instead of being dropped"
    model: Any = live.api.model
    assert model._cache.used_blocks == 0


def test_metrics_count_what_was_done(client: httpx.Client) -> None:
    def value(name: str) -> float:
        lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith(name + " ")]
        return float(lines[0].split()[1])

    generated, prompt = (
        value("tailorbird_engine_generated_tokens_total"),
        value("tailorbird_engine_prompt_tokens_total"),
    )
    body = client.post("/v1/completions", json=LONG | {"max_tokens": 10}).json()
    assert body["usage"]["completion_tokens"] == 10
    # A step is counted when it is over, which is after its tokens went out.
    wait_for(lambda: value("tailorbird_engine_generated_tokens_total") == generated + 10)
    assert value("tailorbird_engine_prompt_tokens_total") == prompt + 4
    assert value("tailorbird_engine_adapters_loaded") == 1
    assert value("tailorbird_engine_requests_running") == 0
    assert value("tailorbird_engine_kv_tokens") == 0
    assert value("tailorbird_engine_kv_tokens_max") > 0
    assert value("tailorbird_engine_batch_size_count") > 0


def start(base: Path, port_file: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tailorbird.serving", "--base", str(base), "--served-name", "base"]
    command += ["--port-file", str(port_file), "--threads", "1", *more]
    environment = {"PYTHONPATH": str(Path(server.__file__).parents[2]), "PATH": ""}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def wait_for(condition: Any, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_command_says_its_port_answers_and_stops_when_told(llama: Any, tmp_path: Path) -> None:
    with start(llama.base, tmp_path / "port") as process:
        try:
            wait_for((tmp_path / "port").exists)
            url = f"http://127.0.0.1:{int((tmp_path / 'port').read_text())}"
            with httpx.stream("POST", f"{url}/v1/completions", json=LONG | {"stream": True, "n": 16}) as reply:
                lines = reply.iter_lines()
                next(lines)
                process.send_signal(signal.SIGTERM)
                with contextlib.suppress(httpx.RemoteProtocolError):  # a long answer is cut off
                    list(lines)
            # Under 3 s on a machine with a core to spare.
            assert process.wait(60) == 0
        finally:
            process.kill()


def test_the_command_goes_with_its_parent(llama: Any, tmp_path: Path) -> None:
    with start(llama.base, tmp_path / "port", "--exit-with-parent", "1234567") as process:
        try:
            assert process.wait(120) in (0, 1, -signal.SIGTERM)
        finally:
            process.kill()


def test_a_folder_without_model_ends_the_command_with_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert main(["--base", str(tmp_path), "--served-name", "base"]) == 1
    (record,) = caplog.records
    assert "config.json" in record.getMessage()


@pytest.mark.parametrize("arguments", [["--max-batch", "0"], ["--dtype", "int8"], ["--port", "x"], []])
def test_wrong_arguments_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--base", "x", "--served-name", "base", *arguments] if arguments else []
    with pytest.raises(SystemExit) as caught:
        read_options(given)
    assert caught.value.code == 2
    assert "error:" in capsys.readouterr().err
