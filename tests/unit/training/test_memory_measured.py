"""What a batch really takes, in a process of its own, against what the planner said before."""

from __future__ import annotations

import multiprocessing
import random
from multiprocessing.queues import Queue
from pathlib import Path

import pytest

_MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "67108864",
    "OMP_NUM_THREADS": "1",
}
"""As the worker starts the trainer."""

VOCAB = 2000


def measure(prompt: int, count: int, hidden: int, answers: Queue[tuple[int, int, int]]) -> None:
    """Puts bytes: before the batch, the planner's estimate, the peak."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tailorbird.lm.lora import all_linear, attach, lora_parameters
    from tailorbird.training.batches import Example
    from tailorbird.training.decoder.family import Decoder
    from tailorbird.training.decoder.tree import grow
    from tailorbird.training.memory import plan_memory, resident_memory
    from tailorbird.training.shared import Shared

    torch.set_num_threads(1)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=hidden,
        intermediate_size=5 * hidden // 2,
        num_hidden_layers=4,
        num_attention_heads=hidden // 32,
        num_key_value_heads=hidden // 96,
    )
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    attach(model, all_linear(model, rank=16, alpha=32), 0)
    decoder = Decoder.of(model, longest=8192)
    assert decoder is not None
    shared = Shared(decoder, lora_parameters(model), limit=4096)
    draw = random.Random(0)
    system = tuple(draw.randrange(VOCAB) for _ in range(prompt))
    examples: list[Example] = []
    for line in range(count):
        asked, answer = (int(draw.lognormvariate(mean, 0.5)) + 1 for mean in (4.1, 4.7))
        ids = system + tuple(draw.randrange(VOCAB) for _ in range(asked + answer))
        examples.append(Example(line, ids, tuple(range(prompt + asked, len(ids))), (1.0,) * answer))
    before = resident_memory()
    plan = plan_memory(decoder, [grow(examples)], limit=4096, available=None, resident=before)
    shared.limit = plan.limit
    shared.accumulate(examples)
    high = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    answers.put((before, plan.peak, int(high.split()[1]) * 1024))


def measured(prompt: int, count: int, hidden: int, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int, int]:
    if not Path("/proc/self/status").is_file():
        pytest.skip("this system does not tell the peak of a process")
    for name, value in _MALLOC.items():
        monkeypatch.setenv(name, value)
    processes = multiprocessing.get_context("spawn")
    answers = processes.Queue()
    process = processes.Process(target=measure, args=(prompt, count, hidden, answers))
    process.start()
    found = answers.get(timeout=1800)
    process.join()
    return found


def test_a_batch_takes_about_the_memory_that_was_planned(monkeypatch: pytest.MonkeyPatch):
    before, planned, peak = measured(1024, 24, 96, monkeypatch)
    assert planned - before > 50 << 20
    assert 0.6 < (peak - before) / (planned - before) < 1.15
    assert 0.9 < peak / planned < 1.1


@pytest.mark.slow
def test_512_examples_with_a_prompt_of_2048_tokens_stay_within_a_tenth_of_the_plan(monkeypatch: pytest.MonkeyPatch):
    before, planned, peak = measured(2048, 512, 192, monkeypatch)
    assert planned - before > 200 << 20
    assert 0.9 < peak / planned < 1.1
    assert 0.8 < (peak - before) / (planned - before) < 1.25
