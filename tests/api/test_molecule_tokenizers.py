"""Tokenizers of SMILES: published ids of every layout, what is refused, files written back."""

from __future__ import annotations

import builtins
import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moltide.errors import CheckpointError, DataError, MissingDependencyError
from moltide.kinds import MOLECULE
from moltide.pretrained.files import FolderFiles
from moltide.pretrained.vocabulary import Reads, read_tokenizer, tokenizer_files
from moltide.tokenization.base import Tokenizer
from moltide.tokenization.library import LibraryTokenizer
from moltide.tokenization.smiles_pattern import (
    DEEPCHEM_PATTERN,
    MOLFORMER_PATTERN,
    PatternTokenizer,
)

DATA = Path(__file__).parent.parent / "data" / "chemberta"
BERT = {"cls_token": "[CLS]", "pad_token": "[PAD]", "eos_token": "[SEP]"}
BERT |= {"unk_token": "[UNK]", "mask_token": "[MASK]"}
MOLECULES = [
    "CCO",
    "CC(=O)Oc1ccccc1C(=O)O",
    "N[C@@H](C)C(=O)O",
    "Clc1ccc(Br)cc1[N+](=O)[O-]",
    "F/C=C\\F",
    "C1CC%10CCC1CC%10",
    "[Na+].[Cl-]",
    "C[MASK]c1ccccc1",
]
_PIECES = [*"CcNnOo()=#123[]@+-./\\%$*:~>", "Cl", "Br", "[nH]", "[C@H]", "%12", "[MASK]", "[UNK]"]
_ODD = [" ", "x", "Z", "é", "日", "\n", "[CLS]", "!", "", ">>", "[", "<mask>"]
TEXT = st.lists(st.sampled_from([*_PIECES, *_ODD]), max_size=14).map("".join)


def pattern_tokenizer(pattern: str = DEEPCHEM_PATTERN) -> PatternTokenizer:
    return PatternTokenizer((DATA / "vocab.txt").read_text().split(), BERT, pattern)


def ids(tokenizer: Tokenizer, text: str) -> list[int]:
    tokens, cu_seqlens = tokenizer.encode([text], on_illegal="unknown")
    assert cu_seqlens.tolist() == [0, len(tokens)]
    return tokens.tolist()


def config(vocab: int = 600, pad: int = 1) -> dict[str, int]:
    return {"vocab": vocab, "pad_token": pad, "mask_token": -1}


def read(folder: Path, **changes: Any) -> Tokenizer:
    return read_tokenizer(
        FolderFiles(folder), config(**changes), [], None, Reads(MOLECULE, pads=False)
    )


# ---- a regular expression and vocab.txt ---------------------------------------------------------


def test_published_pattern_and_golden_ids() -> None:
    """The expression and ids that DeepChem publishes with this vocabulary."""
    golden = json.loads((DATA / "golden_ids.json").read_text())
    assert golden["pattern"] == DEEPCHEM_PATTERN
    for case in golden["golden"]:
        assert ids(pattern_tokenizer(), case["smiles"]) == case["input_ids"]


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("C[MASK]O", [16, 14, 19]),
        ("ClC", [28, 16]),
        ("CxC", [16, 16]),  # no part of SMILES: left out
        ("[Uuo]C", [11, 16]),  # an atom outside the vocabulary
        ("C>>O", [16, 29, 19]),
        ("", []),
    ],
)
def test_odd_molecules(text: str, want: list[int]) -> None:
    vocabulary = (DATA / "vocab.txt").read_text().split()
    assert [vocabulary[i] for i in (14, 16, 19, 28, 29, 11)] == (
        ["[MASK]", "C", "O", "Cl", ">>", "[UNK]"]
    )
    assert ids(pattern_tokenizer(), text) == [12, *want, 13]


def test_molformer_has_no_reaction_arrow() -> None:
    vocabulary = ["<bos>", "<eos>", "<pad>", "<mask>", "C", ">", ">>"]
    specials = {"cls_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}
    specials |= {"unk_token": "<pad>", "mask_token": "<mask>"}
    arrows = PatternTokenizer(vocabulary, specials, MOLFORMER_PATTERN)
    assert ids(arrows, "C>>C") == [0, 4, 5, 5, 4, 1]
    assert ids(PatternTokenizer(vocabulary, specials), "C>>C") == [0, 4, 6, 4, 1]
    assert ids(arrows, "N<mask>") == [0, 2, 3, 1]  # published: <pad> stands for unknown


def as_deepchem(text: str) -> list[int]:
    """What BertTokenizer's way of looking up does with the expression's matches."""
    import re

    vocabulary = {token: i for i, token in enumerate((DATA / "vocab.txt").read_text().split())}
    found: list[int] = []
    for part in re.split(r"(\[PAD\]|\[UNK\]|\[CLS\]|\[SEP\]|\[MASK\])", text):
        if part in BERT.values():
            found.append(vocabulary[part])
        else:
            pieces = re.findall(DEEPCHEM_PATTERN, part)
            found += [vocabulary.get(piece, vocabulary["[UNK]"]) for piece in pieces]
    return [12, *found, 13]


@settings(max_examples=300, deadline=None)
@given(text=TEXT)
def test_any_text_as_deepchem_reads_it(text: str) -> None:
    assert ids(pattern_tokenizer(), text) == as_deepchem(text)


@settings(max_examples=200, deadline=None)
@given(text=TEXT)
def test_any_text_as_the_written_tokenizer_json_reads_it(text: str) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="compares with the tokenizers library")
    document = tokenizer_files(pattern_tokenizer())["tokenizer.json"]
    assert (
        ids(pattern_tokenizer(), text) == tokenizers.Tokenizer.from_str(document).encode(text).ids
    )


@pytest.mark.parametrize(
    ("text", "position", "what"),
    [
        ("CCx", 3, "x"),
        ("C C", 2, " "),
        ("CC[CLS]", 3, "[CLS]"),
        ("é", 1, "é"),
        ("C[MASK]!", 8, "!"),
        ("C[C", 2, "["),
    ],
)
def test_what_is_no_smiles_is_refused(text: str, position: int, what: str) -> None:
    with pytest.raises(DataError) as caught:
        pattern_tokenizer().encode(["CC", text], first_index=4)
    assert f"molecule 5, position {position}: {what!r} does not belong" in str(caught.value)


@pytest.mark.parametrize("text", ["", "  "])
def test_no_molecule(text: str) -> None:
    with pytest.raises(DataError, match="molecule 1 is empty"):
        pattern_tokenizer().encode(["C", text])
    with pytest.raises(DataError, match=r"molecule 0 is None .*expected text"):
        pattern_tokenizer().encode([None])  # type: ignore[list-item]


def test_atoms_outside_the_vocabulary_warn_once() -> None:
    with pytest.warns(UserWarning, match=r"2 of 3 molecules \(first: number 7\).*\[UNK\]") as seen:
        tokens, _ = pattern_tokenizer().encode(["C", "[Uuo]", "[Uuo]C"], first_index=6)
    assert len(seen) == 1
    assert tokens.tolist() == [12, 16, 13, 12, 11, 13, 12, 11, 16, 13]


def test_fast_and_slow_path_give_the_same_ids() -> None:
    tokenizer = pattern_tokenizer()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        alone = [tokenizer.encode([text])[0].tolist() for text in MOLECULES]
        together, cu_seqlens = tokenizer.encode(MOLECULES)
    assert together.tolist() == [token for one in alone for token in one]
    assert alone == [ids(tokenizer, text) for text in MOLECULES]
    assert (cu_seqlens[1:] - cu_seqlens[:-1]).tolist() == [len(one) for one in alone]


# ---- BPE ----------------------------------------------------------------------------------------


def bpe_folder(folder: Path, deepchem: bool = False) -> Path:
    """vocab.json and merges.txt: trained BPE, or DeepChem's SMILES vocabulary without merges."""
    if not deepchem:
        for name in ("vocab.json", "merges.txt"):
            (folder / name).write_bytes((DATA / "bpe" / name).read_bytes())
        return folder
    tokens = (DATA / "vocab.txt").read_text().split()
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    named = {**BERT, "sep_token": "[SEP]", "bos_token": "[CLS]"}
    (folder / "special_tokens_map.json").write_text(json.dumps(named))
    return folder


@pytest.fixture(params=[False, True], ids=["merges", "DeepChem"])
def bpe(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    pytest.importorskip("tokenizers", reason="BPE is read by the tokenizers library")
    return bpe_folder(tmp_path, request.param)


def transformers_tokenizer(folder: Path) -> Any:
    transformers = pytest.importorskip("transformers", reason="compares with Transformers")
    described = {"model_type": "roberta", "vocab_size": 600}
    (folder / "config.json").write_text(json.dumps(described))
    return transformers.AutoTokenizer.from_pretrained(folder)


def test_bpe_as_transformers_reads_it(bpe: Path) -> None:
    theirs = transformers_tokenizer(bpe)
    ours = read(bpe)
    for text in [*MOLECULES, "C C", "é", "", "[CLS]C", "<mask>C", "Cx!"]:
        assert ids(ours, text) == theirs(text)["input_ids"], text
    assert (ours.cls_id, ours.eos_id) == (theirs.cls_token_id, theirs.sep_token_id)
    assert (ours.pad_id, ours.unk_id) == (theirs.pad_token_id, theirs.unk_token_id)
    assert ours.mask_id == theirs.mask_token_id


def test_bpe_from_tokenizer_json(bpe: Path, tmp_path: Path) -> None:
    """As Transformers saves it, truncation and padding left in it: they are not for files."""
    want = read(bpe)
    saved = tmp_path / "saved"
    transformers_tokenizer(bpe).save_pretrained(saved)
    document = json.loads((saved / "tokenizer.json").read_text())
    document["truncation"] = {
        **{"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    }
    (saved / "tokenizer.json").write_text(json.dumps(document))
    got = read(saved)
    for text in MOLECULES:
        assert ids(got, text) == ids(want, text)
    assert got.specials == want.specials


def test_deepchem_leaves_characters_out_with_one_warning(tmp_path: Path) -> None:
    """ChemBERTa-77M has no "l": published, "Cl" is read as "C", and brackets vanish."""
    pytest.importorskip("tokenizers", reason="BPE is read by the tokenizers library")
    tokenizer = read(bpe_folder(tmp_path, deepchem=True))
    with pytest.warns(UserWarning, match=r"1 of 2 molecules .*left out \(l\)") as seen:
        tokens, _ = tokenizer.encode(["CC", "CCl"])
    assert len(seen) == 1
    assert tokens.tolist() == [12, 16, 16, 13, 12, 16, 16, 13]
    with pytest.raises(DataError, match="molecule 1 is empty to the model"):
        tokenizer.encode(["C", "[@@]"])


@pytest.mark.parametrize(
    ("text", "position", "what"), [("CC O", 3, " "), ("Cé", 2, "é"), ("C<s>", 2, "<s>")]
)
def test_bpe_refuses_what_is_no_smiles(tmp_path: Path, text: str, position: int, what: str) -> None:
    """Also what the vocabulary has bytes for."""
    pytest.importorskip("tokenizers", reason="BPE is read by the tokenizers library")
    tokenizer = read(bpe_folder(tmp_path))
    with pytest.raises(DataError) as caught:
        tokenizer.encode(["CC", text])
    assert f"molecule 1, position {position}: {what!r} does not belong" in str(caught.value)
    tokenizer.encode(["CC<mask>O"])
    assert len(ids(tokenizer, "\ud800C")) > 2


def test_written_files_read_back(bpe: Path, tmp_path: Path) -> None:
    tokenizer = read(bpe)
    again = tmp_path / "again"
    again.mkdir()
    for name, text in tokenizer_files(tokenizer).items():
        (again / name).write_text(text, encoding="utf-8")
    assert read(again) == tokenizer
    assert pickle.loads(pickle.dumps(tokenizer)) == tokenizer
    theirs = transformers_tokenizer(again)
    for text in MOLECULES:
        assert ids(tokenizer, text) == theirs(text)["input_ids"]


def test_pattern_files_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tokenizer.json is for Transformers; the library is not needed to read it back."""
    tokenizer = pattern_tokenizer()
    for name, text in tokenizer_files(tokenizer).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    theirs = transformers_tokenizer(tmp_path)
    for text in MOLECULES:
        assert ids(tokenizer, text) == theirs(text)["input_ids"]
    without_tokenizers(monkeypatch)
    again = read(tmp_path)
    assert again == tokenizer
    assert hash(again) == hash(tokenizer)
    assert again != pattern_tokenizer(MOLFORMER_PATTERN)


def without_tokenizers(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == "tokenizers":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)


def test_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bpe_folder(tmp_path)
    without_tokenizers(monkeypatch)
    with pytest.raises(MissingDependencyError, match=r"vocab.json.*pip install 'moltide\[chem\]'"):
        read(tmp_path)


def other_model(kind: str) -> str:
    """A tokenizer.json of another kind of model, framed by <s> and </s>."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "C", "N", "O", "##C", "##O"]
    known = {token: i for i, token in enumerate(words)}
    model: Any = {
        "WordPiece": lambda: models.WordPiece(known, unk_token="<unk>"),
        "WordLevel": lambda: models.WordLevel(known, unk_token="<unk>"),
        "Unigram": lambda: models.Unigram([(word, -1.0) for word in words], 3),
    }[kind]()
    tokenizer = Tokenizer(model)
    tokenizer.add_special_tokens(words[:5])
    if kind == "WordLevel":
        tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        "<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return str(tokenizer.to_str())


@pytest.mark.parametrize("kind", ["WordPiece", "WordLevel", "Unigram"])
def test_other_models_of_the_library(tmp_path: Path, kind: str) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="read by the tokenizers library")
    document = other_model(kind)
    (tmp_path / "tokenizer.json").write_text(document)
    tokenizer = read(tmp_path)
    theirs = tokenizers.Tokenizer.from_str(document)
    for text in ("CNO", "C<mask>O", "CCC", "NOS"):
        assert ids(tokenizer, text) == theirs.encode(text).ids
    assert isinstance(tokenizer, LibraryTokenizer)
    with pytest.warns(UserWarning, match=r"1 of 2 molecules .*read as <unk>"):
        tokenizer.encode(["C", "CNS"])


# ---- files that do not fit ----------------------------------------------------------------------


def framed_by(template: str) -> str:
    from tokenizers import Tokenizer, processors

    tokenizer = Tokenizer.from_str(other_model("WordLevel"))
    tokenizer.post_processor = processors.TemplateProcessing(
        template, special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return str(tokenizer.to_str())


CASES: dict[str, tuple[dict[str, str], str]] = {
    "nothing": ({}, "no tokenizer; looked for tokenizer.json, vocab.json with merges.txt"),
    "no JSON": ({"tokenizer.json": "{"}, "not valid JSON"),
    "no tokenizer": ({"tokenizer.json": '{"model": {}}'}, "not a tokenizer.json"),
    "ids that are none": ({"vocab.json": '{"C": "x"}', "merges.txt": ""}, "'C' has id 'x'"),
    "three to merge": (
        {"vocab.json": '{"<s>": 0, "</s>": 1}', "merges.txt": "#version\nC C C\n"},
        "line 2 is 'C C C'; expected two tokens",
    ),
    "no special tokens": ({"vocab.txt": "C\nN\n"}, "no cls_token: neither tokenizer_config.json"),
    "WordPiece alone": ({"vocab.txt": "[CLS]\n##C\n"}, "'##C' is part of a WordPiece vocabulary"),
    "a token twice": ({"vocab.txt": "[CLS]\n[SEP]\n[PAD]\n[UNK]\n[MASK]\nC\nC\n"}, "'C' appears"),
    "holes": (
        {"vocab.json": '{"<s>": 0, "</s>": 1, "<pad>": 2, "<unk>": 3, "<mask>": 4, "C": 9}'},
        "ids do not run from 0 to 5",
    ),
    "merge of a stranger": (
        {
            "vocab.json": '{"<s>": 0, "</s>": 1, "<pad>": 2, "<unk>": 3, "<mask>": 4, "C": 5}',
            "merges.txt": "C N\n",
        },
        "no byte-level BPE",
    ),
    "added token elsewhere": (
        {
            "vocab.json": '{"<s>": 0, "</s>": 1, "<pad>": 2, "<unk>": 3, "<mask>": 4, "C": 5}',
            "merges.txt": "",
            "added_tokens.json": '{"Xx": 9}',
        },
        "added token 'Xx' is said to have id 9, it would have 6",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_files_refused(tmp_path: Path, case: str) -> None:
    pytest.importorskip("tokenizers", reason="BPE is read by the tokenizers library")
    files, message = CASES[case]
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(CheckpointError, match=message):
        read(tmp_path)


@pytest.mark.parametrize("template", ["$A", "<s> $A", "$A </s>", "<s> $A </s> </s>"])
def test_another_frame_is_refused(tmp_path: Path, template: str) -> None:
    pytest.importorskip("tokenizers", reason="read by the tokenizers library")
    (tmp_path / "tokenizer.json").write_text(framed_by(template))
    with pytest.raises(CheckpointError, match="expected one special token before and one after"):
        read(tmp_path)


def test_more_tokens_than_embeddings(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes((DATA / "vocab.txt").read_bytes())
    with pytest.raises(CheckpointError, match=r"591 tokens, config.json says vocab_size 500"):
        read(tmp_path, vocab=500)


def test_padding_of_the_config_may_differ(tmp_path: Path) -> None:
    """Published ChemBERTa-77M says 1 where its tokenizer pads with 0."""
    (tmp_path / "vocab.txt").write_bytes((DATA / "vocab.txt").read_bytes())
    settled = config(pad=1)
    reads = Reads(MOLECULE, pads=False)
    tokenizer = read_tokenizer(FolderFiles(tmp_path), settled, [], None, reads)
    assert (settled["pad_token"], settled["cls_token"], settled["eos_token"]) == (0, 12, 13)
    assert settled["mask_token"] == tokenizer.mask_id == 14
    assert tokenizer == pattern_tokenizer()
