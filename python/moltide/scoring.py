"""Zero-shot scores of variants from a masked language model, after Meier et al. 2021
("Language models enable zero-shot prediction of the effects of mutations on protein function").

A score is a log-odds against the wild type: above 0, the model likes the variant better. With
s = log softmax over the whole vocabulary:

- "masked": sum over mutated positions of s(mutant) - s(wild type), each position masked in turn in
  the wild type. One pass a distinct position; what the authors' script and ProteinGym compute.
  `joint=True` masks all positions of a variant together, the formula of the paper: one pass a
  distinct set of positions.
- "wildtype": the same sum, read off one pass over the unmasked wild type.
- "pseudo": pseudo-log-likelihood of the variant minus that of the wild type; as many passes as
  residues for every variant.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from moltide.errors import ConfigError, DataError
from moltide.kinds import MANY, UNIT
from moltide.packed import PackedModel, checked_batch
from moltide.sequences import LETTERS, RESIDUES, Progress, ProgressCallback, as_texts
from moltide.tokenizer import FRAME

METHODS = ("masked", "wildtype", "pseudo")


@dataclass(frozen=True)
class Scan:
    """Every single substitution of a wild type: `scores` float32 (L, 20), columns in the order of
    `residues`; the wild type's own residue scores 0, and a position with another letter (X) is NaN.
    `offset` numbers the first residue."""

    wildtype: str
    scores: np.ndarray
    residues: str = RESIDUES
    method: str = "masked"
    offset: int = 1

    def to_frame(self) -> Any:
        """A pandas DataFrame: one row a position (index such as "A42"), one column a residue."""
        import pandas

        index = [f"{residue}{i}" for i, residue in enumerate(self.wildtype, self.offset)]
        return pandas.DataFrame(self.scores, index=index, columns=list(self.residues))

    def to_long(self) -> tuple[list[str], np.ndarray]:
        """Mutation names ("A42G") and their scores, without the wild type's own residues and
        positions that have no score."""
        names, rows, columns = [], [], []
        for i, residue in enumerate(self.wildtype):
            if residue not in self.residues:
                continue
            for j, other in enumerate(self.residues):
                if other != residue:
                    names.append(f"{residue}{i + self.offset}{other}")
                    rows.append(i)
                    columns.append(j)
        return names, self.scores[rows, columns]


def score_variants(
    encoder: PackedModel,
    wildtype: str,
    variants: Any,
    method: str = "masked",
    *,
    offset: int = 1,
    joint: bool = False,
    adapter: str | None = None,
    batch_tokens: int | None = None,
    progress: bool | ProgressCallback | None = None,
) -> np.ndarray:
    """Log-odds of variants against the wild type, float32 (n,).

    Args:
        wildtype: residues, upper case.
        variants: mutation strings ("A42G", "A42G:L7P", "WT" scores 0), or for each variant the
            mutations `moltide.assay.mutations.parse_mutations` gives.
        method: "masked", "wildtype" or "pseudo"; see `moltide.scoring`.
        offset: the number of the wild type's first residue in the strings.
        joint: "masked" only: mask all positions of a variant together.

    Returns:
        One score a variant; NaN (with one warning) where a mutant residue has no token, such as a
        stop.

    Raises:
        DataError: a mutation that contradicts the wild type (variant, what it has, what it says),
            or a wild type with residues outside the vocabulary.
        ConfigError: another method, or a model without a masked-LM head.
    """
    if method not in METHODS:
        raise ConfigError(f"method is {method!r}; allowed: {', '.join(METHODS)}")
    if joint and method != "masked":
        raise ConfigError(f"joint=True goes with method='masked', not {method!r}")
    tokens = _wildtype_tokens(encoder, wildtype)
    parsed = [_tokenised(encoder, m) for m in _parsed(variants, wildtype, offset)]
    passes = _Passes(encoder, adapter, batch_tokens)
    if method == "pseudo":
        scores = _pseudo(passes, tokens, parsed, progress)
    elif method == "wildtype":
        table = passes.log_probabilities([tokens], [slice(1, -1)], None, 1)[0]
        scores = [_sum(table, range(len(tokens)), tokens, mutations) for mutations in parsed]
    else:
        scores = _masked(passes, tokens, parsed, joint, progress)
    return _with_nan(scores, parsed, encoder)


def scan(
    encoder: PackedModel,
    wildtype: str,
    method: str = "masked",
    *,
    offset: int = 1,
    adapter: str | None = None,
    batch_tokens: int | None = None,
    progress: bool | ProgressCallback | None = None,
) -> Scan:
    """Score every single substitution by the 20 residues, of RNA by the four nucleotides; see
    `score_variants` for the methods.

    A position without a known one (X, B, Z, ...) is not scored: the model hardly ever predicts such
    a letter, so that anything would seem better.

    Raises:
        DataError, ConfigError: as `score_variants`; no position has one of these; a model of
            molecules.
    """
    kind = encoder.tokenizer.kind
    letters = LETTERS.get(kind)
    if letters is None:
        raise ConfigError(f"a scan is of proteins or RNA; {encoder.name} reads {MANY[kind]}")
    if method not in METHODS:
        raise ConfigError(f"method is {method!r}; allowed: {', '.join(METHODS)}")
    tokens = _wildtype_tokens(encoder, wildtype)
    columns = np.array([encoder.tokenizer.id_of(letter) for letter in letters])
    known = [i for i, letter in enumerate(wildtype) if letter in letters]
    if not known:
        raise DataError(f"the wild type has none of the {UNIT[kind]}s {letters}: nothing to scan")
    passes = _Passes(encoder, adapter, batch_tokens)
    scores = np.full((len(wildtype), len(letters)), np.nan, dtype=np.float32)
    if method == "pseudo":
        changes = [[(i, int(c))] for i in known for c in columns]
        flat = _pseudo(passes, tokens, changes, progress)
        scores[known] = np.array(flat).reshape(len(known), len(letters))
    else:
        if method == "wildtype":
            table = passes.log_probabilities([tokens], [slice(1, -1)], None, 1)[0][known]
        else:
            table = _masked_table(passes, tokens, known, progress)
        own = table[np.arange(len(known)), tokens[1:-1][known]]
        scores[known] = table[:, columns] - own[:, None]
    return Scan(wildtype, scores, letters, method, offset)


def pseudo_log_likelihood(
    encoder: PackedModel,
    sequences: Any,
    *,
    adapter: str | None = None,
    batch_tokens: int | None = None,
    progress: bool | ProgressCallback | None = None,
) -> np.ndarray:
    """Sum over residues of log p(residue | all others), float64 (n,): one pass a residue.

    Raises:
        DataError: an empty sequence, or residues outside the vocabulary.
        ConfigError: a model without a masked-LM head.
    """
    passes = _Passes(encoder, adapter, batch_tokens)
    tokens = [
        _wildtype_tokens(encoder, text, f"sequence {i}")
        for i, text in enumerate(as_texts(sequences))
    ]
    return np.array(passes.pseudo(tokens, progress), dtype=np.float64)


class _Passes:
    """Forward passes over token arrays, packed; keeps the rows of the answer that are asked for."""

    def __init__(self, encoder: PackedModel, adapter: str | None, batch_tokens: int | None) -> None:
        encoder._need("lm_head", "masked-LM head")
        encoder._check_adapter(adapter)
        self.encoder = encoder
        self.adapter = adapter
        self.batch_tokens = checked_batch(batch_tokens)

    def log_probabilities(
        self,
        sequences: Iterable[np.ndarray],
        rows: Iterable[Any],
        progress: bool | ProgressCallback | None,
        total: int | None,
    ) -> list[np.ndarray]:
        """For each token array the log softmax (float64) of the rows that go with it."""
        results: list[np.ndarray] = []
        pack: list[np.ndarray] = []
        wanted: list[Any] = []
        filled = 0
        with Progress(progress, total, "score") as bar:

            def flush() -> None:
                if not pack:
                    return
                cu = np.zeros(len(pack) + 1, dtype=np.int32)
                np.cumsum([len(p) for p in pack], out=cu[1:])
                logits = self.encoder.model.logits(np.concatenate(pack), cu, self.adapter)
                for start, end, keep in zip(cu[:-1], cu[1:], wanted, strict=True):
                    results.append(_log_softmax(logits[start:end][keep]))
                bar.add(len(pack))
                pack.clear()
                wanted.clear()

            for tokens, keep in zip(sequences, rows, strict=True):
                if filled + len(tokens) > self.batch_tokens:
                    flush()
                    filled = 0
                pack.append(tokens)
                wanted.append(keep)
                filled += len(tokens)
            flush()
        return results

    def masked(self, tokens: np.ndarray, positions: Sequence[int]) -> np.ndarray:
        """A copy with <mask> at 0-based residue positions."""
        copy: np.ndarray = tokens.copy()
        copy[np.asarray(positions, dtype=np.int64) + 1] = self.encoder.tokenizer.mask_id
        return copy

    def pseudo(
        self, sequences: Sequence[np.ndarray], progress: bool | ProgressCallback | None
    ) -> list[float]:
        """Pseudo-log-likelihood of each token array."""
        places = [(s, i) for s, tokens in enumerate(sequences) for i in range(len(tokens) - FRAME)]
        values = self.log_probabilities(
            (self.masked(sequences[s], [i]) for s, i in places),
            ([i + 1] for _, i in places),
            progress,
            len(places),
        )
        sums = [0.0] * len(sequences)
        for (s, i), row in zip(places, values, strict=True):
            sums[s] += float(row[0, sequences[s][i + 1]])
        return sums


Changes = list[tuple[int, int]]  # (0-based position, token of the mutant residue)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    result: np.ndarray = wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    return result


def _wildtype_tokens(
    encoder: PackedModel, wildtype: str, what: str = "the wild type"
) -> np.ndarray:
    """Tokens of a sequence, one a residue; unknown residues would shift or blur positions."""
    if not isinstance(wildtype, str):
        raise DataError(f"{what} is {type(wildtype).__name__}; expected residues as text")
    if encoder.tokenizer.in_space:
        raise ConfigError(f"{encoder.name} reads molecules in space; scores are of residues")
    known = encoder.tokenizer.residues
    for position, residue in enumerate(wildtype, 1):
        if residue not in known:
            raise DataError(
                f"{what} has {residue!r} at position {position}; allowed are {known} (upper case)"
            )
    tokens, cu_seqlens = encoder.tokenizer.encode([wildtype])
    encoder._check_lengths(cu_seqlens, 0)
    return tokens


def _parsed(variants: Any, wildtype: str, offset: int) -> Iterator[Sequence[Any]]:
    from moltide.assay.mutations import parse_mutations

    for index, variant in enumerate(as_texts(variants)):
        if not isinstance(variant, str):
            yield variant
            continue
        try:
            yield parse_mutations(variant, wildtype, offset=offset)
        except DataError as error:
            raise DataError(f"variant {index}: {error}") from None


def _tokenised(encoder: PackedModel, mutations: Sequence[Any]) -> Changes:
    return [(m.position, encoder.tokenizer.id_of(m.mut)) for m in mutations]


def _sum(table: np.ndarray, row_of: Any, tokens: np.ndarray, changes: Changes) -> float:
    """Sum of log-odds; `row_of[position]` is the row of `table` for a position."""
    return float(sum(table[row_of[p], new] - table[row_of[p], tokens[p + 1]] for p, new in changes))


def _masked_table(
    passes: _Passes,
    tokens: np.ndarray,
    positions: Iterable[int],
    progress: bool | ProgressCallback | None,
) -> np.ndarray:
    """Row k: log probabilities at positions[k] with that position masked."""
    wanted = list(positions)
    rows = passes.log_probabilities(
        (passes.masked(tokens, [p]) for p in wanted),
        ([p + 1] for p in wanted),
        progress,
        len(wanted),
    )
    return np.concatenate(rows) if rows else np.empty((0, passes.encoder.config["vocab"]))


def _masked(
    passes: _Passes,
    tokens: np.ndarray,
    parsed: list[Changes],
    joint: bool,
    progress: bool | ProgressCallback | None,
) -> list[float]:
    if not joint:
        positions = sorted({p for changes in parsed for p, _ in changes})
        table = _masked_table(passes, tokens, positions, progress)
        row_of = {p: row for row, p in enumerate(positions)}
        return [_sum(table, row_of, tokens, changes) for changes in parsed]
    sets = sorted({tuple(p for p, _ in changes) for changes in parsed} - {()})
    tables = passes.log_probabilities(
        (passes.masked(tokens, where) for where in sets),
        ([p + 1 for p in where] for where in sets),
        progress,
        len(sets),
    )
    of_set = dict(zip(sets, tables, strict=True))
    scores = []
    for changes in parsed:
        where = tuple(p for p, _ in changes)
        table = of_set.get(where, np.empty((0, 0)))
        scores.append(_sum(table, {p: row for row, p in enumerate(where)}, tokens, changes))
    return scores


def _pseudo(
    passes: _Passes,
    tokens: np.ndarray,
    parsed: list[Changes],
    progress: bool | ProgressCallback | None,
) -> list[float]:
    mutants = []
    for changes in parsed:
        copy = tokens.copy()
        for position, new in changes:
            copy[position + 1] = new
        mutants.append(copy)
    # Equal variants, and the wild type among them, are computed once.
    distinct = {copy.tobytes(): copy for copy in [tokens, *mutants]}
    values = dict(zip(distinct, passes.pseudo(list(distinct.values()), progress), strict=True))
    return [values[copy.tobytes()] - values[tokens.tobytes()] for copy in mutants]


def _with_nan(scores: list[float], parsed: list[Changes], encoder: PackedModel) -> np.ndarray:
    unknown = encoder.tokenizer.unk_id
    lost = [any(new == unknown for _, new in changes) for changes in parsed]
    if any(lost):
        warnings.warn(
            f"{sum(lost)} of {len(lost)} variants have a mutant residue without a token "
            "(such as a stop); their score is NaN",
            stacklevel=3,
        )
    result = np.array(scores, dtype=np.float32)
    result[np.array(lost, dtype=bool)] = np.nan
    return result
