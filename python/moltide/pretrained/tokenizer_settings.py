"""What a checkpoint's tokenizer files say: special tokens, vocabularies, options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from moltide.errors import CheckpointError
from moltide.pretrained.files import Files
from moltide.pretrained.json_files import read_json_object

SETTINGS_FILES = ("special_tokens_map.json", "tokenizer_config.json")
_SPECIAL_NAMES = ("cls_token", "pad_token", "eos_token", "unk_token", "mask_token")


def read_settings(files: Files) -> dict[str, Any]:
    """special_tokens_map.json and tokenizer_config.json as one; the latter counts."""
    merged: dict[str, Any] = {}
    for name in SETTINGS_FILES:
        path = files.get(name)
        if path is not None:
            merged.update(read_json_object(path))
    return merged


def read_specials(settings: dict[str, Any]) -> dict[str, str]:
    """The special tokens that the settings name; "sep_token" is "eos_token" to BERT's kin."""
    found = {}
    for name in _SPECIAL_NAMES:
        content = content_of(settings.get(name))
        if content is not None:
            found[name] = content
    return found


def content_of(value: Any) -> str | None:
    """The text of a token: given as such, or described by an object."""
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else None


def read_text(path: Path) -> str:
    """A UTF-8 text file.

    Raises:
        CheckpointError: another encoding.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path}: not UTF-8 text: {error}") from None


def read_vocabulary(path: Path) -> list[str]:
    """The tokens of vocab.txt, one a line.

    Raises:
        CheckpointError: not UTF-8, or an empty line.
    """
    tokens = [line.strip() for line in read_text(path).rstrip().splitlines()]
    if not tokens or "" in tokens:
        line = tokens.index("") + 1 if tokens else 1
        raise CheckpointError(f"{path}: line {line} is empty; expected one token a line")
    return tokens
