"""A small model folder per chat template: tokenizers trained here, templates written here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from tailorbird.dataset.render import Renderer

TEMPLATES = Path(__file__).parent / "templates"
CORPUS = [
    "how many restaurants are there in the bay area ?",
    "SELECT COUNT( * ) FROM LOCATION WHERE CITY_NAME = 'san francisco' ;",
    "The assistant answers the user, the user asks the assistant.\n\nName: value\n\tindented  text",
    "schöne Grüße, こんにちは, one two three 1234567890",
    "user assistant system tool name arguments model",
] * 4
CONTROL = [
    "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "[INST]", "[/INST]",
    "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "<start_of_turn>",
    "<end_of_turn>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>",
]  # fmt: skip
WORDS = ["<think>", "</think>", "<tool_call>", "</tool_call>"]
SPECIAL = ["<s>", "</s>", "<unk>", "<pad>"]
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _added(name: str) -> list[AddedToken]:
    # Phi's tokenizer lets its markers swallow the whitespace after them.
    swallow = name == "phi"
    marks = [AddedToken(mark, special=True, normalized=False, rstrip=swallow) for mark in CONTROL]
    return marks + [AddedToken(word, special=False, normalized=False) for word in WORDS]


def _byte_level(name: str) -> Tokenizer:
    """Shaped like Llama 3's and Qwen's: a regular expression splits, bytes are the alphabet."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_tokens(_added(name))
    # Trimmed offsets, as Llama 3 has them, hide the space a token begins with.
    bos = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=True),
            processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", bos)]),
        ]
    )
    return tokenizer


def _sentence_piece(name: str) -> Tokenizer:
    """Shaped like Mistral's and Gemma's: spaces become a mark, unknown characters fall back to bytes."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    pieces = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=pieces, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    # Only the named ones are special tokens; the byte pieces are ordinary vocabulary.
    definition = json.loads(tokenizer.to_str())
    definition["added_tokens"] = [token for token in definition["added_tokens"] if token["content"] in SPECIAL]
    tokenizer = Tokenizer.from_str(json.dumps(definition))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_tokens(_added(name))
    bos = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bos)])
    return tokenizer


END_OF_TURN = {
    "chatml": "<|im_end|>",
    "thinking": "<|im_end|>",
    "llama": "<|eot_id|>",
    "mistral": "</s>",
    "gemma": "<end_of_turn>",
    "phi": "<|end|>",
    "plain": "</s>",
    "marked": "<|im_end|>",
    "marked_text": "<|im_end|>",
    "features": "<|im_end|>",
}


@pytest.fixture(scope="session")
def end_of_turn() -> dict[str, str]:
    """The end-of-turn token of each template here."""
    return END_OF_TURN


@pytest.fixture(scope="session")
def make_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a model folder: `make_folder(template=source or name, pieces=False, **tokenizer_config)`."""
    built: dict[tuple[bool, bool], Tokenizer] = {}

    def make(template: str | None = None, *, pieces: bool = False, **config: Any) -> Path:
        folder = tmp_path_factory.mktemp("model")
        key = (pieces, template == "phi")
        if key not in built:
            built[key] = (_sentence_piece if pieces else _byte_level)(template or "")
        built[key].save(str(folder / "tokenizer.json"))
        if template in END_OF_TURN:
            template = (TEMPLATES / f"{template}.jinja").read_text(encoding="utf-8")
        if template is not None:
            (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
        named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
        (folder / "tokenizer_config.json").write_text(json.dumps({**named, **config}), encoding="utf-8")
        return folder

    return make


@pytest.fixture(scope="session", params=[False, True], ids=["bytes", "pieces"])
def folders(request: pytest.FixtureRequest, make_folder: Callable[..., Path]) -> dict[str, Path]:
    """A model folder per template, with a byte-level and with a SentencePiece-like tokenizer."""
    return {name: make_folder(name, pieces=request.param) for name in END_OF_TURN}


@pytest.fixture(scope="session")
def pairs(folders: dict[str, Path]) -> Callable[[str], tuple[Renderer, Any]]:
    """Ours and theirs by template. A function, since hypothesis prints a failing test's arguments."""
    built: dict[str, tuple[Renderer, Any]] = {}

    def pair(name: str) -> tuple[Renderer, Any]:
        if name not in built:
            theirs = PreTrainedTokenizerFast.from_pretrained(folders[name])
            built[name] = Renderer.from_folder(folders[name]), theirs
        return built[name]

    return pair


@pytest.fixture(scope="session")
def weaver() -> Path:
    folder = Path(__file__).parents[3] / "src" / "tailorbird" / "weaver"
    if not (folder / "tokenizer.json").is_file():
        pytest.skip("the built-in model is not built yet")
    return folder
