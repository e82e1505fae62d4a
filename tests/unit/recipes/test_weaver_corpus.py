"""Tests for the corpus, the tokenizer's rules and the batches of the Weaver recipe."""

from __future__ import annotations

import json
from functools import cache
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import jinja2
import jinja2.sandbox
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from recipes.weaver import batching, vocabulary
from recipes.weaver.corpus import documents
from recipes.weaver.databases import database, named_database
from recipes.weaver.documents import Document, Turn, spans
from recipes.weaver.network import Network, Shape, initial
from recipes.weaver.optimizer import orthogonal
from recipes.weaver.pretrain import Options, rate, run
from recipes.weaver.questions import question

MODEL = Path(__file__).parents[3] / "src" / "tailorbird" / "weaver"
RECIPE = Path(__file__).parents[3] / "recipes" / "weaver"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(MODEL / "tokenizer.json"))


@pytest.fixture(scope="module")
def some() -> list[Document]:
    return list(islice(documents(5), 150))


def text(document: Document) -> str:
    return "".join(piece for piece, _ in spans(document))


@cache
def template() -> jinja2.Template:
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.from_string((RECIPE / "chat_template.jinja").read_text())


def rendered(document: Document) -> str:
    messages = [turn.message() for turn in document.turns]
    return template().render(messages=messages, tools=list(document.tools) or None, add_generation_prompt=False)


def test_the_same_seed_gives_the_same_documents_and_another_seed_others() -> None:
    first, again, other = (list(map(text, islice(documents(seed), 50))) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_the_stream_can_be_entered_in_the_middle() -> None:
    assert list(islice(documents(3), 10, 20)) == list(islice(documents(3, start=10), 10))


def test_documents_do_not_come_twice() -> None:
    texts = [text(document) for document in islice(documents(4), 2000)]
    # Very short ones (a hello, a sum) may meet by chance.
    assert len(set(texts)) > 0.97 * len(texts)


def test_corpus_text_is_what_the_chat_template_renders(some: list[Document]) -> None:
    chats = [document for document in some if document.turns]
    assert any(document.tools for document in chats)
    for document in chats:
        assert text(document) == rendered(document) + "<|endoftext|>"


def test_the_template_keeps_the_first_messages_a_prefix_of_all(some: list[Document]) -> None:
    for document in some[:25]:
        for count in range(1, len(document.turns)):
            head = Document(document.kind, document.turns[:count], tools=document.tools)
            assert rendered(document).startswith(rendered(head))


def test_the_template_takes_arguments_as_text_as_the_wire_sends_them() -> None:
    call = {"name": "find", "arguments": '{"city": "Zürich"}'}
    document = Document("tool call", (Turn("assistant", None, tool_calls=(call,)),))
    assert '{"name": "find", "arguments": {"city": "Zürich"}}' in rendered(document)


def test_quoted_literals_of_a_query_stand_in_its_question() -> None:
    rng = Random(7)
    for _ in range(200):
        base = database(rng)
        asked = question(base, rng)
        pieces = asked.query.split(base.dialect.quote)
        for literal in pieces[1::2]:
            bare = literal.strip("%").replace("''", "'").lower()
            assert bare in asked.question.lower() or base.dialect.quote == "'"


def test_a_named_database_is_the_same_every_time() -> None:
    assert named_database(3) == named_database(3)
    assert named_database(3) != named_database(4)


@pytest.mark.parametrize(
    "sample", ["plain", "", "  two\n\n\ttabs ", "日本語 ñ 😀 \u200b", "a''b \"c\" 2024-01-31 -- ;"]
)
def test_any_text_comes_back_from_the_tokenizer(tokenizer: Tokenizer, sample: str) -> None:
    assert tokenizer.decode(tokenizer.encode(sample).ids, skip_special_tokens=False) == sample


def test_digits_are_split_one_by_one(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("40917").tokens == list("40917")


@pytest.mark.parametrize("name", ["zorvinkle", "quathembra", "xilopherd"])
def test_an_unseen_name_has_the_same_pieces_behind_a_space_and_behind_a_quote(tokenizer: Tokenizer, name: str) -> None:
    quoted = tokenizer.encode(f'= "{name}" ;').tokens
    spoken = tokenizer.encode(f"in {name} ?").tokens
    pieces = tokenizer.encode(name).tokens
    assert "|".join(pieces) in "|".join(quoted)
    assert "|".join(pieces) in "|".join(spoken)


def test_all_pieces_of_a_document_keep_their_weights(tokenizer: Tokenizer, some: list[Document]) -> None:
    document = next(document for document in some if document.kind == "copy")
    row = batching.encoded(tokenizer, document)
    heavy = tokenizer.decode(
        [i for i, w in zip(row.ids, row.weights, strict=True) if w == 1.0], skip_special_tokens=False
    )
    assert heavy == spans(document)[-3][0]


def test_a_piece_drill_learns_only_the_repetition(tokenizer: Tokenizer) -> None:
    row = batching.piece_drill(tokenizer, Random(3))
    answer = [piece for piece, weight in zip(row.ids, row.weights, strict=True) if weight == 1.0]
    assert answer[-1] == tokenizer.token_to_id("<|im_end|>")
    read = row.ids[: -len(answer)]
    assert any(read[start : start + len(answer) - 1] == answer[:-1] for start in range(len(read)))


def test_no_two_pieces_have_nearly_the_same_embedding() -> None:
    table = load_file(MODEL / "model.safetensors")["model.embed_tokens.weight"].float()
    table = table / table.norm(dim=1, keepdim=True)
    likeness = table @ table.T
    likeness.fill_diagonal_(-1.0)
    assert float((likeness.max(dim=1).values > 0.95).float().mean()) < 0.01


def test_batches_hold_each_row_with_its_next_tokens_as_targets(tokenizer: Tokenizer) -> None:
    batch = next(iter(batching.Batches(tokenizer, seed=6, pool=200)))
    rows = batch.tokens[: batch.rows * batch.length].view(batch.rows, batch.length)
    targets = batch.targets[: batch.rows * batch.length].view(batch.rows, batch.length)
    weights = batch.weights[: batch.rows * batch.length].view(batch.rows, batch.length)
    counted = weights[:, :-1] > 0
    assert torch.equal(rows[:, 1:][counted], targets[:, :-1][counted])
    assert batch.tokens.shape == (batching.TOKENS,)
    assert batch.real <= batching.TOKENS


def test_the_learning_rate_warms_up_stays_and_falls_to_zero() -> None:
    assert rate(0.0) < 0.1
    assert rate(0.5) == 1.0
    assert rate(0.9) == pytest.approx(0.5)
    assert rate(1.0) == 0.0


def test_orthogonal_makes_all_singular_values_about_one() -> None:
    stack = torch.randn(2, 48, 32, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonal(stack))
    assert values.min() > 0.5
    assert values.max() < 1.4


def test_documents_in_one_batch_do_not_see_each_other(tokenizer: Tokenizer) -> None:
    rows = [batching.encoded(tokenizer, document) for document in islice(documents(8), 3)]
    shape = Shape(layers=1)
    weights = {name: value + 0.02 for name, value in initial(shape, 0).items()}
    network = Network(shape, fast=False)
    with torch.no_grad():
        together = network.loss(weights, batching.batch(rows))
        alone = sum(network.loss(weights, batching.batch([row])) for row in rows)
    assert float(together) == pytest.approx(float(alone), rel=2e-3)


def test_the_network_computes_what_transformers_llama_computes() -> None:
    shape = Shape(layers=2)
    generator = torch.Generator().manual_seed(1)
    noise = {name: 0.05 * torch.randn(value.shape, generator=generator) for name, value in initial(shape, 0).items()}
    weights = {name: (value + noise[name]).bfloat16().float() for name, value in initial(shape, 0).items()}
    settings: dict[str, Any] = {**shape.config(), "dtype": "float32"}
    model = LlamaForCausalLM(LlamaConfig(**settings))
    model.load_state_dict(weights, strict=False)
    model.tie_weights()
    ids = torch.randint(0, shape.vocabulary, (1, 40), generator=generator)
    batch = batching.batch([batching.Encoded(ids[0].tolist(), [1.0] * 40)])
    with torch.no_grad():
        expected = cross_entropy(model(ids).logits[0, :-1], ids[0, 1:], reduction="sum")
        # bfloat16 against float32: about three digits.
        assert float(Network(shape, fast=False).loss(weights, batch)) == pytest.approx(float(expected), rel=3e-3)


def test_a_run_learns_stops_in_time_and_exports_a_folder(tmp_path: Path) -> None:
    work, folder = tmp_path / "work", tmp_path / "model"
    work.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (work / name).write_bytes((MODEL / name).read_bytes())
    options = Options(0.02, work, folder, batches=1, fast=False, pool=100)
    state = run(options)
    assert state["step"] >= 1
    assert 0 < state["loss"] < 9
    resumed = run(Options(0.02, work, folder, batches=1, fast=False, pool=100))
    # The time was over already: the checkpoint is read and nothing is added to it.
    assert resumed["step"] == state["step"]
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "chat_template.jinja",
    }


def test_a_run_can_go_on_from_a_model_folder(tmp_path: Path) -> None:
    state = run(Options(1e-6, tmp_path / "work", tmp_path / "model", batches=1, fast=False, pool=100, start=MODEL))
    assert state["step"] == 1
    shipped, exported = (load_file(folder / "model.safetensors") for folder in (MODEL, tmp_path / "model"))
    name = "model.layers.3.mlp.down_proj.weight"
    moved = (exported[name].float() - shipped[name].float()).norm() / shipped[name].float().norm()
    assert 0 < moved < 0.05, "one small step away from where it started"


def test_the_shipped_template_and_tokenizer_rules_are_the_recipes() -> None:
    assert (MODEL / "chat_template.jinja").read_text() == (RECIPE / "chat_template.jinja").read_text()
    settings = json.loads((MODEL / "tokenizer_config.json").read_text())
    assert settings["eos_token"] == "<|im_end|>"
    assert vocabulary.SPECIAL[0] == settings["pad_token"]
