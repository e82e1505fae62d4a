from __future__ import annotations

import math
from typing import Any

import pytest

from tailorbird.protocol.generation import GenerationChunk, GenerationRequest, TokenLogprob, TopLogprob, request_to_wire
from tailorbird.serving.fields import BodyRefused
from tailorbird.serving.wire import ChoiceWriter, Presentation, read_completion, read_load, read_unload

PLAIN: dict[str, Any] = {"model": "m", "prompt": [1, 2, 3], "max_tokens": 5}


def read(**fields: Any) -> tuple[GenerationRequest, Presentation]:
    return read_completion(PLAIN | fields, vocab=100, context=50)


@pytest.mark.parametrize("stream", [False, True])
def test_what_the_client_writes_is_read_back_whole(stream: bool) -> None:
    request = GenerationRequest(
        model="m",
        prompt=[1, 2, 3],
        max_tokens=5,
        temperature=0.5,
        top_p=0.25,
        n=3,
        stop=["a", "b"],
        stop_token_ids=[7],
        seed=9,
        presence_penalty=-1.0,
        frequency_penalty=2.0,
        logit_bias={4: -100.0},
        top_logprobs=2,
        score_prompt=not stream,
    )
    body = request_to_wire(request, stream=stream)
    found, presentation = read_completion(body, vocab=100, context=50)
    assert found == request
    assert presentation == Presentation(stream, stream, True, True)


def test_a_bare_request_has_openai_defaults() -> None:
    request, presentation = read_completion({"model": "m", "prompt": [1]}, vocab=100, context=50)
    assert request == GenerationRequest("m", [1], max_tokens=16)
    assert presentation == Presentation()


def test_null_is_absent() -> None:
    assert read(stop=None, seed=None, logprobs=None, stream=None)[0] == GenerationRequest("m", [1, 2, 3], 5)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("top_k", 5),
        ("echo", True),
        ("best_of", 2),
        ("model", ""),
        ("model", 3),
        ("prompt", "text"),
        ("prompt", []),
        ("prompt", [1, 100]),
        ("prompt", [-1]),
        ("prompt", [True]),
        ("prompt", [[1], [2]]),
        ("max_tokens", 0),
        ("max_tokens", 1.5),
        ("temperature", -0.1),
        ("temperature", "1"),
        ("temperature", math.nan),
        ("top_p", 0),
        ("top_p", 1.1),
        ("n", 0),
        ("n", 129),
        ("stop", ""),
        ("stop", ["a", 3]),
        ("stop", {"a": 1}),
        ("stop_token_ids", [100]),
        ("seed", 2**63),
        ("seed", True),
        ("presence_penalty", 2.1),
        ("frequency_penalty", -2.1),
        ("logit_bias", {"100": 1}),
        ("logit_bias", {"x": 1}),
        ("logit_bias", {"1": 101}),
        ("logit_bias", [1]),
        ("logprobs", 21),
        ("logprobs", -1),
        ("prompt_logprobs", 1),
        ("stream", "yes"),
        ("return_token_ids", 1),
    ],
)
def test_a_field_that_is_unknown_or_out_of_range_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(BodyRefused, match=field) as caught:
        read(**{field: value})
    assert caught.value.param == field


def test_an_unknown_stream_option_is_refused_by_its_full_name() -> None:
    with pytest.raises(BodyRefused, match=r"stream_options\.continuous_usage_stats"):
        read(stream=True, stream_options={"continuous_usage_stats": True})


def test_a_prompt_and_answer_that_just_fit_the_context_are_accepted_and_one_more_is_refused() -> None:
    assert read(max_tokens=47)[0].max_tokens == 47
    with pytest.raises(BodyRefused, match=r"maximum context length is 50 tokens.*51 tokens \(3 in the prompt"):
        read(max_tokens=48)


@pytest.mark.parametrize("body", [None, 3, [], "x"])
def test_a_body_that_is_no_object_is_refused(body: object) -> None:
    with pytest.raises(BodyRefused, match="JSON object"):
        read_completion(body, vocab=10, context=10)


def test_adapter_bodies_are_read() -> None:
    load = read_load({"lora_name": "a", "lora_path": "/p", "load_inplace": True})
    assert (load.name, load.path, load.replace) == ("a", "/p", True)
    assert read_unload({"lora_name": "a"}) == "a"
    with pytest.raises(BodyRefused, match="lora_path"):
        read_load({"lora_name": "a"})
    with pytest.raises(BodyRefused, match="base_model_name"):
        read_load({"lora_name": "a", "lora_path": "/p", "base_model_name": "x"})


def test_a_choice_written_in_pieces_has_running_offsets_and_its_own_token_first() -> None:
    request = GenerationRequest("m", [1], 5, top_logprobs=1)
    writer = ChoiceWriter(0, request, Presentation(token_ids=True, tokens_as_ids=True), str)
    writer.add(GenerationChunk(0, "ab", [7], [TokenLogprob(7, -2.0, [TopLogprob(3, -0.5)])]))
    writer.add(GenerationChunk(0, "", [8], [TokenLogprob(8, -0.25, [TopLogprob(8, -0.25)])]))
    first = writer.write()
    assert first["text"] == "ab"
    assert first["token_ids"] == [7, 8]
    assert first["logprobs"]["tokens"] == ["token_id:7", "token_id:8"]
    assert first["logprobs"]["token_logprobs"] == [-2.0, -0.25]
    assert [list(row.items()) for row in first["logprobs"]["top_logprobs"]] == [
        [("token_id:7", -2.0), ("token_id:3", -0.5)],
        [("token_id:8", -0.25)],
    ]
    assert first["logprobs"]["text_offset"] == [0, 2]
    assert first["finish_reason"] is None
    writer.add(GenerationChunk(0, "c", [9], [TokenLogprob(9, -1.0)], "length"))
    second = writer.write()
    assert second["logprobs"]["text_offset"] == [2]
    assert second["finish_reason"] == "length"
