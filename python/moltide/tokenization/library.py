"""Tokenizers of any kind that the `tokenizers` library reads: BPE, WordPiece, WordLevel, Unigram.

ChemBERTa is published with byte-level BPE, as tokenizer.json or as vocab.json and merges.txt. Its
models have no unknown token: characters outside the vocabulary vanish, and DeepChem's
ChemBERTa-77M reads "Cl" as "C".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from moltide.errors import CheckpointError, DataError, MissingDependencyError
from moltide.kinds import MOLECULE, PROTEIN, RNA
from moltide.tokenization.base import Tokenizer

# Characters that sequences of a kind are written with; a vocabulary may lack some of them.
_WRITTEN = {
    PROTEIN: re.compile(r"[A-Za-z*.\-]"),
    MOLECULE: re.compile(r"[A-Za-z0-9\[\]()@+\-=#$%/\\.:*~>?]"),
    RNA: re.compile(r"[A-Za-z*.\-]"),
}
# How publishers spell special tokens that they name nowhere else.
_USUAL = {
    "pad_token": ("<pad>", "[PAD]"),
    "unk_token": ("<unk>", "[UNK]"),
    "mask_token": ("<mask>", "[MASK]"),
}
_PROBE = "C"
_SHOWN = 60


class LibraryTokenizer(Tokenizer):
    """A tokenizer.json run by the `tokenizers` library; results as for `Tokenizer`.

    Args:
        document: the text of tokenizer.json.
        published: file name -> text, as they are to be published again.
        specials: names such as "mask_token" to tokens, where the publisher gives them.
        kind: what the text is.

    Raises:
        CheckpointError: not a tokenizer.json, or sequences are not framed by one token before and
            one after.
        MissingDependencyError: the library is not installed.
    """

    def __init__(
        self,
        document: str,
        published: Mapping[str, str],
        specials: Mapping[str, str] | None = None,
        kind: str = MOLECULE,
        where: str = "tokenizer.json",
    ) -> None:
        self.kind = kind
        self.document = document
        self.published = dict(published)
        self._tokenizer = _build(document, where)
        vocabulary = self._tokenizer.get_vocab(with_added_tokens=True)
        tokens = sorted(vocabulary, key=vocabulary.__getitem__)
        if [vocabulary[token] for token in tokens] != list(range(len(tokens))):
            raise CheckpointError(f"{where}: token ids do not run from 0 to {len(tokens) - 1}")
        cls, eos = self._frame(where)
        found = {**_usual_specials(vocabulary, document), **(specials or {})}
        found |= {"cls_token": tokens[cls], "eos_token": tokens[eos]}
        super().__init__(tokens, found, where)
        inside = {found.get("mask_token"), found["unk_token"]}
        self._allowed = inside - {found["cls_token"], found["eos_token"]}
        self._odd_ids = [
            self._ids[token] for token in {*found.values()} - {found.get("mask_token")}
        ]
        spelled = sorted(set(found.values()), key=len, reverse=True)
        either = "|".join(map(re.escape, spelled))
        self._spelled = re.compile(rf"(?!{either})(.)|({either})", re.DOTALL)
        self._lost: dict[str, bool] = {}

    def _frame(self, where: str) -> tuple[int, int]:
        plain = self._tokenizer.encode(_PROBE, add_special_tokens=False).ids
        framed = self._tokenizer.encode(_PROBE, add_special_tokens=True).ids
        if len(framed) != len(plain) + 2 or framed[1:-1] != plain:
            raise CheckpointError(
                f"{where}: {_PROBE!r} is read as {framed}, without special tokens as {plain}; "
                "expected one special token before and one after"
            )
        return int(framed[0]), int(framed[-1])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LibraryTokenizer) and (
            (self.kind, json.loads(self.document), self.specials)
            == (other.kind, json.loads(other.document), other.specials)
        )

    def __hash__(self) -> int:
        return hash((self.kind, self.vocabulary))

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_tokenizer"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._tokenizer = _build(self.document, "tokenizer.json")

    def files(self) -> dict[str, str]:
        return dict(self.published)

    def _encode(
        self, sequences: Sequence[str], first_index: int, strict: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        # Most text needs no closer look, and no character of it a second one.
        plain = not strict or (
            all(isinstance(text, str) and text for text in sequences)
            and not any(map(self._needs_a_look, set().union(*sequences)))
        )
        ids, lengths = super()._encode(sequences, first_index, not plain)
        if plain and strict and (np.isin(ids, self._odd_ids).any() or (lengths == 0).any()):
            return super()._encode(sequences, first_index, True)
        return ids, lengths

    def _needs_a_look(self, character: str) -> bool:
        return self._is_lost(character) or not _WRITTEN[self.kind].fullmatch(character)

    def _ids_of(self, text: str) -> np.ndarray:
        # One by one: threads of the library's own would not go with ours, or with forks.
        try:
            found = self._tokenizer.encode(text, add_special_tokens=False).ids
        except (UnicodeEncodeError, TypeError):  # half of a surrogate pair
            whole = text.encode("utf-8", "replace").decode("utf-8")
            found = self._tokenizer.encode(whole, add_special_tokens=False).ids
        return np.array(found, dtype=np.int32)

    def _is_lost(self, character: str) -> bool:
        """Whether the published tokenizer leaves this character out of any text."""
        if character not in self._lost:
            self._lost[character] = not len(self._ids_of(character))
        return self._lost[character]

    def _has_unknown(self, text: str, index: int) -> bool:
        if not text.strip():
            raise DataError(f"{self._record} {index} is empty")
        characters: dict[str, int] = {}
        position = 0
        for plain, special in self._spelled.findall(text):
            position += 1
            if plain:
                characters.setdefault(plain, position)
            elif special not in self._allowed:
                raise self._misplaced(index, position, special, text)
            position += len(special or plain) - 1
        for character, position in characters.items():
            if not _WRITTEN[self.kind].fullmatch(character):
                raise self._misplaced(index, position, character, text)
        ids = self._ids_of(text)
        if not len(ids):
            raise DataError(
                f"{self._record} {index} is empty to the model: its vocabulary has no part of "
                f"{text[:_SHOWN]!r}"
            )
        return self.unk_id in ids or any(map(self._is_lost, characters))

    def _misplaced(self, index: int, position: int, what: str, text: str) -> DataError:
        written = "SMILES" if self.kind == MOLECULE else f"a {self.kind}"
        return DataError(
            f"{self._record} {index}, position {position}: {what!r} does not belong in {written} "
            f"({text[:_SHOWN]!r})"
        )

    def _unknown_note(self, indices: list[int], count: int) -> str:
        lost = "".join(sorted(character for character, is_lost in self._lost.items() if is_lost))
        what = f"left out ({lost})" if lost else f"read as {self.specials['unk_token']}"
        return (
            f"{len(indices)} of {count} {self._record}s (first: number {indices[0]}) hold "
            f"characters outside the vocabulary; they are {what}, as the published tokenizer does"
        )


def byte_level_document(
    vocabulary: Mapping[str, int],
    merges: Sequence[tuple[str, str]],
    specials: Mapping[str, str],
    added: Iterable[tuple[int, Mapping[str, Any]]] = (),
    add_prefix_space: bool = False,
    where: str = "vocab.json",
) -> str:
    """The tokenizer.json of RoBERTa's byte-level BPE, from vocab.json and merges.txt.

    Args:
        specials: cls, eos, pad, unk and mask token.
        added: id and description (content, lstrip, ...) of tokens beside the vocabulary.

    Raises:
        CheckpointError: the library refuses the parts, or an added token would get another id.
        MissingDependencyError: the library is not installed.
    """
    _library(where)
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors

    flags = ("lstrip", "rstrip", "single_word", "normalized")
    try:
        model = models.BPE(
            dict(vocabulary),
            list(merges),
            continuing_subword_prefix="",
            end_of_word_suffix="",
            fuse_unk=False,
        )
        tokenizer = Tokenizer(model)
        for index, entry in added:
            chosen = {name: bool(entry[name]) for name in flags if name in entry}
            token = AddedToken(entry["content"], special=bool(entry.get("special")), **chosen)
            (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])
            if tokenizer.token_to_id(entry["content"]) != index:
                raise CheckpointError(
                    f"{where}: added token {entry['content']!r} is said to have id {index}, it "
                    f"would have {tokenizer.token_to_id(entry['content'])}"
                )
        tokenizer.add_special_tokens(list(dict.fromkeys(specials.values())))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
        ends: list[Any] = [
            (token, tokenizer.token_to_id(token))
            for token in (specials["eos_token"], specials["cls_token"])
        ]
        tokenizer.post_processor = processors.RobertaProcessing(
            ends[0], ends[1], trim_offsets=True, add_prefix_space=add_prefix_space
        )
        return str(tokenizer.to_str())
    except CheckpointError:
        raise
    except Exception as error:  # the library raises plain Exception
        raise CheckpointError(f"{where}: no byte-level BPE: {error}") from None


def _library(where: str) -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise MissingDependencyError(
            f"{where}: reading this tokenizer needs the tokenizers library: "
            "pip install 'moltide[chem]'"
        ) from error
    return tokenizers


def _build(document: str, where: str) -> Any:
    library = _library(where)
    try:
        tokenizer = library.Tokenizer.from_str(document)
    except Exception as error:  # the library raises plain Exception
        raise CheckpointError(f"{where}: not a tokenizer.json: {error}") from None
    # Both are options of a call; a file that carries them would cut sequences in silence.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _usual_specials(vocabulary: Mapping[str, int], document: str) -> dict[str, str]:
    found = {
        name: next((token for token in usual if token in vocabulary), None)
        for name, usual in _USUAL.items()
    }
    unknown = json.loads(document)["model"].get("unk_token")
    found["unk_token"] = unknown or found["unk_token"]
    return {name: token for name, token in found.items() if token is not None}
