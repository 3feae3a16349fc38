"""RUN/ of pretraining: the model in its published format, and what was learned on the way."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from moltide.finetune.folder import RunFolder
from moltide.pretrained.files import CONFIG, INDEX, WEIGHTS

LOG, REPORT, CARD = "log.jsonl", "report.html", "README.md"
TRAINING, METRICS = "training.json", "metrics.json"
SKIPPED, HOLDOUT, EVENTS = "skipped.csv", "holdout.csv", "tensorboard"
FORMAT = "moltide-pretraining"
_CHECKPOINT, _CORPORA = "checkpoint", "corpus"


class PretrainFolder(RunFolder):
    """RUN/ with its files; `training.json` is written last."""

    files: ClassVar[tuple[str, ...]] = (
        *(CONFIG, WEIGHTS, INDEX, LOG, REPORT, CARD, TRAINING, METRICS, SKIPPED, HOLDOUT, EVENTS),
        *("vocab.txt", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.json"),
        _CHECKPOINT,
    )
    prefixes: ClassVar[tuple[str, ...]] = ("train", "corpus-", "saving.", "baselines")
    done: ClassVar[str] = TRAINING
    format: ClassVar[str] = FORMAT
    prepared: ClassVar[tuple[str, ...]] = (_CORPORA,)

    @property
    def corpora(self) -> Path:
        """Where corpora are kept while the run is unfinished."""
        return self.checkpoint / _CORPORA

    def _written(self) -> tuple[Path, ...]:
        return (self.path, self.checkpoint, self.corpora)

    def _is_foreign(self, name: str) -> bool:
        # A published model has files of the same names; it must not pass for an empty folder.
        return name != _CHECKPOINT and not (name.startswith(".") and self._is_ours(name))
