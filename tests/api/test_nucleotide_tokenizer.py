"""RNA as tokens: ids that multimolecule's RnaTokenizer gives, what is refused, files."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from moltide.errors import CheckpointError, DataError
from moltide.kinds import RNA
from moltide.pretrained.files import FolderFiles
from moltide.pretrained.vocabulary import Reads, read_tokenizer, tokenizer_files
from moltide.tokenization.nucleotides import (
    CODON_VOCABULARY,
    RNA_VOCABULARY,
    NucleotideTokenizer,
)

# Printed by multimolecule 0.2.2: see tests/data/multimolecule_SOURCES.md.
GOLDEN = json.loads(
    (Path(__file__).parent.parent / "data" / "multimolecule" / "tokens.json").read_text()
)
PLAIN = NucleotideTokenizer()
CODON = NucleotideTokenizer(CODON_VOCABULARY, codon=True)


def ids(tokenizer: NucleotideTokenizer, text: str) -> list[int]:
    return tokenizer.encode([text], on_illegal="unknown")[0].tolist()


def test_vocabularies_are_the_published_ones() -> None:
    assert tuple(GOLDEN["vocabulary"]["plain"]) == RNA_VOCABULARY
    assert tuple(GOLDEN["vocabulary"]["codon"]) == CODON_VOCABULARY


@pytest.mark.parametrize("name", ["plain", "codon"])
def test_golden_ids(name: str) -> None:
    tokenizer = {"plain": PLAIN, "codon": CODON}[name]
    cases = GOLDEN[name]
    assert len(cases) >= 30
    for case in cases:
        assert ids(tokenizer, case["text"]) == case["input_ids"], case["text"]
    together, _ = tokenizer.encode([case["text"] for case in cases], on_illegal="unknown")
    assert together.tolist() == [i for case in cases for i in case["input_ids"]]


def test_lower_case_and_t_are_rna() -> None:
    """Without a warning, and by the table that plain sequences take."""
    tokens, _ = PLAIN.encode(["acgt", "ACGU"])
    assert tokens.tolist() == [1, 6, 7, 8, 9, 2] * 2
    strict = NucleotideTokenizer(upper=False, t_as_u=False)
    assert ids(strict, "acgT") == [1, 3, 3, 3, 3, 2]
    assert strict != PLAIN


def test_unknown_letters_warn_once() -> None:
    with pytest.warns(UserWarning, match=r"1 of 2 sequences \(first: number 1\)") as seen:
        tokens, _ = PLAIN.encode(["ACGU", "ACGE"])
    assert len(seen) == 1
    assert tokens.tolist()[-3:] == [8, 3, 2]
    with pytest.warns(UserWarning, match="outside the vocabulary"):
        assert CODON.encode(["ACGEUU"])[0].tolist()[2:] == [3, 2]


@pytest.mark.parametrize(
    ("tokenizer", "text", "message"),
    [
        (PLAIN, "AC1", "sequence 8, position 3: '1' is no nucleotide"),
        (PLAIN, "A C", "sequence 8, position 2: ' ' is no nucleotide"),
        (PLAIN, "AC<pad>", "sequence 8, position 3: '<pad>' is no nucleotide"),
        (PLAIN, "", "sequence 8 is empty"),
        (CODON, "", "sequence 8 is empty"),
        (CODON, "ACGU", "sequence 8, position 4: 'U' is no codon"),
        (CODON, "ACG<mask>AC", "sequence 8, position 5: 'AC' is no codon"),
        (CODON, "ACGA1C", "sequence 8, position 4: '1' is no nucleotide"),
        (CODON, "ACG<pad>", "sequence 8, position 4: '<pad>' is no nucleotide"),
    ],
)
def test_what_is_no_rna_is_refused(tokenizer: NucleotideTokenizer, text: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        tokenizer.encode(["ACG", text], first_index=7)
    assert message in str(caught.value)


def test_codons_may_be_masked() -> None:
    assert CODON.encode(["acg<mask>UUU"])[0].tolist() == (
        [1, CODON.id_of("ACG"), CODON.mask_id, CODON.id_of("UUU"), 2]
    )
    assert CODON.residues == "ACGUN"


def read(folder: Path, vocab: int = 28) -> Any:
    settled = {"vocab": vocab, "pad_token": 0, "mask_token": 4}
    notes: list[str] = []
    return read_tokenizer(FolderFiles(folder), settled, notes, None, Reads(RNA)), notes


@pytest.mark.parametrize("tokenizer", [PLAIN, CODON, NucleotideTokenizer(t_as_u=False)])
def test_written_files_read_back(tmp_path: Path, tokenizer: NucleotideTokenizer) -> None:
    for name, text in tokenizer_files(tokenizer).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    again, notes = read(tmp_path, len(tokenizer))
    assert again == tokenizer == pickle.loads(pickle.dumps(tokenizer))
    assert hash(again) == hash(tokenizer)
    assert not notes
    multimolecule = pytest.importorskip("multimolecule", reason="reads what was written")
    theirs = multimolecule.RnaTokenizer.from_pretrained(tmp_path)
    for text in ("acgugcaug", "ACG<mask>UUU"):
        assert theirs(text)["input_ids"] == ids(tokenizer, text)


def test_assumed_by_size(tmp_path: Path) -> None:
    for tokenizer in (PLAIN, CODON):
        found, notes = read(tmp_path, len(tokenizer))
        assert found == tokenizer
        assert "assumed" in notes[0]
    with pytest.raises(
        CheckpointError, match=r"no vocab.txt, and vocab_size 30 is not that of RNA"
    ):
        read(tmp_path, 30)


def test_overlapping_words_are_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(RNA_VOCABULARY))
    (tmp_path / "tokenizer_config.json").write_text('{"nmers": 3}')
    with pytest.raises(CheckpointError, match=r"nmers is 3; allowed: 1, or codons"):
        read(tmp_path)
