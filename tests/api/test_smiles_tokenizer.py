"""SMILES as tokens: which ones, what is refused, and that Transformers reads the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from moltide.errors import DataError
from moltide.pretrained.files import FolderFiles
from moltide.pretrained.vocabulary import read_tokenizer, tokenizer_files
from moltide.smiles_tokenizer import SMILES_VOCABULARY, SmilesTokenizer, is_smiles_vocabulary
from moltide.tokenizer import ESM_VOCABULARY

# Ring bonds of two digits, isotopes, metals, a dative bond, charges, stereo, a mixture.
MOLECULES = (
    "CC(=O)Oc1ccccc1C(=O)O",
    "C[C@@H](N)C(=O)O",
    "Clc1ccc(Br)cc1[N+](=O)[O-]",
    "[13CH3][C@H]([2H])O.[Fe+2]",
    "C1CC%10CCC1CC%10",
    "F/C=C\\Cl",
    "c1ccc2c(c1)[nH]c1cc[n+](C)cc12",
    "N->[Pt]",
    "[Sn]Sc1ccccc1",
)


def test_tokens_of_atoms_bonds_and_rings() -> None:
    tokenizer = SmilesTokenizer()
    assert tokenizer.tokens("Clc1[nH]c(Br)cc1") == (
        ["Cl", "c", "1", "[nH]", "c", "(", "Br", ")", "c", "c", "1"]
    )
    # Scandium's letters are sulfur and an aromatic carbon outside of brackets.
    assert tokenizer.tokens("Sc1ccccc1")[:2] == ["S", "c"]
    assert tokenizer.tokens("[13CH3]C") == ["[", "1", "3", "C", "H", "3", "]", "C"]


def test_every_molecule_is_spelled_and_comes_back() -> None:
    tokenizer = SmilesTokenizer()
    tokens, cu = tokenizer.encode(MOLECULES)
    assert tokenizer.unk_id not in tokens
    for i, smiles in enumerate(MOLECULES):
        inside = tokens[cu[i] + 1 : cu[i + 1] - 1]
        assert "".join(tokenizer.vocabulary[t] for t in inside) == smiles
        alone, _ = tokenizer.encode([smiles])
        np.testing.assert_array_equal(alone, tokens[cu[i] : cu[i + 1]])
    assert len(set(SMILES_VOCABULARY)) == len(SMILES_VOCABULARY)


def test_masked_tokens_stand_among_atoms() -> None:
    tokenizer = SmilesTokenizer()
    tokens, _ = tokenizer.encode(["C<mask>O"])
    assert tokens[2] == tokenizer.mask_id


@pytest.mark.parametrize(
    ("smiles", "said"),
    [
        ("CC O", "molecule 3, position 3: ' ' does not belong in SMILES"),
        ("CCé", "molecule 3, position 3: 'é' does not belong"),
        ("C<cls>C", "molecule 3, position 2: '<cls>' is no atom"),
        ("", "molecule 3 is empty"),
    ],
)
def test_what_is_no_smiles_is_named(smiles: str, said: str) -> None:
    with pytest.raises(DataError, match=said.replace("(", r"\(")):
        SmilesTokenizer().encode(["CC", smiles], first_index=2)


def test_a_vocabulary_file_tells_what_it_is_for(tmp_path: Path) -> None:
    assert is_smiles_vocabulary(SMILES_VOCABULARY)
    assert not is_smiles_vocabulary(ESM_VOCABULARY)
    for name, text in tokenizer_files(SmilesTokenizer()).items():
        (tmp_path / name).write_text(text)
    config = {"vocab": len(SMILES_VOCABULARY), "pad_token": 1, "mask_token": -1}
    tokenizer = read_tokenizer(FolderFiles(tmp_path), config, [])
    assert isinstance(tokenizer, SmilesTokenizer)
    assert tokenizer.kind == "molecule"
    assert tokenizer == SmilesTokenizer()
    assert config["mask_token"] == len(SMILES_VOCABULARY) - 1


def test_transformers_reads_the_same_tokens(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    for name, text in tokenizer_files(SmilesTokenizer()).items():
        (tmp_path / name).write_text(text)
    published = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
    tokens, cu = SmilesTokenizer().encode(MOLECULES)
    for i, ids in enumerate(published(list(MOLECULES))["input_ids"]):
        np.testing.assert_array_equal(ids, tokens[cu[i] : cu[i + 1]])
