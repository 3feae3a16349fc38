"""Tokenizer files as Transformers reads them, from vocabularies and special tokens."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# What Transformers writes for "no maximum length".
_NO_LIMIT = 1000000000000000019884624838656


def dump(document: Mapping[str, Any]) -> str:
    """The text of a JSON file."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def vocabulary_files(
    vocabulary: Sequence[str],
    specials: Mapping[str, str],
    tokenizer_class: str,
    **settings: Any,
) -> dict[str, str]:
    """vocab.txt, tokenizer_config.json and special_tokens_map.json of `tokenizer_class`."""
    ids = {token: index for index, token in enumerate(vocabulary)}
    entries = {
        str(ids[token]): _added_token(token)
        for token in sorted(specials.values(), key=ids.__getitem__)
    }
    config: dict[str, Any] = {
        "added_tokens_decoder": entries,
        "clean_up_tokenization_spaces": False,
        **specials,
        "model_max_length": _NO_LIMIT,
        "model_input_names": ["input_ids", "attention_mask"],
        "tokenizer_class": tokenizer_class,
        **settings,
    }
    return {
        "vocab.txt": "\n".join(vocabulary),
        "tokenizer_config.json": dump(config),
        "special_tokens_map.json": dump(specials),
    }


def word_level_document(
    vocabulary: Sequence[str],
    specials: Mapping[str, str],
    added: Iterable[str],
    pre_tokenizer: Mapping[str, Any],
) -> dict[str, Any]:
    """A tokenizer.json that cuts text by `pre_tokenizer` and frames it by cls and eos."""
    ids = {token: index for index, token in enumerate(vocabulary)}
    cls, eos = specials["cls_token"], specials["eos_token"]

    def special(token: str) -> dict[str, Any]:
        return {"SpecialToken": {"id": token, "type_id": 0}}

    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": ids[token], **_added_token(token)}
            for token in sorted(added, key=ids.__getitem__)
        ],
        "normalizer": None,
        "pre_tokenizer": dict(pre_tokenizer),
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [special(cls), {"Sequence": {"id": "A", "type_id": 0}}, special(eos)],
            "pair": [
                *(special(cls), {"Sequence": {"id": "A", "type_id": 0}}, special(eos)),
                *({"Sequence": {"id": "B", "type_id": 1}}, special(eos)),
            ],
            "special_tokens": {
                token: {"id": token, "ids": [ids[token]], "tokens": [token]} for token in (cls, eos)
            },
        },
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": ids, "unk_token": specials["unk_token"]},
    }


def split_by(pattern: Mapping[str, str], behavior: str, invert: bool) -> dict[str, Any]:
    """A `Split` pre-tokenizer; `pattern` is {"String": ...} or {"Regex": ...}."""
    return {"type": "Split", "pattern": dict(pattern), "behavior": behavior, "invert": invert}


BY_CHARACTER = split_by({"String": ""}, "Isolated", False)


def _added_token(token: str) -> dict[str, Any]:
    flags = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
    return {"content": token, **flags, "special": True}
