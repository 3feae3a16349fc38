"""`pretrain`: the whole way from sequences to RUN/."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moltide.errors import ConfigError, DataError, MoltideError
from moltide.finetune.folder import check_writable
from moltide.finetune.voice import SilentVoice, Voice
from moltide.options import option
from moltide.pretrained.loading import check_device
from moltide.pretraining import folder as names
from moltide.pretraining.corpus import Corpus, open_corpus, sha256_of
from moltide.pretraining.events import require_tensorboard
from moltide.pretraining.folder import PretrainFolder
from moltide.pretraining.holdout import split_parts
from moltide.pretraining.options import PretrainOptions
from moltide.pretraining.order import Order
from moltide.pretraining.plan import step_memory
from moltide.pretraining.reading import Columns, check_files
from moltide.pretraining.stages import Stages, validation_windows
from moltide.pretraining.start import starting_encoder
from moltide.pretraining.symbols import Symbols

if TYPE_CHECKING:
    from moltide.encoder import Encoder

# What a dry run says of the folder.
_STATES = {
    "resume": ["the folder holds this very run, interrupted; it would go on"],
    "finished": ["the folder holds this very run, finished; nothing would be done"],
}


@dataclass
class RunSummary:
    """What a run came to. `metrics` is metrics.json's content, {} after a dry run; `state` is
    "finished", "dry run", or "already finished"; `plan` has steps, tokens and what they need."""

    out: Path
    state: str
    metrics: dict[str, Any] = field(default_factory=dict)
    plan: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The line of --json."""
        return {
            "out": str(self.out),
            "state": self.state,
            "seconds": round(self.seconds, 1),
            "plan": self.plan,
            **self.metrics,
        }


def pretrain(options: PretrainOptions, voice: Voice | None = None) -> RunSummary:
    """Pretrain a masked language model and write RUN/.

    The same call resumes a run that was stopped or killed, to the same bits; once it is finished
    the same call changes nothing.

    Raises:
        DataError: the sequences cannot be used, or not be split.
        ConfigError: an option outside what is allowed; RUN/ holds another run or other files.
        CheckpointError: the backbone or the checkpoint of the run cannot be read.
        MemoryPlanError: a training step does not fit into memory.
        MissingDependencyError: TensorBoard asked for and not installed; Parquet without pyarrow.
        Interrupted: by a signal; the state is saved.
        OSError: a file is missing; RUN/ is not writable, disk full; no file is left half written.
    """
    started = time.monotonic()
    voice = voice or SilentVoice()
    options.check()
    _refuse_early(options)
    if options.threads is not None:
        from moltide._engine import set_num_threads

        set_num_threads(options.threads)
    with voice.busy("making the model"):
        encoder = starting_encoder(options)
    with voice.busy("looking at the files"):
        hashes = [sha256_of(path) for path in options.files]
        valid_hash = None if options.valid is None else sha256_of(Path(options.valid))
    folder = PretrainFolder(options.out, _identity(options, encoder, hashes, valid_hash))
    if options.dry_run:
        folder.check(options.overwrite)
        with tempfile.TemporaryDirectory(prefix="moltide-") as scratch:
            parent = Path(scratch)
            stages = _prepare(options, hashes, valid_hash, encoder, folder, parent, voice, started)
            plan = stages.estimate()
        voice.section("dry run", ["nothing was written", *_STATES.get(folder.state, [])])
        return RunSummary(folder.path, "dry run", plan=plan, seconds=time.monotonic() - started)
    folder.open(options.overwrite)
    if folder.state == "finished":
        return _already_finished(folder, voice)
    if folder.state == "resume":
        voice.section("resuming", [f"the interrupted run in {folder.path} goes on"])
    parent = _corpora(options, folder)
    try:
        stages = _prepare(options, hashes, valid_hash, encoder, folder, parent, voice, started)
        step_memory(encoder, options)
    except (MoltideError, OSError):
        # Otherwise the corrected command would be another run than the one in the folder.
        folder.discard()
        raise
    folder.begin()
    metrics = stages.run()
    return RunSummary(
        folder.path, "finished", metrics, stages.plan.to_dict(), time.monotonic() - started
    )


def _prepare(
    options: PretrainOptions,
    hashes: list[str],
    valid_hash: str | None,
    encoder: Encoder,
    folder: PretrainFolder,
    parent: Path,
    voice: Voice,
    started: float,
) -> Stages:
    """Read what is to be learned from, and split it; nothing is written but in `parent`."""
    known = [_corpora(options, folder)]
    symbols = Symbols(encoder.tokenizer)
    with voice.busy("reading") as status:

        def show(records: int) -> None:
            if status is not None:
                status.update(f"reading: {records:,} records")

        corpus = open_corpus(
            options.files,
            hashes,
            options.columns_of(encoder),
            symbols,
            parent,
            known=known,
            shortest=options.shortest,
            on_bad_row=options.on_bad_row,
            progress=show,
        )
        valid: Corpus | None = None
        if options.valid is not None and valid_hash is not None:
            valid = open_corpus(
                [Path(options.valid)],
                [valid_hash],
                Columns(options.sequence, kind=symbols.kind, descriptors=options.descriptors),
                symbols,
                parent,
                known=known,
                shortest=options.shortest,
                on_bad_row=options.on_bad_row,
            )
    lines = corpus.lines() + (valid.lines() if valid is not None else [])
    voice.section("data", lines)
    with voice.busy("splitting"):
        share, identity, seed = options.holdout, options.identity, options.seed
        parts = split_parts(corpus, valid, share, identity, seed, keep=not options.dry_run)
    windows = validation_windows(options, corpus, valid, parts)
    if not windows.count:
        raise DataError(
            f"{windows.lengths.sum():,} {symbols.unit} to validate on are too few to hide any; "
            f"give more with {option('valid')}, or raise {option('holdout')}"
        )
    voice.section("split", [*parts.lines, windows_line(windows.count, len(windows), symbols.unit)])
    order = Order(corpus, parts.train, options.order())
    return Stages(
        options=options,
        encoder=encoder,
        folder=folder,
        voice=voice,
        started=started,
        corpus=corpus,
        valid=valid,
        parts=parts,
        windows=windows,
        order=order,
    )


def _corpora(options: PretrainOptions, folder: PretrainFolder) -> Path:
    """Where a run keeps its corpora."""
    return folder.corpora if options.cache is None else Path(options.cache)


def windows_line(hidden: int, pieces: int, unit: str) -> str:
    """How validation is measured, in words."""
    return f"validation: {hidden:,} hidden {unit} (15 %) in {pieces:,} pieces, always the same"


def _refuse_early(options: PretrainOptions) -> None:
    """What cannot work is better known before minutes of reading."""
    valid = [] if options.valid is None else [Path(options.valid)]
    check_files([*options.files, *valid])
    check_device(options.device)
    if options.tensorboard:
        require_tensorboard()
    folder = PretrainFolder(options.out, {})
    if options.backbone is not None and folder.path.is_dir():
        backbone = Path(options.backbone)
        if backbone.is_dir() and backbone.samefile(folder.path):
            raise ConfigError(f"{folder.path} is the {option('backbone')}; write to another folder")
    folder.refuse_foreign(options.overwrite)
    if options.dry_run:
        return
    if folder.path.exists():
        check_writable(folder.path)
    if options.cache is not None:
        check_writable(Path(options.cache))


def _identity(
    options: PretrainOptions, encoder: Encoder, hashes: list[str], valid_hash: str | None
) -> dict[str, Any]:
    """What decides the result: another run with the same identity ends with the same bits."""
    import moltide
    from moltide.assay_model.backbone import weights_hash

    return {
        "moltide": moltide.__version__,
        **options.identity_of(),
        "data": {"sha256": hashes},
        "valid_sha256": valid_hash,
        "backbone_sha256": weights_hash(encoder),
    }


def _already_finished(folder: PretrainFolder, voice: Voice) -> RunSummary:
    metrics = json.loads(folder.file(names.METRICS).read_text(encoding="utf-8"))
    voice.section(
        "finished before",
        [
            f"{folder.path} holds this very run; nothing to do ({option('overwrite', True)} runs "
            "it again)"
        ],
    )
    voice.verdict(str(metrics.get("verdict", "")))
    return RunSummary(folder.path, "already finished", metrics)
