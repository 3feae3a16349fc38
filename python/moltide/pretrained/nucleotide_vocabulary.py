"""Tokenizers of RNA as multimolecule publishes them: vocab.txt and a few options."""

from __future__ import annotations

from typing import Any

from moltide.errors import CheckpointError
from moltide.pretrained.files import Files
from moltide.pretrained.json_files import Fields
from moltide.pretrained.tokenizer_settings import read_settings, read_specials, read_vocabulary
from moltide.tokenization.nucleotides import (
    CODON_VOCABULARY,
    RNA_VOCABULARY,
    NucleotideTokenizer,
)


def read_nucleotide_tokenizer(
    files: Files, config: dict[str, Any], notes: list[str]
) -> tuple[NucleotideTokenizer, str]:
    """The tokenizer of an RNA model and where it was read; without vocab.txt, multimolecule's
    alphabet of the model's size.

    Raises:
        CheckpointError: unreadable files, overlapping k-mers, or no vocabulary of that size.
    """
    settings = read_settings(files)
    fields = Fields(settings, f"{files.where}: tokenizer_config.json")
    path = files.get("vocab.txt")
    if path is not None:
        vocabulary, where = tuple(read_vocabulary(path)), str(path)
    else:
        known = {len(v): v for v in (RNA_VOCABULARY, CODON_VOCABULARY)}
        if config["vocab"] not in known:
            raise CheckpointError(
                f"{files.where}: no vocab.txt, and vocab_size {config['vocab']} is not that of "
                f"RNA-FM ({len(RNA_VOCABULARY)} nucleotides, {len(CODON_VOCABULARY)} codons)"
            )
        vocabulary, where = known[config["vocab"]], files.where
        notes.append(f"no vocab.txt: multimolecule's {len(vocabulary)} RNA tokens are assumed")
    codon = fields.boolean("codon", any(len(t) == 3 and t.isalpha() for t in vocabulary))
    if fields.integer("nmers", 1) != 1 and not codon:
        raise fields.refuse("nmers", settings["nmers"], "1, or codons (codon: true)")
    tokenizer = NucleotideTokenizer(
        vocabulary,
        read_specials(settings),
        codon=codon,
        upper=fields.boolean("do_upper_case", True),
        t_as_u=fields.boolean("replace_T_with_U", True),
        published_as=str(settings.get("tokenizer_class") or "RnaTokenizer"),
        where=where,
    )
    return tokenizer, where
