"""A tokenizer folder read without transformers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from tailorbird.dataset.render import Renderer, RenderError


def test_tokens_are_shown_as_text_and_bytes(folders: dict[str, Path]) -> None:
    renderer = Renderer.from_folder(folders["chatml"])
    ids = renderer.encode("🐦<|im_end|>")
    assert b"".join(map(renderer.token_bytes, ids)) == "🐦<|im_end|>".encode()
    assert renderer.token_text(ids[-1]) == "<|im_end|>"
    assert renderer.token_text(ids[0]) == "\ufffd"
    with pytest.raises(IndexError):
        renderer.token_bytes(renderer.vocab_size)


def test_special_tokens_that_only_the_config_knows_are_added_as_in_transformers(
    make_folder: Callable[..., Path],
) -> None:
    decoder = {"500": {"content": "<|late|>", "lstrip": False, "rstrip": False, "normalized": False,
                       "single_word": False, "special": True}}  # fmt: skip
    for config in (
        {"extra_special_tokens": ["<|x|>"], "sep_token": "<|sep|>"},
        {"additional_special_tokens": ["<|x|>"], "image_token": "<|image|>"},
        {"extra_special_tokens": {"image_token": "<|image|>"}},
        {"added_tokens_decoder": decoder, "eos_token": "<|late|>"},
        {"eos_token": {"__type": "AddedToken", "content": "<|dict|>", "lstrip": False, "normalized": False}},
    ):
        folder = make_folder("chatml", **config)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = PreTrainedTokenizerFast.from_pretrained(folder)
        renderer = Renderer.from_folder(folder)
        text = "a<|x|>b<|sep|> <|image|><|late|><|dict|>"
        assert renderer.encode(text) == theirs(text, add_special_tokens=False)["input_ids"], config
        assert renderer.vocab_size == len(theirs)


def test_a_folder_without_fast_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RenderError, match=r"tokenizer\.json"):
        Renderer.from_folder(tmp_path)
