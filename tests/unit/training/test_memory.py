from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tailorbird.lm.lora import LoraSpec, attach
from tailorbird.training.batches import Example
from tailorbird.training.decoder.family import Decoder
from tailorbird.training.decoder.tree import Forest, grow
from tailorbird.training.memory import available_memory, plan_memory, resident_memory


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    config = LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2
    )
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    attach(model, LoraSpec(2, 4, ("q_proj", "down_proj")), 0)
    found = Decoder.of(model, longest=5000)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def forest() -> Forest:
    """A prompt of 200 tokens and ten answers of 100."""
    prompt = (1,) * 200
    return grow([Example(i, (*prompt, *([i + 2] * 101)), (300,), (1.0,)) for i in range(10)])


def test_with_room_nothing_is_cut(decoder: Decoder, forest: Forest):
    plan = plan_memory(decoder, [forest], limit=4096, available=1 << 40, resident=1000)
    assert (plan.limit, plan.held, plan.recompute, plan.fits) == (4096, 1200, False, True)
    assert plan.peak >= 1000 + 1200 * decoder.bytes_per_token
    assert plan_memory(decoder, [forest], limit=4096, available=None, resident=0).fits


def test_passes_are_halved_until_they_fit(decoder: Decoder, forest: Forest):
    needed = plan_memory(decoder, [forest], limit=512, available=None, resident=0).peak
    plan = plan_memory(decoder, [forest], limit=4096, available=int(needed / 0.9) + 1, resident=0)
    assert (plan.limit, plan.recompute, plan.fits, plan.peak) == (512, False, True, needed)
    assert plan.held == 200 + 500  # the prompt and five answers


def test_layers_are_computed_twice_when_the_smallest_passes_do_not_fit(decoder: Decoder, forest: Forest):
    needed = plan_memory(decoder, [forest], limit=128, available=None, resident=0).peak
    tight = plan_memory(decoder, [forest], limit=4096, available=int(needed / 0.9) - 10, resident=0)
    assert (tight.limit, tight.recompute, tight.fits) == (128, True, True)
    assert tight.peak < needed
    assert not plan_memory(decoder, [forest], limit=4096, available=10, resident=0).fits


def test_a_token_takes_the_bytes_its_tensors_take(decoder: Decoder):
    """A layer: 2 x 16 of the stream, of queries and of keys, 48 of gate and up, 4 of the pairs, 2 norms."""
    assert decoder.bytes_per_token == 2 * (32 + 32 + 32 + 48 + 4 + 2) * 4
    assert decoder.dtype == torch.float32


def test_the_container_may_leave_less_than_the_machine(tmp_path: Path):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  9 kB\nMemAvailable:    2048 kB\n")
    assert available_memory(meminfo, tmp_path) == 2 << 20
    (tmp_path / "memory.max").write_text("3000000\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    assert available_memory(meminfo, tmp_path) == 2_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory(meminfo, tmp_path) == 2 << 20
    assert available_memory(tmp_path / "none", tmp_path / "none") is None


def test_resident_memory_is_that_of_this_process(tmp_path: Path):
    (tmp_path / "status").write_text("Name: x\nVmRSS:\t  512 kB\n")
    assert resident_memory(tmp_path / "status") == 512 << 10
    assert resident_memory(tmp_path / "none") == 0
