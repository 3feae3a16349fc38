"""Tokenizers of SMILES as ChemBERTa and MoLFormer are published: BPE, or a regular expression."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from moltide.errors import CheckpointError
from moltide.pretrained.files import Files
from moltide.pretrained.json_files import MAX_JSON_BYTES, read_json_object
from moltide.pretrained.tokenizer_settings import (
    SETTINGS_FILES,
    content_of,
    read_settings,
    read_specials,
    read_text,
    read_vocabulary,
)
from moltide.tokenization.base import Tokenizer
from moltide.tokenization.library import LibraryTokenizer, byte_level_document
from moltide.tokenization.smiles_pattern import PATTERNS, PatternTokenizer

# Special tokens by the way they are spelled, for a vocab.txt on its own.
_SPELLINGS = (
    ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"),
    ("<s>", "<pad>", "</s>", "<unk>", "<mask>"),
    ("<bos>", "<pad>", "<eos>", "<pad>", "<mask>"),
    ("<cls>", "<pad>", "<eos>", "<unk>", "<mask>"),
)
_NAMES = ("cls_token", "pad_token", "eos_token", "unk_token", "mask_token")


def read_smiles_tokenizer(files: Files, pattern: str, kind: str) -> tuple[Tokenizer, str] | None:
    """The tokenizer of a SMILES model and where it was read; None if there are no files of one.

    tokenizer.json counts, then vocab.json with merges.txt (RoBERTa's byte-level BPE), then
    vocab.txt with `pattern`, which such checkpoints do not carry.

    Raises:
        CheckpointError: unreadable files, or a tokenizer that is not framed by two tokens.
        MissingDependencyError: BPE without the `tokenizers` library.
    """
    settings = read_settings(files)
    specials = _framed(read_specials(settings), settings)
    json_file = files.get("tokenizer.json")
    if json_file is not None:
        return _from_json(files, json_file, specials, kind), str(json_file)
    vocab_json, merges = files.get("vocab.json"), files.get("merges.txt")
    if vocab_json is not None and merges is not None:
        return _from_merges(files, vocab_json, merges, settings, specials, kind), str(vocab_json)
    vocab_txt = files.get("vocab.txt")
    if vocab_txt is not None:
        return _from_lines(vocab_txt, pattern, specials), str(vocab_txt)
    if vocab_json is not None:
        tokens = _dense(_ids(vocab_json), str(vocab_json))
        return PatternTokenizer(tokens, _usual(tokens, specials), pattern, str(vocab_json)), str(
            vocab_json
        )
    return None


def _framed(specials: dict[str, str], settings: dict[str, Any]) -> dict[str, str]:
    """BERT and its kin end a sequence with the separator; their "eos_token" is another's."""
    end = content_of(settings.get("sep_token"))
    return specials if end is None else {**specials, "eos_token": end}


def _from_json(files: Files, path: Path, specials: dict[str, str], kind: str) -> Tokenizer:
    if path.stat().st_size > MAX_JSON_BYTES:
        raise CheckpointError(f"{path}: {path.stat().st_size} bytes; at most {MAX_JSON_BYTES}")
    document = read_json_object(path)
    by_pattern = _pattern_tokenizer(document, specials, str(path))
    if by_pattern is not None:
        return by_pattern
    published = _verbatim(files, "tokenizer.json", "vocab.json", "merges.txt", "vocab.txt")
    return LibraryTokenizer(published["tokenizer.json"], published, specials, kind, str(path))


def _pattern_tokenizer(
    document: dict[str, Any], specials: dict[str, str], where: str
) -> PatternTokenizer | None:
    """A tokenizer.json as `PatternTokenizer.files` writes it; None for any other."""
    try:
        pattern = document["pre_tokenizer"]["pattern"]["Regex"]
        vocabulary = document["model"]["vocab"]
        ends = [part["SpecialToken"]["id"] for part in document["post_processor"]["single"][::2]]
        tokens = _dense(vocabulary, where)
        spelled = PatternTokenizer(
            tokens,
            _usual(tokens, {**specials, "cls_token": ends[0], "eos_token": ends[1]}),
            pattern,
            where,
        )
    except (KeyError, TypeError, IndexError, AttributeError, CheckpointError):
        return None
    if pattern not in PATTERNS or json.loads(spelled.files()["tokenizer.json"]) != document:
        return None
    return spelled


def _from_merges(
    files: Files,
    vocab_json: Path,
    merges: Path,
    settings: dict[str, Any],
    specials: dict[str, str],
    kind: str,
) -> LibraryTokenizer:
    pairs = []
    for number, line in enumerate(read_text(merges).splitlines(), 1):
        parts = line.split()
        if not parts or (number == 1 and line.startswith("#version")):
            continue
        if len(parts) != 2:
            raise CheckpointError(f"{merges}: line {number} is {line!r}; expected two tokens")
        pairs.append((parts[0], parts[1]))
    vocabulary = _ids(vocab_json)
    specials = _usual(list(vocabulary), specials, str(vocab_json))
    document = byte_level_document(
        vocabulary,
        pairs,
        specials,
        _added(files, settings),
        settings.get("add_prefix_space") is True,
        str(vocab_json),
    )
    published = _verbatim(files, "vocab.json", "merges.txt", "added_tokens.json")
    return LibraryTokenizer(document, published, specials, kind, str(vocab_json))


def _added(files: Files, settings: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """Tokens beside the vocabulary, in id order, from whichever file lists them."""
    listed = settings.get("added_tokens_decoder")
    if isinstance(listed, dict):
        entries = {
            int(index): entry
            for index, entry in listed.items()
            if index.isdecimal() and content_of(entry) is not None
        }
        return sorted(entries.items(), key=lambda item: item[0])
    path = files.get("added_tokens.json")
    if path is None:
        return []
    return sorted(
        ((index, {"content": token, "special": False}) for token, index in _ids(path).items()),
        key=lambda item: item[0],
    )


def _from_lines(path: Path, pattern: str, specials: dict[str, str]) -> PatternTokenizer:
    tokens = read_vocabulary(path)
    pieces = next((token for token in tokens if token.startswith("##")), None)
    if pieces is not None:
        raise CheckpointError(
            f"{path}: {pieces!r} is part of a WordPiece vocabulary; it is read from tokenizer.json"
        )
    return PatternTokenizer(tokens, _usual(tokens, specials, str(path)), pattern, str(path))


def _usual(tokens: list[str], specials: dict[str, str], where: str = "tokenizer") -> dict[str, str]:
    """`specials`, completed by the usual spellings that the vocabulary holds."""
    known = set(tokens)
    for spelling in _SPELLINGS:
        if known.issuperset(spelling):
            return {**dict(zip(_NAMES, spelling, strict=True)), **specials}
    missing = [name for name in _NAMES[:4] if name not in specials]
    if missing:
        raise CheckpointError(
            f"{where}: no {missing[0]}: neither tokenizer_config.json nor the vocabulary has one"
        )
    return specials


def _ids(path: Path) -> dict[str, int]:
    vocabulary = read_json_object(path)
    for token, index in vocabulary.items():
        if isinstance(index, bool) or not isinstance(index, int) or index < 0:
            raise CheckpointError(f"{path}: token {token!r} has id {index!r}; expected a number")
    return vocabulary


def _dense(vocabulary: dict[str, int], where: str) -> list[str]:
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise CheckpointError(f"{where}: token ids do not run from 0 to {len(vocabulary) - 1}")
    return sorted(vocabulary, key=vocabulary.__getitem__)


def _verbatim(files: Files, *names: str) -> dict[str, str]:
    paths = {name: files.get(name) for name in (*names, *SETTINGS_FILES)}
    return {name: read_text(path) for name, path in paths.items() if path is not None}
