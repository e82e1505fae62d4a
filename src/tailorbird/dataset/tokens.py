"""A Hugging Face tokenizer folder without transformers: text into token ids, ids into text and bytes

Reads `tokenizer.json`, and as transformers does the special tokens that `tokenizer_config.json`,
`special_tokens_map.json` and `added_tokens.json` add to it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

from tokenizers import AddedToken, Encoding, Tokenizer

from tailorbird.dataset.template import RenderError

NAMED_TOKENS: Final = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""The special tokens a chat template can name, in transformers' order."""


class Vocabulary:
    """A tokenizer and what its folder says about its special tokens."""

    def __init__(self, tokenizer: Tokenizer, decoders: frozenset[str], named: dict[str, str]) -> None:
        self._tokenizer = tokenizer
        self._decoders = decoders
        self.named = named
        self.size = tokenizer.get_vocab_size(with_added_tokens=True)
        self.added: dict[int, str] = {
            token_id: token.content for token_id, token in tokenizer.get_added_tokens_decoder().items()
        }

    @classmethod
    def from_folder(cls, folder: Path, config: Mapping[str, Any]) -> Vocabulary:
        """`config` is tokenizer_config.json. Raises RenderError when there is no fast tokenizer."""
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise RenderError(f"{folder.name} has no tokenizer.json: save the model with a fast tokenizer.")
        definition = json.loads(path.read_text(encoding="utf-8"))
        _keep_offsets(definition.get("post_processor"))
        tokenizer = Tokenizer.from_str(json.dumps(definition))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        named, missing = _special_tokens(folder, config, tokenizer)
        tokenizer.add_tokens(missing)  # pyright: ignore[reportUnknownMemberType]
        return cls(tokenizer, frozenset(_types(definition.get("decoder"))), named)

    def encode(self, text: str, *, special: bool = False) -> Encoding:
        """Ids with the exact character span of each. `special`: with what the tokenizer puts around a plain text."""
        return self._tokenizer.encode(text, add_special_tokens=special)

    def decode(self, ids: Sequence[int], *, skip_special: bool) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=skip_special)

    def id_of(self, token: str) -> int | None:
        return self._tokenizer.token_to_id(token)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes one token stands for; not always whole characters. Raises IndexError for an unknown id."""
        piece = self._tokenizer.id_to_token(token_id)
        if piece is None:
            raise IndexError(f"token id {token_id} is not in the vocabulary")
        if token_id in self.added:
            return self.added[token_id].encode()
        if "ByteLevel" in self._decoders:
            return b"".join(_BYTE_OF.get(char) or char.encode() for char in piece)
        if "ByteFallback" in self._decoders and len(piece) == 6 and piece.startswith("<0x"):
            return bytes.fromhex(piece[3:5])
        if "Metaspace" in self._decoders or "ByteFallback" in self._decoders:
            return piece.replace("▁", " ").encode()
        return self._tokenizer.decode([token_id], skip_special_tokens=False).encode()


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file, empty when there is no such file."""
    return cast(dict[str, Any], json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _special_tokens(
    folder: Path, config: Mapping[str, Any], tokenizer: Tokenizer
) -> tuple[dict[str, str], list[AddedToken]]:
    """Named special tokens, and the tokens that tokenizer.json lacks or holds with other flags, in order of id."""
    known = {token.content: token for token in tokenizer.get_added_tokens_decoder().values()}
    values = dict(config)
    later: dict[int, AddedToken] = {}
    if "added_tokens_decoder" in config:
        later = {int(key): AddedToken(**token) for key, token in config["added_tokens_decoder"].items()}
    else:
        values |= read_json(folder / "special_tokens_map.json")
    named = {key: _content(values[key]) for key in NAMED_TOKENS if values.get(key)}
    # A model's own names (`image_token`) are special tokens too, though templates do not see them.
    own = [_content(value) for key, value in values.items() if key.endswith("_token") and _is_token(value)]
    extra = values.get("extra_special_tokens") or values.get("additional_special_tokens") or ()
    if isinstance(extra, dict):
        extra = cast(dict[str, object], extra).values()
    wanted = [*named.values(), *own, *map(_content, cast(Iterable[object], extra))]
    if "added_tokens_decoder" not in config:
        for content, token_id in read_json(folder / "added_tokens.json").items():
            special = content in wanted
            later.setdefault(
                token_id, known.get(content) or AddedToken(content, normalized=not special, special=special)
            )
    missing = [token for _, token in sorted(later.items()) if repr(known.get(token.content)) != repr(token)]
    present = known.keys() | {token.content for token in later.values()}
    missing += [
        AddedToken(content, special=True, normalized=False)
        for content in dict.fromkeys(wanted)
        if content not in present
    ]
    return named, missing


def _content(token: object) -> str:
    return token if isinstance(token, str) else cast(Mapping[str, str], token)["content"]


def _is_token(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, dict) and "content" in value)


def _keep_offsets(part: object) -> None:
    """Stops a post-processor from cutting spaces off token spans, which would hide where a token begins."""
    if isinstance(part, dict):
        step = cast(dict[str, Any], part)
        if "trim_offsets" in step:
            step["trim_offsets"] = False
        for value in step.values():
            _keep_offsets(value)
    elif isinstance(part, list):
        for value in cast(list[Any], part):
            _keep_offsets(value)


def _types(part: object) -> Iterable[str]:
    """Every `type` in a component of tokenizer.json, nested ones too."""
    if isinstance(part, dict):
        step = cast(dict[str, Any], part)
        if isinstance(step.get("type"), str):
            yield step["type"]
        for value in step.values():
            yield from _types(value)
    elif isinstance(part, list):
        for value in cast(list[Any], part):
            yield from _types(value)


def _byte_alphabet() -> dict[str, bytes]:
    """GPT-2's stand-ins for the 256 bytes: a byte that prints stands for itself, the others from U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    alphabet = {chr(byte): bytes([byte]) for byte in plain}
    return alphabet | {chr(0x100 + index): bytes([byte]) for index, byte in enumerate(others)}


_BYTE_OF: Final = _byte_alphabet()
