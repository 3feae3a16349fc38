"""Tokenizer files of a checkpoint: vocab.txt, tokenizer.json and their companions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from moltide.errors import CheckpointError
from moltide.pretrained.files import Files
from moltide.pretrained.json_files import read_json_object
from moltide.smiles_tokenizer import SmilesTokenizer, is_smiles_vocabulary
from moltide.tokenizer import ESM_VOCABULARY, ResidueTokenizer

_SPECIAL_NAMES = ("cls_token", "pad_token", "eos_token", "unk_token", "mask_token")
_NO_LIMIT = 1000000000000000019884624838656  # what Transformers writes for "no maximum length"


def read_tokenizer(
    files: Files, config: dict[str, Any], notes: list[str], vocab_list: Any = None
) -> ResidueTokenizer:
    """The tokenizer a checkpoint was published with; `config`'s special ids are settled by it.

    tokenizer.json counts if tokenizer_config.json names a fast class or there is no vocab.txt, as
    in Transformers' AutoTokenizer. Without either, config.json's `vocab_list` counts, or ESM's
    vocabulary if the number of tokens is its own.

    Raises:
        CheckpointError: unreadable, contradicts config.json, or no vocabulary at all.
    """
    settings = _settings(files)
    vocab_file, json_file = files.get("vocab.txt"), files.get("tokenizer.json")
    fast = str(settings.get("tokenizer_class") or "EsmTokenizer") != "EsmTokenizer"
    if json_file is not None and (fast or vocab_file is None):
        tokenizer = _from_json(json_file, settings)
        where = str(json_file)
    elif vocab_file is not None:
        where = str(vocab_file)
        vocabulary = _read_vocabulary(vocab_file)
        reads = SmilesTokenizer if is_smiles_vocabulary(vocabulary) else ResidueTokenizer
        tokenizer = reads(vocabulary, _specials(settings), where=where)
    elif isinstance(vocab_list, list) and all(isinstance(token, str) for token in vocab_list):
        where = f"{files.where}: vocab_list of config.json"
        tokenizer = ResidueTokenizer(vocab_list, _specials(settings), where=where)
    elif config["vocab"] == len(ESM_VOCABULARY):
        where = files.where
        tokenizer = ResidueTokenizer(where=where)
        notes.append("no vocab.txt or tokenizer.json: the 33 tokens of ESM-2 are assumed")
    else:
        raise CheckpointError(
            f"{files.where}: no vocab.txt or tokenizer.json, and vocab_size {config['vocab']} is "
            f"not ESM-2's {len(ESM_VOCABULARY)}"
        )
    _agree(tokenizer, config, where)
    return tokenizer


def _settings(files: Files) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        path = files.get(name)
        if path is not None:
            merged.update(read_json_object(path))
    return merged


def _specials(settings: dict[str, Any]) -> dict[str, str]:
    found = {}
    for name in _SPECIAL_NAMES:
        value = settings.get(name)
        content = value.get("content") if isinstance(value, dict) else value
        if isinstance(content, str):
            found[name] = content
    return found


def _read_vocabulary(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path}: not UTF-8 text: {error}") from None
    tokens = [line.strip() for line in text.rstrip().splitlines()]
    if not tokens or "" in tokens:
        line = tokens.index("") + 1 if tokens else 1
        raise CheckpointError(f"{path}: line {line} is empty; expected one token a line")
    return tokens


def _from_json(path: Path, settings: dict[str, Any]) -> ResidueTokenizer:
    """A tokenizer.json that reads text character by character, framed by <cls> and <eos>."""
    document = read_json_object(path)
    try:
        model = document["model"]
        vocabulary = {str(token): int(index) for token, index in model["vocab"].items()}
        added = [str(entry["content"]) for entry in document.get("added_tokens") or []]
        frame = [next(iter(part)) for part in document["post_processor"]["single"]]
        ends = [part["SpecialToken"]["id"] for part in document["post_processor"]["single"][::2]]
        pre = document["pre_tokenizer"]
        by_character = pre["type"] == "Split" and pre["pattern"] == {"String": ""}
    except (KeyError, TypeError, AttributeError, ValueError, StopIteration, IndexError) as error:
        raise CheckpointError(f"{path}: not the tokenizer of a residue model: {error!r}") from None
    specials = {**_specials({**settings, "unk_token": model.get("unk_token")})}
    if len(ends) == 2:
        specials |= {"cls_token": ends[0], "eos_token": ends[1]}
    simple = (
        model.get("type") == "WordLevel"
        and by_character
        and document.get("normalizer") is None
        and frame == ["SpecialToken", "Sequence", "SpecialToken"]
    )
    if not simple:
        raise CheckpointError(
            f"{path}: tokenizer of type {model.get('type')!r}; allowed: WordLevel, split by "
            "character, no normalizer, one token before and one after"
        )
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise CheckpointError(f"{path}: token ids do not run from 0 to {len(vocabulary) - 1}")
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    return ResidueTokenizer(tokens, specials, "characters", added, where=str(path))


def _agree(tokenizer: ResidueTokenizer, config: dict[str, Any], where: str) -> None:
    """Special ids of config.json are those of the vocabulary, and every id has an embedding."""
    if len(tokenizer) > config["vocab"]:
        raise CheckpointError(
            f"{where}: {len(tokenizer)} tokens, config.json says vocab_size {config['vocab']}"
        )
    for key, index in (("pad_token", tokenizer.pad_id), ("mask_token", tokenizer.mask_id)):
        if config[key] not in (index, -1):
            raise CheckpointError(f"{where}: {key} is id {index}, config.json says {config[key]}")
    config.update(cls_token=tokenizer.cls_id, eos_token=tokenizer.eos_id)
    config.update(pad_token=tokenizer.pad_id, mask_token=tokenizer.mask_id)


def tokenizer_files(tokenizer: ResidueTokenizer) -> dict[str, str]:
    """File name -> text: what Transformers needs to build the same tokenizer."""
    by_character = tokenizer.split == "characters"
    entries = {
        str(tokenizer.id_of(token)): _added_token(token)
        for token in sorted(tokenizer.specials.values(), key=tokenizer.id_of)
    }
    settings: dict[str, Any] = {
        "added_tokens_decoder": entries,
        "clean_up_tokenization_spaces": False,
        **tokenizer.specials,
        "model_max_length": _NO_LIMIT,
        "model_input_names": ["input_ids", "attention_mask"],
        "tokenizer_class": "PreTrainedTokenizerFast" if by_character else "EsmTokenizer",
    }
    files = {
        "vocab.txt": "\n".join(tokenizer.vocabulary),
        "tokenizer_config.json": _dump(settings),
        "special_tokens_map.json": _dump(tokenizer.specials),
    }
    if by_character:
        files["tokenizer.json"] = _dump(_json_document(tokenizer))
    return files


def _added_token(token: str) -> dict[str, Any]:
    flags = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
    return {"content": token, **flags, "special": True}


def _json_document(tokenizer: ResidueTokenizer) -> dict[str, Any]:
    cls, eos = tokenizer.specials["cls_token"], tokenizer.specials["eos_token"]

    def special(token: str) -> dict[str, Any]:
        return {"SpecialToken": {"id": token, "type_id": 0}}

    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": tokenizer.id_of(token), **_added_token(token)}
            for token in sorted(tokenizer.added, key=tokenizer.id_of)
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"String": ""},
            "behavior": "Isolated",
            "invert": False,
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [special(cls), {"Sequence": {"id": "A", "type_id": 0}}, special(eos)],
            "pair": [
                *(special(cls), {"Sequence": {"id": "A", "type_id": 0}}, special(eos)),
                *({"Sequence": {"id": "B", "type_id": 1}}, special(eos)),
            ],
            "special_tokens": {
                token: {"id": token, "ids": [tokenizer.id_of(token)], "tokens": [token]}
                for token in (cls, eos)
            },
        },
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {token: index for index, token in enumerate(tokenizer.vocabulary)},
            "unk_token": tokenizer.specials["unk_token"],
        },
    }


def _dump(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
