"""A base model folder that trains in milliseconds: two layers, 64 wide, one token a byte, a ChatML template."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

from tailorbird.dataset.render import Renderer
from tailorbird.protocol.training import TrainPlan

TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
FRUITS = ["apple", "banana", "cherry", "damson", "elder", "fig", "grape", "hazel", "iris", "kiwi", "lemon"]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small only wait for their second thread, for seconds when the machine is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write_tokenizer(folder: Path) -> int:
    """One token a byte and three special ones; returns the size of the vocabulary."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>", "<|endoftext|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": 256,
        "chat_template": TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return tokenizer.get_vocab_size()


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    folder.mkdir()
    config = LlamaConfig(
        vocab_size=write_tokenizer(folder),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.2,  # a frozen head of tiny numbers would let no adapter learn anything
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def write_rows(path: Path, count: int, *, start: int = 0) -> Path:
    rows: list[dict[str, Any]] = []
    for i in range(start, start + count):
        fruit = FRUITS[i % len(FRUITS)]
        question = f"Price of {i} {fruit}?" + " Please." * (i % 3)
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": f"{fruit} {i * 7}"}]
        rows.append({"messages": messages})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_pairs(path: Path, count: int, *, start: int = 0) -> Path:
    rows: list[dict[str, Any]] = []
    for i in range(start, start + count):
        fruit = FRUITS[i % len(FRUITS)]
        asked = [{"role": "system", "content": "Prices."}, {"role": "user", "content": f"Price of {fruit}?"}]
        good, bad = f"{fruit} {i * 7}", "No idea." + " Sorry." * (i % 3)
        rows.append(
            {
                "input": {"messages": asked},
                "preferred_output": [{"role": "assistant", "content": good}],
                "non_preferred_output": [{"role": "assistant", "content": bad}],
            }
        )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def make_pair_plan(make_plan: Callable[..., TrainPlan], tmp_path: Path) -> Callable[..., TrainPlan]:
    """As `make_plan`, over 14 training pairs and 5 validation pairs."""

    def make(name: str = "run", **changes: Any) -> TrainPlan:
        files = {
            "training_file": str(write_pairs(tmp_path / "train_pairs.jsonl", 14)),
            "validation_file": str(write_pairs(tmp_path / "valid_pairs.jsonl", 5, start=50)),
        }
        return make_plan(name, **({**files, "method": "dpo", "micro_batch_tokens": 400} | changes))

    return make


@pytest.fixture
def make_plan(base_folder: Path, tmp_path: Path) -> Callable[..., TrainPlan]:
    """A plan over 14 training rows (5 steps an epoch, the last one short) and 5 validation rows, in its own folder."""

    def make(name: str = "run", **changes: Any) -> TrainPlan:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        plan: dict[str, Any] = {
            "job_id": "ftjob-1",
            "run_folder": str(folder),
            "base_model": str(base_folder),
            "training_file": str(write_rows(tmp_path / "train.jsonl", 14)),
            "validation_file": str(write_rows(tmp_path / "valid.jsonl", 5, start=50)),
            "n_epochs": 2,
            "batch_size": 3,
            "learning_rate": 0.01,
            "seed": 105,
            "max_tokens": 200,
            "template_hash": Renderer.from_folder(base_folder).template_hash,
            "lora_rank": 4,
            "lora_alpha": 8,
            "save_every": 2,
            "micro_batch_tokens": 120,
            "threads": 1,
        }
        return TrainPlan(**(plan | changes))

    return make


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of 61 tokens, large enough apart that losses differ in every digit."""
    path = tmp_path_factory.mktemp("llama")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=61,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    return path
