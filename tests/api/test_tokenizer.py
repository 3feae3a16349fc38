"""Token ids: published goldens, Transformers' own tokenizers where installed, refusals."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moltide.errors import CheckpointError, ConfigError, DataError
from moltide.pretrained.files import FolderFiles
from moltide.pretrained.vocabulary import read_tokenizer, tokenizer_files
from moltide.tokenizer import ESM_VOCABULARY, ResidueTokenizer

DATA = Path(__file__).parent.parent / "data" / "esm2_tokenizer"
BY_VOCABULARY = ResidueTokenizer()
BY_CHARACTER = ResidueTokenizer(split="characters")

# Text that no protein file should hold but tokenizers answer to all the same.
_ODD = ("j", "J", "mk", "*", " ", "\n", "\t", "\xa0", "\x1c", "é", "日", "<", ">", "<mas", "mask>")
_ODDER = ("<MASK>", "1", "?", "\x00", "  ", "<<mask>>")
_PIECES = st.sampled_from([*ESM_VOCABULARY, *_ODD, *_ODDER])
_TEXT = st.one_of(st.lists(_PIECES, max_size=12).map("".join), st.text(max_size=12))


def ids(tokenizer: ResidueTokenizer, text: str) -> list[int]:
    tokens, cu_seqlens = tokenizer.encode([text], on_illegal="unknown")
    assert cu_seqlens.tolist() == [0, len(tokens)]
    return tokens.tolist()


def test_vocabulary_is_the_published_one() -> None:
    assert tuple((DATA / "vocab.txt").read_text().split()) == ESM_VOCABULARY


@pytest.mark.parametrize("case", json.loads((DATA / "golden_ids.json").read_text())["tokenization"])
def test_golden_ids(case: dict) -> None:
    assert ids(BY_CHARACTER, case["sequence"]) == case["input_ids"]
    if "J*" not in case["sequence"]:
        assert ids(BY_VOCABULARY, case["sequence"]) == case["input_ids"]


# Printed by EsmTokenizer of Transformers 5.23 over vocab.txt, and by tokenizer.json.
@pytest.mark.parametrize(
    ("text", "by_vocabulary", "by_character"),
    [
        ("KXJ*A", [15, 24, 3, 5], [15, 24, 3, 3, 5]),
        ("mktK", [3, 15], [3, 3, 3, 15]),
        ("M K T", [20, 15, 11], [20, 3, 15, 3, 11]),
        ("M\nK\tjj jj", [20, 15, 3, 3], [20, 3, 15, 3, 3, 3, 3, 3, 3]),
        ("M<mask> K", [20, 32, 15], [20, 32, 3, 15]),
        ("<MASK>", [3, 20, 5, 8, 15, 3], [3, 20, 5, 8, 15, 3]),
        ("<mas<mask>", [3, 32], [3, 3, 3, 3, 32]),
        ("<null_1>A<pad>", [31, 5, 1], [3, 3, 3, 3, 3, 3, 3, 3, 5, 1]),
        ("", [], []),
        ("  ", [], [3, 3]),
        ("<unk><unk>jj<unk>j", [3, 3, 3, 3, 3], [3, 3, 3, 3, 3, 3]),
        ("A\xa0B", [5, 25], [5, 3, 25]),
    ],
)
def test_odd_text(text: str, by_vocabulary: list[int], by_character: list[int]) -> None:
    assert ids(BY_VOCABULARY, text) == [0, *by_vocabulary, 2]
    assert ids(BY_CHARACTER, text) == [0, *by_character, 2]


@pytest.fixture(scope="module")
def published_slow():
    transformers = pytest.importorskip("transformers", reason="compares with Transformers")
    return transformers.EsmTokenizer(str(DATA / "vocab.txt"))


@pytest.fixture(scope="module")
def published_fast():
    tokenizers = pytest.importorskip("tokenizers", reason="compares with the tokenizers library")
    return tokenizers.Tokenizer.from_file(str(DATA / "tokenizer.json"))


@settings(max_examples=300, deadline=None)
@given(text=_TEXT)
def test_any_text_as_transformers_reads_vocab_txt(published_slow, text: str) -> None:
    assert ids(BY_VOCABULARY, text) == published_slow(text)["input_ids"]


@settings(max_examples=300, deadline=None)
@given(text=_TEXT)
def test_any_text_as_tokenizers_reads_tokenizer_json(published_fast, text: str) -> None:
    assert ids(BY_CHARACTER, text) == published_fast.encode(text).ids


@settings(max_examples=100, deadline=None)
@given(texts=st.lists(_TEXT, max_size=6))
def test_a_batch_is_its_sequences_end_to_end(texts: list[str]) -> None:
    for tokenizer in (BY_VOCABULARY, BY_CHARACTER):
        tokens, cu_seqlens = tokenizer.encode(texts, on_illegal="unknown")
        assert tokens.dtype == np.int32
        assert cu_seqlens.dtype == np.int32
        parts = np.split(tokens, cu_seqlens[1:-1]) if texts else []
        assert [part.tolist() for part in parts] == [ids(tokenizer, text) for text in texts]


def test_plain_residues_take_the_same_ids_by_table_and_by_search() -> None:
    text = "".join(t for t in ESM_VOCABULARY if len(t) == 1)
    by_table, _ = BY_VOCABULARY.encode([text])
    by_search, _ = BY_VOCABULARY.encode([text, "A<mask>"])
    assert by_table.tolist() == by_search[: len(by_table)].tolist()


@pytest.mark.parametrize(
    ("text", "position", "character"),
    [("MK7T", 3, "7"), ("M-K!T", 4, "!"), ("MK<pad>", 3, "<pad>"), ("é", 1, "é"), ("A?", 2, "?")],
)
def test_what_is_no_residue_is_refused(text: str, position: int, character: str) -> None:
    with pytest.raises(DataError) as caught:
        BY_VOCABULARY.encode(["MKT", text], first_index=10)
    message = str(caught.value)
    assert f"sequence 11, position {position}" in message
    assert repr(character) in message
    assert "LAGVSERTIDPKQNFYMHWCXBUZO.-" in message


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_empty_sequences_are_refused(text: str) -> None:
    with pytest.raises(DataError, match="sequence 1 is empty"):
        BY_VOCABULARY.encode(["MK", text])


@pytest.mark.parametrize("value", [None, 3, float("nan"), b"MKT"])
def test_what_is_no_text_is_refused(value: object) -> None:
    with pytest.raises(DataError, match=r"sequence 1 is .*expected text"):
        BY_VOCABULARY.encode(["MK", value])  # type: ignore[list-item]


def test_lower_case_and_stops_are_unknown_with_one_warning() -> None:
    with pytest.warns(UserWarning, match=r"2 of 3 sequences \(first: number 1\)") as caught:
        tokens, _ = BY_VOCABULARY.encode(["MKT", "mkT", "MK*"])
    assert len(caught) == 1
    assert tokens.tolist() == [0, 20, 15, 11, 2, 0, 3, 11, 2, 0, 20, 15, 3, 2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        BY_VOCABULARY.encode(["mkT"], on_illegal="unknown")
        BY_VOCABULARY.encode(["MKTXBUZO.-", "M<mask>T"])


def test_another_on_illegal_is_refused() -> None:
    with pytest.raises(ConfigError, match="on_illegal is 'skip'"):
        BY_VOCABULARY.encode(["MK"], on_illegal="skip")


def config(**changes: int) -> dict[str, int]:
    return {"vocab": 33, "pad_token": 1, "mask_token": 32, "cls_token": -1, **changes}


def copy_files(folder: Path, *names: str) -> FolderFiles:
    for name in names:
        (folder / name).write_bytes((DATA / name).read_bytes())
    return FolderFiles(folder)


def test_which_file_counts(tmp_path: Path) -> None:
    """As AutoTokenizer: tokenizer.json if a fast class is named or there is nothing else."""
    only_vocab = copy_files(tmp_path, "vocab.txt")
    assert read_tokenizer(only_vocab, config(), []).split == "vocabulary"
    both = copy_files(tmp_path, "tokenizer.json")
    assert read_tokenizer(both, config(), []).split == "vocabulary"
    fast = copy_files(tmp_path, "tokenizer_config.json")
    assert read_tokenizer(fast, config(), []).split == "characters"
    (tmp_path / "vocab.txt").unlink()
    (tmp_path / "tokenizer_config.json").unlink()
    assert read_tokenizer(fast, config(), []).split == "characters"


def test_special_ids_come_from_the_vocabulary(tmp_path: Path) -> None:
    settled = config()
    read_tokenizer(copy_files(tmp_path, "vocab.txt"), settled, [])
    assert (settled["cls_token"], settled["eos_token"]) == (0, 2)


def test_no_vocabulary_at_all(tmp_path: Path) -> None:
    notes: list[str] = []
    assert read_tokenizer(FolderFiles(tmp_path), config(), notes) == ResidueTokenizer()
    assert "assumed" in notes[0]
    with pytest.raises(CheckpointError, match=r"no vocab.txt or tokenizer.json, and vocab_size 26"):
        read_tokenizer(FolderFiles(tmp_path), config(vocab=26), [])


def test_vocabulary_in_the_config(tmp_path: Path) -> None:
    tokens = ["<cls>", "<pad>", "<eos>", "<unk>", "A", "C", "<mask>"]
    got = read_tokenizer(FolderFiles(tmp_path), config(vocab=7, mask_token=6), [], tokens)
    assert got.vocabulary == tuple(tokens)
    copy_files(tmp_path, "vocab.txt")
    assert len(read_tokenizer(FolderFiles(tmp_path), config(), [], tokens)) == 33


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.txt", b"<cls>\n<pad>\n<eos>\n<unk>\nA\nA\n<mask>", "token 'A' appears twice"),
        ("vocab.txt", b"<cls>\n\n<pad>", "line 2 is empty"),
        ("vocab.txt", b"A\nB", "cls_token '<cls>' is not in the vocabulary"),
        ("vocab.txt", b"\xff\xfe", "not UTF-8"),
        ("vocab.txt", b"", "line 1 is empty"),
        ("vocab.txt", b"<pad>\n<cls>\n<eos>\n<unk>\n<mask>", "pad_token is id 0, config.json says"),
        ("tokenizer.json", b"{", "not valid JSON"),
        ("tokenizer.json", b"[1]", "holds a list"),
        ("tokenizer.json", b'{"model": {"type": "BPE"}}', "not the tokenizer of a residue model"),
    ],
)
def test_bad_tokenizer_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_tokenizer(FolderFiles(tmp_path), config(), [])


def test_a_tokenizer_that_reads_words_is_refused(tmp_path: Path) -> None:
    document = json.loads((DATA / "tokenizer.json").read_text())
    document["pre_tokenizer"] = {"type": "Split", "pattern": {"Regex": "\\s"}, "invert": False}
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match="split by character"):
        read_tokenizer(FolderFiles(tmp_path), config(), [])


@pytest.mark.parametrize("split", ["vocabulary", "characters"])
def test_written_files_read_back(tmp_path: Path, split: str) -> None:
    tokenizer = ResidueTokenizer(split=split)
    for name, text in tokenizer_files(tokenizer).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_tokenizer(FolderFiles(tmp_path), config(), []) == tokenizer


@pytest.mark.parametrize("split", ["vocabulary", "characters"])
def test_transformers_reads_written_files(tmp_path: Path, split: str) -> None:
    transformers = pytest.importorskip("transformers", reason="compares with Transformers")
    tokenizer = ResidueTokenizer(split=split)
    for name, text in tokenizer_files(tokenizer).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "esm", "vocab_size": 33}))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in ("MKT<mask>L", "KXJ*A", "mk T"):
        assert theirs(text)["input_ids"] == ids(tokenizer, text)
