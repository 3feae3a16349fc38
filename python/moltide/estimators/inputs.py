"""What callers pass as X, y, weights and groups, checked and made plain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from moltide.assay.chain_names import chain_named
from moltide.assay.residues import alphabet_of, clean_sequences
from moltide.errors import DataError
from moltide.kinds import MOLECULE, PROTEIN
from moltide.pairs import CHAINS, join
from moltide.pretrained.locate import default_backbone

if TYPE_CHECKING:
    from moltide.chem.standardise import ChemistryOptions

# What SMILES have and sequences have not.
_BONDS = frozenset("=#()[]@/\\")

FloatArray = npt.NDArray[np.float64]


def as_sequences(
    X: Any, kind: str = PROTEIN, chemistry: ChemistryOptions | None = None
) -> list[str]:
    """Sequences of a list, array, column, or a table of one column: residues or nucleotides without
    white space and gaps, upper case, T of RNA as U; molecules as SMILES in the form that tables
    are read in (`moltide.chem.standardise`). Pairs of chains are two columns, heavy and light (by
    name where names tell, else in this order), or n pairs of texts; they come back as
    `HEAVY:LIGHT`.

    Args:
        kind: what the sequences are, as the backbone's tokenizer says.
        chemistry: of molecules; None: what `read_assay` does by default.

    Raises:
        DataError: not a collection of text, or an empty, missing or illegal sequence (its index,
            the character and its place, or RDKit's reason).
        MissingDependencyError: molecules without RDKit.
    """
    from moltide.sequences import as_texts

    both = _two_columns(X) if kind == PROTEIN else None
    if both is not None:
        return _as_pairs(*both)
    if hasattr(X, "columns") and hasattr(X, "shape"):
        if X.shape[1] != 1:
            raise DataError(
                f"X is a table of {X.shape[1]} columns; give the column of sequences, "
                "X['sequence'], or of pairs of chains the two, X[['heavy', 'light']]"
            )
        X = X[X.columns[0]]
    shape = getattr(X, "shape", None)
    if shape is not None and len(shape) == 2:
        if shape[1] != 1:
            raise DataError(f"X has shape {tuple(shape)}; allowed: (n,) or (n, 1) of sequences")
        X = np.asarray(X).reshape(-1)
    texts = list(as_texts(X))
    if texts and all(isinstance(one, list | tuple | np.ndarray) and len(one) == 1 for one in texts):
        texts = [one[0] for one in texts]
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f"sequence {index} is {text!r} ({type(text).__name__}), expected text")
    if kind == MOLECULE:
        return _as_molecules(texts, chemistry)
    return _as_residues([str(text) for text in texts], "sequence {}", kind)


def _as_residues(texts: Sequence[str], called: str, kind: str = PROTEIN) -> list[str]:
    """Cleaned; `called` is what errors call the one with a number."""
    alphabet = alphabet_of(kind)
    cleaned = clean_sequences(texts, alphabet)
    if cleaned.illegal:
        index, character, place = cleaned.illegal[0]
        what = called.format(index)
        bonds = not _BONDS.isdisjoint(texts[index])
        hint = f"; molecules as SMILES take backbone={default_backbone(MOLECULE)!r}" * bonds
        raise DataError(f"{what}, position {place}: {character!r} is no {alphabet.unit}{hint}")
    if cleaned.empty:
        raise DataError(f"{called.format(cleaned.empty[0])} is empty")
    if cleaned.stops:
        index = cleaned.stops[0]
        place = cleaned.sequences[index].index("*") + 1
        what = called.format(index)
        raise DataError(f"{what}, position {place}: a stop (*) inside the sequence")
    return cleaned.sequences


def _two_columns(X: Any) -> tuple[list[Any], list[Any]] | None:
    """The heavy and the light chains of a table or array of two columns, or of a list of pairs."""
    shape = getattr(X, "shape", None)
    if shape is not None and len(shape) == 2 and shape[1] == 2:
        rows = np.asarray(_plain(X), dtype=object)
        first, second = rows[:, 0].tolist(), rows[:, 1].tolist()
        told = [chain_named(str(name)) for name in getattr(X, "columns", ())]
        return (second, first) if told == ["light", "heavy"] else (first, second)
    if not isinstance(X, list | tuple) or not X:
        return None
    if all(isinstance(one, list | tuple) and len(one) == 2 for one in X):
        return [one[0] for one in X], [one[1] for one in X]
    return None


def _as_pairs(heavy: Sequence[Any], light: Sequence[Any]) -> list[str]:
    cleaned = []
    for chain, texts in zip(CHAINS, (heavy, light), strict=True):
        for index, text in enumerate(texts):
            if not isinstance(text, str):
                raise DataError(
                    f"the {chain} chain of pair {index} is {text!r} ({type(text).__name__}), "
                    "expected text"
                )
        called = f"the {chain} chain of pair {{}}"
        cleaned.append(_as_residues([str(text) for text in texts], called))
    return [join(*one) for one in zip(*cleaned, strict=True)]


def _as_molecules(texts: Sequence[str], chemistry: ChemistryOptions | None) -> list[str]:
    from moltide.chem.standardise import standardise_all

    found = standardise_all(texts, chemistry).molecules
    for index, one in enumerate(found):
        if one.reason:
            raise DataError(f"sequence {index}: {texts[index][:80]!r} is no molecule: {one.reason}")
    return [one.smiles for one in found]


def as_targets(y: Any, n: int) -> tuple[FloatArray, bool]:
    """(targets (n, k) float64 with NaN = not measured, whether y was one column of shape (n,)).

    Raises:
        DataError: not numbers, infinite, another length, or a target without any value.
    """
    try:
        values = np.asarray(_plain(y), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"y holds something that is no number: {error}") from None
    flat = values.ndim == 1
    if values.ndim not in (1, 2):
        raise DataError(f"y has {values.ndim} dimensions; allowed: (n,) or (n, targets)")
    values = values.reshape(len(values), -1)
    if len(values) != n:
        raise DataError(f"y has {len(values)} rows for {n} sequences")
    if np.isinf(values).any():
        raise DataError(f"y is infinite in row {int(np.argwhere(np.isinf(values))[0][0])}")
    empty = np.flatnonzero(np.isnan(values).all(axis=0))
    if n and len(empty):
        raise DataError("y has no measured value" if flat else f"y column {empty[0]} is empty")
    return values, flat


def _plain(values: Any) -> Any:
    """A NumPy-friendly form of pandas and polars objects; None is NaN."""
    if hasattr(values, "to_numpy"):
        return values.to_numpy()
    return values


def as_classes(y: Any, n: int) -> tuple[FloatArray, list[np.ndarray], bool]:
    """(class indices (n, k) with NaN = not measured, for each target its classes in order, whether
    y was (n,)).

    Missing labels are None or NaN.

    Raises:
        DataError: another length, or a target with fewer than two classes.
    """
    table = np.asarray(_plain(y))
    flat = table.ndim == 1
    if table.ndim not in (1, 2):
        raise DataError(f"y has {table.ndim} dimensions; allowed: (n,) or (n, targets)")
    if len(table) != n:
        raise DataError(f"y has {len(table)} rows for {n} sequences")
    table = table.reshape(len(table), -1)
    columns = [
        _class_column(table[:, j], "y" if flat else f"y column {j}") for j in range(table.shape[1])
    ]
    indices = np.stack([column for column, _ in columns], axis=1)
    return indices, [classes for _, classes in columns], flat


def _class_column(labels: np.ndarray, name: str) -> tuple[FloatArray, np.ndarray]:
    """(class indices (n,) with NaN = not measured, the classes in order) of one target."""
    missing = _missing(labels)
    classes = np.unique(labels[~missing] if missing.any() else labels)
    if classes.dtype == object:
        classes = np.array(classes.tolist())
    if len(classes) < 2:
        listed = ", ".join(map(repr, classes.tolist())) or "none"
        raise DataError(f"{name} has fewer than two classes ({listed})")
    if classes.dtype.kind == "f" and np.all(classes == np.floor(classes)):
        classes = classes.astype(np.int64)  # whole numbers became float beside NaN
    indices = np.full(labels.shape, np.nan)
    indices[~missing] = np.searchsorted(classes, labels[~missing].astype(classes.dtype))
    return indices, classes


def _missing(table: np.ndarray) -> npt.NDArray[np.bool_]:
    if table.dtype.kind == "f":
        found: npt.NDArray[np.bool_] = np.isnan(table)
        return found
    if table.dtype.kind != "O":
        return np.zeros(table.shape, dtype=bool)
    flags = [value is None or value != value for value in table.ravel()]
    return np.array(flags, dtype=bool).reshape(table.shape)


def as_residue_labels(y: Any, sequences: Sequence[str]) -> list[np.ndarray]:
    """For each sequence the labels of its residues, (L_i,) or (L_i, k) as given.

    A string stands for its characters.

    Raises:
        DataError: another number of labels than residues.
    """
    rows = list(_plain(y) if hasattr(y, "to_numpy") else y)
    if len(rows) != len(sequences):
        raise DataError(f"y has {len(rows)} rows for {len(sequences)} sequences")
    labels = []
    for index, (row, text) in enumerate(zip(rows, sequences, strict=True)):
        one = np.array(list(row), dtype=object) if isinstance(row, str) else np.asarray(row)
        if one.ndim == 0 or len(one) != len(text):
            size = len(one) if one.ndim else 1
            raise DataError(f"sequence {index}: {size} labels for {len(text)} residues")
        labels.append(one)
    return labels


def as_weights(sample_weight: Any, n: int) -> FloatArray | None:
    """(n,) float64 of finite weights, none negative, or None.

    Raises:
        DataError: another shape, a negative or missing weight, or all of them 0.
    """
    if sample_weight is None:
        return None
    weights = np.asarray(_plain(sample_weight), np.float64)
    if weights.shape != (n,):
        raise DataError(f"sample_weight has shape {weights.shape}, expected ({n},)")
    bad = np.flatnonzero(~np.isfinite(weights) | (weights < 0))
    if len(bad):
        raise DataError(f"sample_weight[{bad[0]}] is {weights[bad[0]]}; allowed: 0 or more")
    if not weights.any():
        raise DataError("sample_weight is 0 everywhere")
    return weights


def as_censor(censor: Any, targets: FloatArray) -> npt.NDArray[np.int8] | None:
    """(n, k) int8 of -1, 0, +1, or None.

    Raises:
        DataError: another shape or other values.
    """
    if censor is None:
        return None
    table = np.asarray(_plain(censor))
    table = table.reshape(len(table), -1)
    if table.shape != targets.shape:
        raise DataError(f"censor has shape {table.shape}, expected {targets.shape}")
    if not np.isin(table, (-1, 0, 1)).all():
        raise DataError("censor holds other values than -1 (below), 0 (exact) and 1 (above)")
    return table.astype(np.int8)


def strata(targets: FloatArray, classes: bool) -> FloatArray | None:
    """(n,) numbers of the groups of rows that validation rows are drawn evenly from: of a single
    target its classes (None for numbers), of several the one measured in the fewest rows among
    those that a row has, and its class."""
    if targets.shape[1] == 1:
        return targets[:, 0] if classes else None
    known = ~np.isnan(targets)
    rarest = np.argsort(known.sum(axis=0), kind="stable")
    of_row = rarest[known[:, rarest].argmax(axis=1)]
    code = of_row.astype(np.float64)
    if classes:
        own = np.nan_to_num(targets[np.arange(len(targets)), of_row])
        code = code * (1 + np.nanmax(targets)) + own
    return np.where(known.any(axis=1), code, np.nan)


def validation_rows(
    n: int,
    fraction: float,
    seed: int,
    groups: Any = None,
    labels: npt.NDArray[np.float64] | None = None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(training rows, validation rows), both ascending; groups are never divided.

    Args:
        fraction: share of validation rows; 0: none.
        labels: (n,) classes or `strata`: each keeps its share (without groups).

    Raises:
        DataError: groups of another length.
    """
    rows: npt.NDArray[np.int64] = np.arange(n, dtype=np.int64)
    rng = np.random.default_rng(seed)
    wanted = round(fraction * n)
    none = np.zeros(0, np.int64)
    if groups is not None:
        names = np.asarray(_plain(groups))
        if names.shape != (n,):
            raise DataError(f"groups has shape {names.shape}, expected ({n},)")
        _, group = np.unique(names.astype(str), return_inverse=True)
        sizes = np.bincount(group)
        if wanted < 1 or len(sizes) < 2:
            return rows, none
        order = rng.permutation(len(sizes))
        taken = np.cumsum(sizes[order]) <= max(wanted, int(sizes[order][0]))
        taken[-1] = False
        in_part = np.isin(group, order[taken])
        return rows[~in_part], rows[in_part]
    if wanted < 1 or n - wanted < 1:
        return rows, none
    order = rng.permutation(n)
    if labels is not None:
        order = _spread_classes(order, labels)
    held = np.zeros(n, dtype=bool)
    held[order[:wanted]] = True
    return rows[~held], rows[held]


def _spread_classes(
    order: npt.NDArray[np.int64], labels: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    """Reorder so that every beginning holds the classes in nearly their shares."""
    ranked = np.zeros(len(order))
    codes = np.nan_to_num(labels[order], nan=-1.0)
    for code in np.unique(codes):
        where = np.flatnonzero(codes == code)
        ranked[where] = (np.arange(len(where)) + 0.5) / len(where)
    spread: npt.NDArray[np.int64] = order[np.argsort(ranked, kind="stable")]
    return spread
