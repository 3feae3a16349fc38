"""The tokenizer of a checkpoint, checked against its config.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from moltide.errors import CheckpointError
from moltide.kinds import MOLECULE, RNA
from moltide.pretrained.files import Files
from moltide.pretrained.json_files import read_json_object
from moltide.pretrained.nucleotide_vocabulary import read_nucleotide_tokenizer
from moltide.pretrained.reads import Reads
from moltide.pretrained.smiles_vocabulary import read_smiles_tokenizer
from moltide.pretrained.tokenizer_settings import read_settings, read_specials, read_vocabulary
from moltide.smiles_tokenizer import SmilesTokenizer, is_smiles_vocabulary
from moltide.tokenization.base import Tokenizer
from moltide.tokenization.nucleotides import is_nucleotide_vocabulary
from moltide.tokenizer import ResidueTokenizer


def read_tokenizer(
    files: Files,
    config: dict[str, Any],
    notes: list[str],
    vocab_list: Any = None,
    reads: Reads | None = None,
) -> Tokenizer:
    """The tokenizer a checkpoint was published with; `config`'s special ids are settled by it.

    Args:
        vocab_list: of config.json, which counts without vocab.txt and tokenizer.json.
        reads: what the family's tokenizers read; ESM's residues by default.

    Raises:
        CheckpointError: unreadable, contradicts config.json, or no vocabulary at all.
        MissingDependencyError: a tokenizer that needs the `tokenizers` library.
    """
    reads = reads or Reads()
    tokenizer: Tokenizer
    if reads.kind == RNA:
        tokenizer, where = read_nucleotide_tokenizer(files, config, notes)
    elif reads.kind == MOLECULE:
        found = read_smiles_tokenizer(files, reads.pattern, reads.kind)
        if found is None:
            raise CheckpointError(
                f"{files.where}: no tokenizer; looked for tokenizer.json, vocab.json with "
                "merges.txt, and vocab.txt"
            )
        tokenizer, where = found
    else:
        tokenizer, where = _read_residues(files, config, notes, vocab_list, reads)
    _agree(tokenizer, config, where, reads.pads)
    return tokenizer


def _read_residues(
    files: Files, config: dict[str, Any], notes: list[str], vocab_list: Any, reads: Reads
) -> tuple[ResidueTokenizer, str]:
    """tokenizer.json counts if tokenizer_config.json names a fast class or there is no vocab.txt,
    as in Transformers' AutoTokenizer. Without either, config.json's `vocab_list` counts, or the
    family's vocabulary if the number of tokens is its own."""
    settings = read_settings(files)
    vocab_file, json_file = files.get("vocab.txt"), files.get("tokenizer.json")
    fast = str(settings.get("tokenizer_class") or "EsmTokenizer") != "EsmTokenizer"
    if json_file is not None and (fast or vocab_file is None):
        return _from_json(json_file, settings), str(json_file)
    specials = read_specials(settings)
    if vocab_file is not None:
        vocabulary = read_vocabulary(vocab_file)
        if is_nucleotide_vocabulary(vocabulary):
            return read_nucleotide_tokenizer(files, config, notes)
        kind = SmilesTokenizer if is_smiles_vocabulary(vocabulary) else ResidueTokenizer
        return kind(vocabulary, specials, where=str(vocab_file)), str(vocab_file)
    if isinstance(vocab_list, list) and all(isinstance(token, str) for token in vocab_list):
        where = f"{files.where}: vocab_list of config.json"
        return ResidueTokenizer(vocab_list, specials, where=where), where
    size = len(reads.vocabulary)
    if config["vocab"] == size or (config["vocab"] > size and not reads.exact):
        notes.append(
            f"no vocab.txt or tokenizer.json: the {size} tokens of {reads.assumed} are assumed"
        )
        assumed = ResidueTokenizer(reads.vocabulary, None, reads.split, where=files.where)
        return assumed, files.where
    raise CheckpointError(
        f"{files.where}: no vocab.txt or tokenizer.json, and vocab_size {config['vocab']} is "
        f"not {reads.assumed}'s {size}"
    )


def _from_json(path: Path, settings: dict[str, Any]) -> ResidueTokenizer:
    """A tokenizer.json that reads text character by character, framed by <cls> and <eos>: words
    split by character, or BPE that never merges."""
    document = read_json_object(path)
    try:
        model = document["model"]
        vocabulary = {str(token): int(index) for token, index in model["vocab"].items()}
        added = [str(entry["content"]) for entry in document.get("added_tokens") or []]
        frame = [next(iter(part)) for part in document["post_processor"]["single"]]
        ends = [part["SpecialToken"]["id"] for part in document["post_processor"]["single"][::2]]
        pre = document["pre_tokenizer"]
        if model.get("type") == "BPE":
            by_character = pre is None and not model["merges"] and not model.get("fuse_unk")
        else:
            by_character = pre["type"] == "Split" and pre["pattern"] == {"String": ""}
            by_character &= model.get("type") == "WordLevel"
    except (KeyError, TypeError, AttributeError, ValueError, StopIteration, IndexError) as error:
        raise CheckpointError(f"{path}: not the tokenizer of a residue model: {error!r}") from None
    specials = {**read_specials({**settings, "unk_token": model.get("unk_token")})}
    if len(ends) == 2:
        specials |= {"cls_token": ends[0], "eos_token": ends[1]}
    simple = (
        by_character
        and document.get("normalizer") is None
        and frame == ["SpecialToken", "Sequence", "SpecialToken"]
    )
    if not simple:
        raise CheckpointError(
            f"{path}: tokenizer of type {model.get('type')!r}; allowed: WordLevel, split by "
            "character, or BPE without merges, no normalizer, one token before and one after"
        )
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise CheckpointError(f"{path}: token ids do not run from 0 to {len(vocabulary) - 1}")
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    return ResidueTokenizer(tokens, specials, "characters", added, where=str(path))


def _agree(tokenizer: Tokenizer, config: dict[str, Any], where: str, pads: bool) -> None:
    """Special ids of config.json are those of the vocabulary, and every id has an embedding."""
    if len(tokenizer) > config["vocab"]:
        raise CheckpointError(
            f"{where}: {len(tokenizer)} tokens, config.json says vocab_size {config['vocab']}"
        )
    ids = {"pad_token": tokenizer.pad_id, "mask_token": tokenizer.mask_id}
    for key, index in ids.items():
        if config[key] not in (index, -1) and (pads or key != "pad_token"):
            raise CheckpointError(f"{where}: {key} is id {index}, config.json says {config[key]}")
    framing = {"<cls>": tokenizer.cls_id, "<eos>": tokenizer.eos_id, "<mask>": tokenizer.mask_id}
    for name, index in framing.items():
        # RoBERTa's positions leave padding out, wherever that id stands.
        if config["pad_token"] == index != -1:
            raise CheckpointError(
                f"{where}: id {index} is {name}, and config.json says that it is padding"
            )
    config.update(cls_token=tokenizer.cls_id, eos_token=tokenizer.eos_id)
    config.update(pad_token=tokenizer.pad_id, mask_token=tokenizer.mask_id)


def tokenizer_files(tokenizer: Tokenizer) -> dict[str, str]:
    """File name -> text: what Transformers needs to build the same tokenizer."""
    return tokenizer.files()
