"""Runs whose examples begin with one long system prompt, on models with and without prefix trees."""

from __future__ import annotations

import json
import multiprocessing
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from run_events import events_of, steps_of
from torch.nn import functional
from transformers import AutoModelForCausalLM, BloomConfig, BloomForCausalLM, CohereConfig, CohereForCausalLM

from tailorbird.lm.lora import adapter_state
from tailorbird.protocol.training import (
    EVENTS_FILE,
    Finished,
    Started,
    TrainPlan,
)
from tailorbird.training.methods import load_method
from tailorbird.training.run import learning_rate, run
from tailorbird.training.trainee import Trainee

MakePlan = Callable[..., TrainPlan]

PROMPT = "You sell fruit. Answer with the name of the fruit and its price. Be brief, never guess, never greet anybody."


@pytest.fixture
def make_prompt_plan(make_plan: MakePlan, tmp_path: Path) -> MakePlan:
    """As `make_plan`, every row with the same system prompt of more than a hundred tokens."""

    def make(name: str = "run", **changes: Any) -> TrainPlan:
        plan = make_plan(name)
        rows = [json.loads(line) for line in Path(plan.training_file).read_text().splitlines()]
        for row in rows:
            row["messages"].insert(0, {"role": "system", "content": PROMPT})
        path = tmp_path / "prompted.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return make_plan(name, **({"training_file": str(path), "max_tokens": 250, "validation_file": None} | changes))

    return make


def plain_losses(plan: TrainPlan, steps: int) -> list[float]:
    """transformers, PEFT and torch's AdamW, one example at a time."""
    data = load_method(plan).data
    base = AutoModelForCausalLM.from_pretrained(plan.base_model)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = get_peft_model(base, LoraConfig(r=plan.lora_rank, lora_alpha=plan.lora_alpha, target_modules=targets))
    copy_start(model, plan)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, weight_decay=plan.weight_decay)
    losses: list[float] = []
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        batch: Any = data.batch(step)
        total = sum(len(example.positions) for example in batch)
        losses.append(0.0)
        for example in batch:
            logits = model(input_ids=torch.tensor([example.token_ids])).logits[0]
            targets_of = torch.tensor([example.token_ids[i] for i in example.positions])
            predicting = [i - 1 for i in example.positions]
            loss = functional.cross_entropy(logits[predicting], targets_of, reduction="sum") / total
            loss.backward()
            losses[-1] += loss.item()
        torch.nn.utils.clip_grad_norm_(parameters, plan.max_grad_norm)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(plan, step, data.total_steps)
        optimizer.step()
    return losses


def copy_start(model: PeftModel, plan: TrainPlan) -> None:
    state = adapter_state(Trainee.build(plan).model)
    stock = dict(model.named_parameters())
    with torch.no_grad():
        for name, pair in state.items():
            for side, tensor in zip("AB", pair, strict=True):
                stock[f"base_model.model.{name}.lora_{side}.default.weight"].copy_(tensor)


def test_twenty_steps_with_a_shared_prompt_follow_the_losses_of_peft(make_prompt_plan: MakePlan):
    plan = make_prompt_plan(n_epochs=4, batch_size=3)
    run(plan)
    expected = plain_losses(plan, 20)
    assert [step.metrics.train_loss for step in steps_of(plan)][:20] == pytest.approx(expected, rel=1e-4)
    assert expected[-1] < 0.8 * expected[0]


def test_the_first_and_the_last_event_say_how_the_work_was_cut_and_what_it_came_to(make_prompt_plan: MakePlan):
    plan = make_prompt_plan(n_epochs=1, micro_batch_tokens=4096)
    finished = run(plan)
    started = events_of(plan)[0]
    assert isinstance(started, Started)
    assert isinstance(finished, Finished)
    assert (started.computed_as, started.remarks) == ("trees", [])
    assert started.notes["step_computed_tokens"] < 0.7 * started.notes["step_tokens"]
    assert started.notes["pass_tokens"] == 4096
    assert started.notes["recompute"] == 0
    assert started.notes["expected_memory_mb"] > 10
    longest = 250 * 3
    assert 120 < started.notes["held_tokens"] < longest - 2 * 120  # the prompt counts once
    notes = finished.notes
    assert notes["peak_memory_mb"] > 10
    assert notes["examples_per_second"] > 0
    assert notes["target_tokens_per_second"] < notes["computed_tokens_per_second"]
    assert notes["computed_tokens_per_second"] < 0.7 * notes["given_tokens_per_second"]


def test_how_passes_are_cut_changes_losses_by_rounding_only(make_prompt_plan: MakePlan):
    small, large = make_prompt_plan("small", micro_batch_tokens=40), make_prompt_plan("large")
    for plan in (small, large):
        run(plan)
    losses = [[step.metrics.train_loss for step in steps_of(plan)] for plan in (small, large)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("method", ["supervised", "dpo"])
def test_a_model_outside_the_family_trains_by_its_own_code(
    make_plan: MakePlan, make_pair_plan: MakePlan, base_folder: Path, tmp_path: Path, method: str
):
    folder = tmp_path / "cohere"
    config = CohereConfig(
        vocab_size=259,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=256,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    CohereForCausalLM(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((base_folder / name).read_bytes())
    make = make_plan if method == "supervised" else make_pair_plan
    plan = make(base_model=str(folder), n_epochs=1)
    finished = run(plan)
    assert isinstance(finished, Finished)
    started = events_of(plan)[0]
    assert isinstance(started, Started)
    assert (started.computed_as, started.precision) == ("packs", "float32")
    assert started.remarks == [
        "common beginnings are computed once an example, as CohereForCausalLM runs through its own code"
    ]
    assert started.notes["step_tokens"] > 50
    assert finished.notes["computed_tokens_per_second"] == finished.notes["given_tokens_per_second"] > 0
    assert len(steps_of(plan)) == 5


def test_a_model_whose_documents_cannot_stand_side_by_side_is_padded_and_says_so(
    make_plan: MakePlan, base_folder: Path, tmp_path: Path
):
    folder = tmp_path / "bloom"
    torch.manual_seed(0)
    BloomForCausalLM(BloomConfig(vocab_size=259, hidden_size=32, n_layer=1, n_head=2)).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((base_folder / name).read_bytes())
    plan = make_plan(base_model=str(folder), n_epochs=1)
    finished = run(plan)
    assert isinstance(finished, Finished)
    started = events_of(plan)[0]
    assert isinstance(started, Started)
    assert started.computed_as == "padded"
    assert started.remarks[-1] == "examples are padded, as its attention cannot be told where a document ends"


@pytest.mark.slow
def test_ten_kills_in_a_run_with_a_shared_prompt_change_no_bit(make_prompt_plan: MakePlan):
    settings = {"n_epochs": 40, "save_every": 7, "micro_batch_tokens": 150}
    undisturbed, killed = make_prompt_plan("undisturbed", **settings), make_prompt_plan("killed", **settings)
    whole = run(undisturbed)
    source = random.Random(3)
    trainers = multiprocessing.get_context("forkserver")
    trainers.set_forkserver_preload(["tailorbird.training.run", "transformers.models.llama.modeling_llama"])
    path = Path(killed.run_folder) / EVENTS_FILE
    reached = 0
    for _ in range(10):
        process = trainers.Process(target=run, args=(killed,))
        process.start()
        reached += source.randint(9, 18)
        deadline = time.monotonic() + 300
        while not path.exists() or path.read_bytes().count(b'"kind":"step"}\n') < reached:
            assert process.is_alive(), "the run was over before the test could disturb it"
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    resumed = run(killed)
    assert isinstance(whole, Finished)
    assert isinstance(resumed, Finished)
    assert sum(event.kind == "started" for event in events_of(killed)) == 11
    assert steps_of(killed) == steps_of(undisturbed)
    weights = "adapter_model.safetensors"
    assert (Path(resumed.adapter_path) / weights).read_bytes() == (Path(whole.adapter_path) / weights).read_bytes()
    assert Path(resumed.results_path).read_bytes() == Path(whole.results_path).read_bytes()
