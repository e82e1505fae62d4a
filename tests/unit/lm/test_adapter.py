from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn

from tailorbird.lm import adapter as adapter_module
from tailorbird.lm.adapter import CONFIG_FILE, WEIGHTS_FILE, AdapterError, load_adapter, save_adapter
from tailorbird.lm.loading import load_base
from tailorbird.lm.lora import (
    LoraPair,
    LoraSpec,
    adapter_state,
    all_linear,
    attach,
    load_adapter_state,
    lora_parameters,
)

PROMPT = torch.tensor([[5, 17, 3, 80, 41, 2]])
NAME = "model.layers.0.self_attn.q_proj"
SPEC = LoraSpec(2, 4, ("q_proj",))


def pairs(seed: int = 0) -> dict[str, LoraPair]:
    generator = torch.Generator().manual_seed(seed)
    return {NAME: (torch.randn(2, 6, generator=generator), torch.randn(5, 2, generator=generator))}


def trained_model(folder: Path):
    """A model whose adapter is away from its start, as after training."""
    model = load_base(folder, dtype=torch.float32)
    spec = all_linear(model, rank=4, alpha=8)
    attach(model, spec, 1)
    torch.manual_seed(3)
    for parameter in lora_parameters(model):
        nn.init.normal_(parameter, std=0.1)
    return model, spec


def test_what_is_saved_is_what_is_loaded(tmp_path: Path):
    save_adapter(tmp_path / "a", pairs(), SPEC, "weaver")
    loaded = load_adapter(tmp_path / "a")
    assert loaded.spec == SPEC
    assert list(loaded.tensors) == [NAME]
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(pairs()[NAME], loaded.tensors[NAME], strict=True))


def test_peft_reads_our_adapter_and_computes_the_same(llama_folder: Path, tmp_path: Path):
    model, spec = trained_model(llama_folder)
    save_adapter(tmp_path / "a", adapter_state(model), spec, "weaver")
    theirs = PeftModel.from_pretrained(load_base(llama_folder, dtype=torch.float32), str(tmp_path / "a"))
    torch.testing.assert_close(theirs(PROMPT).logits, model(PROMPT).logits, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(load_base(llama_folder, dtype=torch.float32)(PROMPT).logits, model(PROMPT).logits)


def test_we_read_an_adapter_of_peft_and_compute_the_same(llama_folder: Path, tmp_path: Path):
    config = LoraConfig(r=3, lora_alpha=6, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
    theirs = get_peft_model(load_base(llama_folder, dtype=torch.float32), config).eval()
    theirs.save_pretrained(str(tmp_path / "a"))
    loaded = load_adapter(tmp_path / "a")
    assert loaded.spec == LoraSpec(3, 6, ("q_proj", "up_proj"))
    model = load_base(llama_folder, dtype=torch.float32)
    attach(model, loaded.spec, 0)
    load_adapter_state(model, loaded.tensors)
    torch.testing.assert_close(model(PROMPT).logits, theirs(PROMPT).logits, rtol=1e-5, atol=1e-6)


def test_a_second_save_replaces_the_first_and_leaves_nothing_beside_it(tmp_path: Path):
    (tmp_path / ".a.new").mkdir()  # of a killed process
    save_adapter(tmp_path / "a", pairs(0), SPEC, "weaver")
    save_adapter(tmp_path / "a", pairs(1), SPEC, "weaver")
    assert torch.equal(load_adapter(tmp_path / "a").tensors[NAME][0], pairs(1)[NAME][0])
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_save_that_fails_leaves_the_old_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save_adapter(tmp_path / "a", pairs(0), SPEC, "weaver")

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(adapter_module, "save_file", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_adapter(tmp_path / "a", pairs(1), SPEC, "weaver")
    assert torch.equal(load_adapter(tmp_path / "a").tensors[NAME][0], pairs(0)[NAME][0])


def edit_config(**changes: object) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        config = json.loads((folder / CONFIG_FILE).read_text())
        (folder / CONFIG_FILE).write_text(json.dumps(config | changes))

    return damage


def edit_tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS_FILE)
        change(tensors)
        save_file(tensors, folder / WEIGHTS_FILE)

    return damage


KEY = f"base_model.model.{NAME}"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / CONFIG_FILE).unlink(), r"adapter_config\.json: No such file"),
        (lambda folder: (folder / WEIGHTS_FILE).unlink(), r"adapter_model\.safetensors: No such file"),
        (lambda folder: (folder / CONFIG_FILE).write_text("{"), r"adapter_config\.json: not JSON"),
        (lambda folder: (folder / WEIGHTS_FILE).write_bytes(b"torn"), r"adapter_model\.safetensors: "),
        (edit_config(peft_type="IA3"), "peft_type must be LORA"),
        (edit_config(use_dora=True), "use_dora is not supported"),
        (edit_config(rank_pattern={"q_proj": 3}), "rank_pattern is not supported"),
        (edit_config(bias="all"), "bias 'all' is not supported"),
        (edit_config(r=3), r"A \[2, 6\] and B \[5, 2\]; adapter_config\.json says rank 3"),
        (edit_config(r="2"), "r and lora_alpha must be whole numbers"),
        (edit_tensors(lambda tensors: tensors.pop(f"{KEY}.lora_B.weight")), r"q_proj\.lora_B\.weight is missing"),
        (edit_tensors(lambda tensors: tensors.update(other=torch.ones(1))), "other is not the name of a LoRA tensor"),
        (edit_tensors(lambda tensors: tensors.clear()), "holds no tensors"),
    ],
)
def test_a_damaged_folder_is_refused_with_file_and_reason(tmp_path: Path, damage: Callable[[Path], None], reason: str):
    save_adapter(tmp_path / "a", pairs(), SPEC, "weaver")
    damage(tmp_path / "a")
    with pytest.raises(AdapterError, match=reason):
        load_adapter(tmp_path / "a")
