"""`AssayModel`: predictions in the target's units, with uncertainty and a word on the domain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from moltide.assay_model.class_sets import ClassSets
from moltide.assay_model.domain import Domain
from moltide.assay_model.molecule_domain import Closeness, MoleculeDomain
from moltide.assay_model.recalibration import Recalibration
from moltide.assay_model.spec import FloatArray, ModelSpec, TargetScaling
from moltide.assay_model.target_domains import TargetDomains
from moltide.assay_model.uncertainty import Uncertainty, missing_intervals
from moltide.chem.standardise import ChemistryOptions
from moltide.errors import ConfigError, DataError
from moltide.kinds import PROTEIN
from moltide.pairs import is_pair
from moltide.tasks import REGRESSION

if TYPE_CHECKING:
    from moltide.encoder import Encoder

# What a model calls its own LoRA adapter.
ADAPTER = "default"


@dataclass
class Prediction:
    """For n sequences and k targets.

    Attributes:
        values: (n, k) float64: predicted values, or with classes the index of the likeliest.
        probabilities: (n, k, classes) float64 where targets are classes, NaN for those that are
            numbers; else None.
        std: (n, k) standard deviation of the prediction error where targets are numbers, else
            None; NaN where there were too few validation rows to know, and for classes.
        low, high: (n, k) ends of the interval, else None.
        sets: (n, k, classes): the classes that stay possible at the level of the interval, else
            None.
        notes: n words on what sets a sequence apart from the training sequences, "" for none.
        similarity, nearest: of molecules, see `Closeness`; else None.
        target_notes: for targets measured in few training rows, by number, the same against the
            sequences of these rows.
    """

    values: FloatArray
    probabilities: FloatArray | None = None
    std: FloatArray | None = None
    low: FloatArray | None = None
    high: FloatArray | None = None
    sets: npt.NDArray[np.bool_] | None = None
    notes: list[str] = field(default_factory=list)
    similarity: FloatArray | None = None
    nearest: list[str] | None = None
    target_notes: dict[int, list[str]] = field(default_factory=dict)

    @property
    def in_domain(self) -> npt.NDArray[np.bool_]:
        """(n,) True where the sequence resembles the training sequences."""
        return np.array([not note for note in self.notes], dtype=bool)

    def of(self, spec: ModelSpec, target: int) -> FloatArray:
        """(n,) values of a target of numbers, (n, classes) probabilities of one of classes."""
        if self.probabilities is None or spec.task_of(target) == REGRESSION:
            return self.values[:, target]
        own: FloatArray = self.probabilities[:, target, : len(spec.classes_of(target))]
        return own


@dataclass
class AssayModel:
    """Everything needed to predict; `fit_assay_model` makes one, `assay_model.files` keeps it.

    Attributes:
        encoder: backbone with head, and the adapter if there is one.
        adapter: its name, or None (full fine-tuning, or the head alone).
        mode: "lora", "full" or "head".
        scaling: of regression targets.
        temperature: (k,) divides logits (classification).
        shift: (outputs,) is taken off logits before; see `weighting`.
        uncertainty: None without validation rows, and for classification.
        domain: what the training sequences looked like. target_domains: the same for targets of
            several that were measured in less than half of them.
        sets: which classes a prediction leaves possible; None without validation rows or classes.
        distribution: (k, points) quantiles of the training values, NaN for classes; None in models
            of earlier versions.
        backbone: {"name", "sha256", "revision", "dtype"} of what training started from.
        chemistry: how molecules were standardised, and are to be.
        recalibration: of regression targets; None leaves outputs as they are.
    """

    encoder: Encoder
    spec: ModelSpec
    mode: str
    adapter: str | None
    scaling: TargetScaling
    temperature: FloatArray
    uncertainty: Uncertainty | None = None
    domain: Domain | MoleculeDomain | None = None
    backbone: dict[str, Any] = field(default_factory=dict)
    shift: FloatArray | None = None
    sets: ClassSets | None = None
    distribution: FloatArray | None = None
    target_domains: TargetDomains = field(default_factory=TargetDomains)
    chemistry: ChemistryOptions = field(default_factory=ChemistryOptions)
    recalibration: Recalibration | None = None

    def check_pairs(self, sequences: Sequence[str]) -> None:
        """Refuse pairs of chains for a model of single ones, and the other way round.

        Raises:
            DataError: naming the first that does not suit.
        """
        if self.encoder.tokenizer.kind != PROTEIN:
            return
        paired = self.spec.paired
        wrong = next((i for i, one in enumerate(sequences) if is_pair(one) != paired), None)
        if wrong is not None:
            needs = "pairs of chains (heavy and light)" if paired else "single sequences"
            found = "a single one" if paired else "a pair of chains"
            raise DataError(f"this model was fitted to {needs}; sequence {wrong} is {found}")

    def missing_intervals(self, level: float) -> list[str]:
        """A line for each target of numbers without intervals of this coverage: why."""
        numbers = set(self.spec.of_numbers)
        names = [name if j in numbers else "" for j, name in enumerate(self.spec.target_names)]
        return missing_intervals(self.uncertainty, names, level)

    def outputs(
        self, sequences: Sequence[str], *, progress: Any = None
    ) -> npt.NDArray[np.float32] | list[npt.NDArray[np.float32]]:
        """What the head says: (n, outputs), or for residues a list of (L_i, outputs)."""
        result: Any = self.encoder.predict(list(sequences), adapter=self.adapter, progress=progress)
        return result  # type: ignore[no-any-return]

    def standardised(self, outputs: FloatArray) -> FloatArray:
        """(..., k) outputs of the head on the scale that targets were standardised to."""
        return outputs if self.recalibration is None else self.recalibration(outputs)

    def in_units(self, outputs: FloatArray) -> FloatArray:
        """(..., k) outputs of the head in the targets' units."""
        return self.scaling.backward(self.standardised(outputs))

    def represent(self, sequences: Sequence[str], progress: Any = None) -> Any:
        """(n, C): what the head reads, before its first linear map."""
        pool = str((self.encoder.head or {}).get("pool", "mean"))
        return self.encoder.embed(
            list(sequences),
            pool,
            adapter=self.adapter,
            progress=progress,
        )

    def outputs_and_representation(
        self, sequences: Sequence[str], *, progress: Any = None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """`outputs` (n, outputs) and `represent` (n, C) of a per-sequence model, in one pass."""
        return self.encoder.predict_with_input(
            list(sequences), adapter=self.adapter, progress=progress
        )

    def predict(
        self,
        sequences: Sequence[str],
        *,
        std: bool = False,
        interval: float | None = None,
        domain: bool = False,
        progress: Any = None,
    ) -> Prediction:
        """Predict sequences.

        Args:
            std: also the standard deviation of the error.
            interval: also an interval of this coverage, such as 0.9, and for classes the set of
                possible ones.
            domain: also compare with the training sequences.

        Raises:
            DataError: an empty or illegal sequence.
            ConfigError: a per-residue model, or an uncertainty that this model does not have.
        """
        if self.spec.level != "sequence":
            raise ConfigError("this model predicts residues; use predict_residues")
        self.check_pairs(sequences)
        if interval is not None and not 0 < interval < 1:
            raise ConfigError(f"interval is {interval!r}; allowed: between 0 and 1, such as 0.9")
        raw: Any
        representation = None
        if self.spec.of_numbers and (std or interval is not None):
            if self.uncertainty is None:
                raise ConfigError(
                    "this model was fitted without validation rows, so how far it is off is not "
                    "known; fit with validation_fraction above 0"
                )
            raw, representation = self.outputs_and_representation(sequences, progress=progress)
        else:
            raw = self.outputs(sequences, progress=progress)
        raw = np.asarray(raw, np.float64)
        close = Closeness([])
        if domain and self.domain is not None:
            close = self.domain.score(list(sequences))
        if self.spec.of_classes:
            result = self._with_classes(raw, close.notes, interval)
        else:
            result = Prediction(self.in_units(raw), notes=close.notes)
        result.similarity, result.nearest = close.similarity, close.nearest
        if domain:
            result.target_notes = self.target_domains.check(list(sequences))
        if representation is not None and self.uncertainty is not None:
            result.std = self.uncertainty.std(representation) * self.scaling.sd
            if interval is not None:
                half = result.std * self.uncertainty.width(interval)
                result.low, result.high = result.values - half, result.values + half
        return result

    def _with_classes(
        self, raw: FloatArray, notes: list[str], interval: float | None
    ) -> Prediction:
        """The prediction of a model some of whose targets are classes, from what its head says."""
        probabilities = self.probabilities(raw)
        values = probabilities.argmax(axis=-1).astype(np.float64)
        numbers = self.spec.of_numbers
        if numbers:
            values[:, numbers] = self.in_units(raw)[:, numbers]
        result = Prediction(values, probabilities, notes=notes)
        if interval is not None and self.sets is not None:
            result.sets = self.sets.possible(probabilities, interval)
        return result

    def probabilities(self, logits: FloatArray) -> FloatArray:
        """Calibrated class probabilities (n, k, classes) of logits (n, outputs); NaN for targets
        that are numbers."""
        if self.shift is not None:
            logits = logits - self.shift
        if self.spec.binary:
            with np.errstate(over="ignore"):  # exp(1000) is as good as infinite
                positive = 1.0 / (1.0 + np.exp(-logits / self.temperature))
            positive[:, self.spec.of_numbers] = np.nan
            return np.stack([1.0 - positive, positive], axis=-1)
        scaled = logits / self.temperature[0]
        weights = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        table: FloatArray = (weights / weights.sum(axis=1, keepdims=True))[:, None, :]
        return table

    def predict_residues(self, sequences: Sequence[str], progress: Any = None) -> list[FloatArray]:
        """For each sequence (L_i, k) values, or (L_i, k, classes) probabilities."""
        rows = self.outputs(sequences, progress=progress)
        return list(self._finish_residues(rows))

    def _finish_residues(self, rows: Any) -> Iterator[FloatArray]:
        for row in rows:
            wide = np.asarray(row, np.float64)
            if self.spec.of_classes:
                yield self.probabilities(wide)
            else:
                yield self.in_units(wide)
