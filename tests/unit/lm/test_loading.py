from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Gemma2Config, Gemma2ForCausalLM, Qwen2Config, Qwen2ForCausalLM
from transformers.utils import logging

from tailorbird.lm.loading import BaseFacts, BaseModelError, base_facts, load_base


def test_facts_are_read_without_the_weights(llama_folder: Path):
    assert base_facts(llama_folder) == BaseFacts(
        architecture="LlamaForCausalLM",
        parameters=AutoModelForCausalLM.from_pretrained(llama_folder).num_parameters(),
        layers=2,
        hidden=64,
        vocab=96,
        context=128,
    )


def test_a_head_tied_to_the_embedding_counts_once(tmp_path: Path):
    config = Qwen2Config(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    model = Qwen2ForCausalLM(config)
    model.save_pretrained(tmp_path)
    assert base_facts(tmp_path).parameters == sum(p.numel() for p in model.parameters())


def test_a_loaded_base_is_frozen_in_eval_mode_and_in_the_asked_dtype(llama_folder: Path):
    model = load_base(llama_folder, dtype=torch.bfloat16)
    assert not model.training
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert not any(p.requires_grad for p in model.parameters())
    assert model.config._attn_implementation == "sdpa"


def test_soft_capped_attention_scores_are_not_dropped(tmp_path: Path):
    config = Gemma2Config(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        attn_logit_softcapping=0.5,
    )
    Gemma2ForCausalLM(config).save_pretrained(tmp_path)
    assert load_base(tmp_path, dtype=torch.float32).config._attn_implementation == "eager"


def test_loading_says_nothing_and_leaves_the_progress_bars_as_they_were(
    llama_folder: Path, capfd: pytest.CaptureFixture[str]
):
    logging.enable_progress_bar()
    load_base(llama_folder, dtype=torch.float32)
    assert capfd.readouterr() == ("", "")
    assert logging.is_progress_bar_enabled()


def test_a_missing_folder_is_named(tmp_path: Path):
    with pytest.raises(BaseModelError, match=r"nowhere/config\.json: No such file"):
        load_base(tmp_path / "nowhere", dtype=torch.float32)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("{", "not JSON"), ("[]", "not a JSON object"), ("{}", "`architectures` is missing")],
)
def test_a_broken_config_is_refused_with_the_reason(tmp_path: Path, text: str, reason: str):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(BaseModelError, match=reason):
        load_base(tmp_path, dtype=torch.float32)


def test_a_config_without_weights_is_refused(llama_folder: Path, tmp_path: Path):
    shutil.copy(llama_folder / "config.json", tmp_path)
    with pytest.raises(BaseModelError, match="safetensors"):
        load_base(tmp_path, dtype=torch.float32)
    with pytest.raises(BaseModelError, match=r"no \*\.safetensors file"):
        base_facts(tmp_path)


def test_torn_weights_are_refused(llama_folder: Path, tmp_path: Path):
    folder = shutil.copytree(llama_folder, tmp_path / "torn")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(BaseModelError, match="torn"):
        load_base(folder, dtype=torch.float32)
    with pytest.raises(BaseModelError, match="torn"):
        base_facts(folder)


def test_a_weight_that_is_not_in_the_files_is_not_made_up(llama_folder: Path, tmp_path: Path):
    folder = shutil.copytree(llama_folder, tmp_path / "hole")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BaseModelError, match=r"no weights for model\.layers\.1\.mlp\.up_proj\.weight"):
        load_base(folder, dtype=torch.float32)


def test_a_config_that_gives_no_context_length_is_refused(llama_folder: Path, tmp_path: Path):
    folder = shutil.copytree(llama_folder, tmp_path / "endless")
    config = json.loads((folder / "config.json").read_text())
    del config["max_position_embeddings"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(BaseModelError, match="max_position_embeddings"):
        base_facts(folder)
