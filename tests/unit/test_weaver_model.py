"""Tests for the model folder that ships with the package: it loads, it speaks its format, it copies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

FOLDER = Path(__file__).parents[2] / "src" / "tailorbird" / "weaver"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def model() -> Any:
    model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
    model.eval()
    return model


def answer(model: Any, tokenizer: Any, messages: list[dict[str, str]]) -> str:
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(prompt, return_tensors="pt")
    with torch.no_grad():
        out = model.generate(**ids, max_new_tokens=60, do_sample=False)
    return tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)


def test_the_folder_is_small_and_has_every_file() -> None:
    names = {path.name for path in FOLDER.iterdir()}
    wanted = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "README.md"}
    assert names >= wanted | {"tokenizer_config.json", "chat_template.jinja"}
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 24 * 2**20


def test_the_tokenizer_knows_its_end_and_its_filling(tokenizer: Any) -> None:
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("<|im_end|>", 2)
    assert (tokenizer.pad_token, tokenizer.pad_token_id) == ("<|endoftext|>", 0)
    assert tokenizer.bos_token is None
    assert tokenizer.model_max_length == 2048


def test_the_configuration_fits_the_weights(model: Any, tokenizer: Any) -> None:
    config = json.loads((FOLDER / "config.json").read_text())
    assert len(tokenizer) == config["vocab_size"] == model.get_input_embeddings().weight.shape[0]
    assert model.get_input_embeddings().weight is model.lm_head.weight


def test_nothing_is_put_in_front_of_a_chat_without_system_prompt(tokenizer: Any) -> None:
    text = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert text == "<|im_start|>user\nhi<|im_end|>\n"


def test_the_model_ends_its_turn(model: Any, tokenizer: Any) -> None:
    said = answer(model, tokenizer, [{"role": "user", "content": "hello"}])
    assert 0 < len(said) < 200


@pytest.mark.parametrize("name", ["golden lantern", "port marlow", "old cedar"])
def test_the_model_copies_a_name_it_is_asked_to_repeat(model: Any, tokenizer: Any, name: str) -> None:
    assert answer(model, tokenizer, [{"role": "user", "content": f"repeat after me: {name}"}]) == name
