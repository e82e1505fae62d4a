"""The loss of pairs and its gradients, against a plain computation with transformers and PEFT."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from tailorbird.lm.adapter import save_adapter
from tailorbird.lm.loading import load_base
from tailorbird.lm.lora import adapter_state, all_linear, attach, lora_layers, lora_parameters
from tailorbird.training import preferences
from tailorbird.training.batches import Example, Pair
from tailorbird.training.preferences import accumulate_pair_gradients, evaluate_pairs, pair_logprobs, with_references
from tailorbird.training.turns import Stopwatch, to_the_end

VOCAB = 97
BETA = 0.3


def some_pairs(count: int = 5) -> list[Pair]:
    """Outputs of unequal lengths after a common prompt, one of them of two turns."""
    source = random.Random(4)

    def tokens(least: int, most: int) -> list[int]:
        return [source.randrange(VOCAB) for _ in range(source.randint(least, most))]

    def side(line: int, prompt: list[int]) -> Example:
        ids, positions = list(prompt), list[int]()
        for _ in range(1 + line % 2):
            answer = tokens(1, 9)
            positions += range(len(ids), len(ids) + len(answer))
            ids += answer + tokens(0, 3)
        return Example(line, tuple(ids), tuple(positions), (1.0,) * len(positions))

    pairs: list[Pair] = []
    for line in range(1, count + 1):
        prompt = tokens(2, 12)
        pairs.append(Pair(line, side(line, prompt), side(line, prompt)))
    return pairs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llama")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.2,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    return path


def adapted(folder: Path, seed: int | None = None) -> PreTrainedModel:
    """The model with a fresh adapter, or with one moved by `seed` so that A has a gradient too."""
    model = load_base(folder, dtype=torch.float32)
    attach(model, all_linear(model, rank=4, alpha=8), 1)
    if seed is not None:
        torch.manual_seed(seed)
        for layer in lora_layers(model).values():
            nn.init.normal_(layer.lora_b, std=0.1)
    return model


def referenced(model: PreTrainedModel, pairs: list[Pair], run_folder: Path, limit: int = 60) -> list[Pair]:
    logprobs = partial(pair_logprobs, model, token_limit=limit)
    turns = with_references(logprobs, pairs, run_folder, "f", stop_requested=lambda: False, watch=Stopwatch())
    found = to_the_end(turns)
    assert found is not None
    return found


def plain_logprob(model: nn.Module, example: Example) -> torch.Tensor:
    """The summed log-probability of the trained tokens, the example alone and whole."""
    logits = model(input_ids=torch.tensor([example.token_ids])).logits[0]
    logprobs = functional.log_softmax(logits.float(), dim=-1)
    return torch.stack([logprobs[i - 1, example.token_ids[i]] for i in example.positions]).sum()


@pytest.mark.parametrize("start", [None, 7], ids=["fresh adapter", "continued adapter"])
def test_loss_rewards_and_gradients_equal_a_plain_computation_with_transformers_and_peft(
    folder: Path, tmp_path: Path, start: int | None
):
    begun, model, pairs = adapted(folder, start), adapted(folder, 2), some_pairs()
    spec = all_linear(load_base(folder, dtype=torch.float32), rank=4, alpha=8)
    for name, side in (("begun", begun), ("moved", model)):
        save_adapter(tmp_path / name, adapter_state(side), spec, "")

    def peft(name: str) -> nn.Module:
        base = load_base(folder, dtype=torch.float32)
        return PeftModel.from_pretrained(base, str(tmp_path / name), is_trainable=True)

    reference, trained = peft("begun"), peft("moved")
    losses: list[torch.Tensor] = []
    margins: list[float] = []
    for pair in pairs:
        with torch.no_grad():
            ref = plain_logprob(reference, pair.preferred) - plain_logprob(reference, pair.non_preferred)
        margin = BETA * (plain_logprob(trained, pair.preferred) - plain_logprob(trained, pair.non_preferred) - ref)
        losses.append(-torch.log(torch.sigmoid(margin)))
        margins.append(margin.item())
    loss = torch.stack(losses).mean()
    loss.backward()

    known = referenced(begun, pairs, tmp_path)
    score = accumulate_pair_gradients(model, known, beta=BETA, token_limit=80)
    assert score.nll / score.pairs == pytest.approx(loss.item(), rel=1e-5)
    assert score.margin / score.pairs == pytest.approx(sum(margins) / len(margins), rel=1e-4, abs=1e-5)
    assert 0 < score.right == sum(margin > 0 for margin in margins) < len(pairs)
    theirs = dict(trained.named_parameters())
    for name, layer in lora_layers(model).items():
        for letter, mine in (("lora_A", layer.lora_a), ("lora_B", layer.lora_b)):
            gradient = theirs[f"base_model.model.{name}.{letter}.default.weight"].grad
            assert gradient is not None
            assert mine.grad is not None
            assert (mine.grad - gradient).norm() <= 1e-4 * gradient.norm(), name


def test_a_run_starts_at_log_2_with_no_margin(folder: Path, tmp_path: Path):
    model = adapted(folder)
    score = evaluate_pairs(model, referenced(model, some_pairs(), tmp_path), beta=BETA, token_limit=60)
    assert score.nll / score.pairs == pytest.approx(math.log(2), rel=1e-6)
    assert score.margin / score.pairs == pytest.approx(0, abs=1e-5)


def test_how_a_batch_is_cut_does_not_change_its_gradient(folder: Path, tmp_path: Path):
    known = referenced(adapted(folder), some_pairs(), tmp_path)
    gradients: list[torch.Tensor] = []
    for limit in (1, 90, 10_000):
        model = adapted(folder, 2)
        accumulate_pair_gradients(model, known, beta=BETA, token_limit=limit)
        parameters = lora_parameters(model)
        gradients.append(torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]))
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(gradients[2], gradients[0], rtol=1e-4, atol=1e-6)


def test_accuracy_is_of_the_preferred_side_alone(folder: Path, tmp_path: Path):
    model = load_base(folder, dtype=torch.float32)
    best = int(model(torch.tensor([[5, 6, 7]])).logits[0, -1].argmax())
    right = Example(1, (5, 6, 7, best), (3,), (1.0,))
    wrong = Example(1, (5, 6, 7, (best + 1) % VOCAB), (3,), (1.0,))
    for preferred, other, expected in ((right, wrong, 1.0), (wrong, right, 0.0)):
        pair = Pair(1, preferred, other, (0.0, 0.0))
        score = evaluate_pairs(model, [pair], beta=BETA, token_limit=60)
        assert (score.correct / score.weight, score.weight) == (expected, 1.0)


def test_evaluation_gives_the_training_score_and_no_gradient(folder: Path, tmp_path: Path):
    known, model = referenced(adapted(folder), some_pairs(), tmp_path), adapted(folder, 2)
    score = evaluate_pairs(model, known, beta=BETA, token_limit=90)
    assert all(parameter.grad is None for parameter in lora_parameters(model))
    assert score == accumulate_pair_gradients(model, known, beta=BETA, token_limit=90)


def test_an_unknown_reference_gives_no_number(folder: Path):
    assert math.isnan(evaluate_pairs(adapted(folder), some_pairs(), beta=BETA, token_limit=60).nll)


def test_references_are_read_back_bit_for_bit_without_a_model(folder: Path, tmp_path: Path):
    pairs = some_pairs()
    first = referenced(adapted(folder), pairs, tmp_path)
    assert [(p.preferred, p.non_preferred) for p in first] == [(p.preferred, p.non_preferred) for p in pairs]
    moved = adapted(folder, 2)
    assert referenced(moved, pairs, tmp_path) == first
    assert referenced(moved, [*pairs[1:], pairs[0]], tmp_path) != [*first[1:], first[0]]  # other pairs, computed anew


def test_lines_of_the_same_number_in_two_files_keep_their_own_reference(folder: Path, tmp_path: Path):
    training, other = some_pairs(4)[:2], [replace(pair, line=line) for line, pair in enumerate(some_pairs(4)[2:], 1)]
    model = adapted(folder)
    (tmp_path / "alone").mkdir()
    alone = referenced(model, other, tmp_path / "alone")
    both = referenced(model, [*training, *other], tmp_path)
    assert both[2].reference == pytest.approx(alone[0].reference, abs=1e-4)
    assert both[0].reference != pytest.approx(alone[0].reference, abs=1e-4)


def test_a_stopped_reference_goes_on_where_it_stood(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(preferences, "_CHUNK", 2)
    pairs, model = some_pairs(), adapted(folder)
    (tmp_path / "whole").mkdir()
    whole = referenced(model, pairs, tmp_path / "whole")
    answers = iter([False, False, True])
    logprobs = partial(pair_logprobs, model, token_limit=60)
    turns = with_references(logprobs, pairs, tmp_path, "f", stop_requested=lambda: next(answers), watch=Stopwatch())
    assert to_the_end(turns) is None
    (path,) = (tmp_path / "state").iterdir()
    assert len(json.loads(path.read_text())["logprobs"]) == 4
    assert referenced(model, pairs, tmp_path) == whole


@pytest.mark.parametrize("broken", ["", "{", '{"fingerprint": 1}', "[]"])
def test_an_unreadable_reference_is_computed_again(folder: Path, tmp_path: Path, broken: str):
    pairs, model = some_pairs(2), adapted(folder)
    known = referenced(model, pairs, tmp_path)
    (path,) = (tmp_path / "state").iterdir()
    path.write_text(broken)
    assert referenced(model, pairs, tmp_path) == known
