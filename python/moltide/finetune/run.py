"""`finetune`: the whole way from a table to RUN/."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moltide.errors import ConfigError, MoltideError
from moltide.finetune import folder as names
from moltide.finetune.budget import Budget
from moltide.finetune.folder import RunFolder
from moltide.finetune.options import FinetuneOptions
from moltide.finetune.remarks import remark_lines, remarks_on
from moltide.finetune.results import verdict_details
from moltide.finetune.stages import Stages
from moltide.finetune.table import check_parts, rows_of, spec_of
from moltide.finetune.voice import SilentVoice, Voice
from moltide.kinds import MANY
from moltide.options import option

if TYPE_CHECKING:
    from moltide.assay import AssayTable
    from moltide.splits import Split

# What a dry run says of the folder.
_STATES = {
    "resume": ["the folder holds this very run, interrupted; it would go on"],
    "finished": ["the folder holds this very run, finished; nothing would be done"],
}


@dataclass
class RunSummary:
    """What a run came to. `metrics` is metrics.json's content, {} after a dry run; `state` is
    "finished", "dry run", or "already finished"."""

    out: Path
    state: str
    metrics: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The line of --json."""
        return {
            "out": str(self.out),
            "state": self.state,
            "seconds": round(self.seconds, 1),
            **self.metrics,
        }


def finetune(options: FinetuneOptions, voice: Voice | None = None) -> RunSummary:
    """Fine-tune on an assay table and write RUN/.

    The same call resumes a run that was stopped or killed, to the same bits; once it is finished
    the same call changes nothing.

    Raises:
        DataError: the table, or the split of it, cannot be used.
        ConfigError: an option outside what is allowed; RUN/ holds another run or other files.
        CheckpointError: the backbone cannot be loaded.
        MemoryPlanError: a training step does not fit into memory.
        Interrupted: by a signal; the state is saved.
        OSError: RUN/ is not writable, disk full; no file is left half written.
    """
    from moltide.assay_model.backbone import backbone_reference, open_backbone
    from moltide.finetune.endpoint_split import split_endpoints
    from moltide.finetune.estimate import estimate
    from moltide.panel import matched, read_thresholds
    from moltide.pretrained.locate import default_backbone

    started = time.monotonic()
    voice = voice or SilentVoice()
    options.check()
    _refuse_early(options)
    table = _read(options, voice)
    voice.section("data", table.summary.lines())
    backbone = options.backbone or default_backbone(table.kind)
    options = dataclasses.replace(options, backbone=backbone)
    with voice.busy("loading the backbone"):
        encoder = open_backbone(backbone, options.device, options.dtype)
        reference = backbone_reference(encoder)
    if encoder.tokenizer.kind != table.kind:
        raise ConfigError(
            f"{table.summary.source} holds {MANY[table.kind]}, {backbone} reads "
            f"{MANY[encoder.tokenizer.kind]}; give a backbone of {MANY[table.kind]} "
            f"({option('backbone')}), or say what the table holds ({option('kind')})"
        )
    refused = encoder.refusals(table.sequences)
    if refused:
        reasons = {table.sequences[index]: reason for index, reason in refused.items()}
        # Read anew, so that every account and every check is of the rows that remain.
        table = _read(options, voice, reasons)
        voice.section("data, without what the backbone cannot read", table.summary.lines())
    with voice.busy("splitting"):
        split = split_endpoints(table, options.split, options.settings.seed)
    check_parts(table, split)
    voice.section("split", split.lines())
    spec = spec_of(table)
    thresholds = [] if options.thresholds is None else read_thresholds(options.thresholds)
    matched(thresholds, spec)
    folder = RunFolder(options.out, _identity(options, table, split, reference))
    if options.dry_run:
        folder.check(options.overwrite)
    else:
        folder.open(options.overwrite)
        if folder.state == "finished":
            return _already_finished(folder, voice)
    try:
        remarks = remarks_on(encoder.tokenizer, table)
        if remarks:
            voice.section("molecules as the backbone reads them", remark_lines(remarks))
        with voice.busy("planning"):
            plan = estimate(
                encoder,
                rows_of(table, split.index("train")),
                spec,
                options.settings,
                timed=options.dry_run,
            )
    except (MoltideError, OSError):
        if not options.dry_run:
            folder.discard()
        raise
    voice.section("model", [*plan.lines, *encoder.notes])
    if options.dry_run:
        voice.section("dry run", ["nothing was written", *_STATES.get(folder.state, [])])
        return RunSummary(folder.path, "dry run", seconds=time.monotonic() - started)
    if folder.state == "resume":
        voice.section("resuming", [f"the interrupted run in {folder.path} goes on"])
    folder.begin()
    stages = Stages(
        options=options,
        settings=plan.settings,
        table=table,
        split=split,
        spec=spec,
        encoder=encoder,
        folder=folder,
        voice=voice,
        thresholds=thresholds,
        remarks=remarks,
        budget=Budget(options.settings.max_minutes, started),
    )
    metrics = stages.run()
    return RunSummary(folder.path, "finished", metrics, time.monotonic() - started)


def _read(
    options: FinetuneOptions, voice: Voice, refused: Mapping[str, str] | None = None
) -> AssayTable:
    """The table, without the sequences `refused` (by their text, with the reason)."""
    from moltide.assay import read_assay

    def refusals(texts: Sequence[str]) -> dict[int, str]:
        known = refused or {}
        return {index: known[text] for index, text in enumerate(texts) if text in known}

    with voice.busy("reading the table") as status:

        def progress(done: int, total: int) -> None:
            if status is not None:
                status.update(f"reading the table: {done:,} of {total:,} molecules in one form")

        return read_assay(
            options.assay, **options.read_options(), progress=progress, refusals=refusals
        )


def _refuse_early(options: FinetuneOptions) -> None:
    """A folder that cannot be used is better known before minutes of reading."""
    folder = RunFolder(options.out, {})
    folder.refuse_foreign(options.overwrite)
    if folder.path.exists() and not options.dry_run:
        names.check_writable(folder.path)


def _identity(
    options: FinetuneOptions, table: AssayTable, split: Split, reference: dict[str, Any]
) -> dict[str, Any]:
    """What decides the result: another run with the same identity ends with the same bits."""
    import hashlib

    import moltide

    labels = hashlib.sha256("\n".join(split.labels.tolist()).encode()).hexdigest()
    everything = rows_of(table, np.arange(len(table)))
    return {
        "moltide": moltide.__version__,
        **options.identity(),
        "data": {"sha256": everything.fingerprint(), "targets": list(table.target_names)},
        "split_sha256": labels,
        "backbone_sha256": reference["sha256"],
    }


def _already_finished(folder: RunFolder, voice: Voice) -> RunSummary:
    metrics = json.loads(folder.file(names.METRICS).read_text(encoding="utf-8"))
    voice.section(
        "finished before",
        [
            f"{folder.path} holds this very run; nothing to do ({option('overwrite', True)} runs "
            "it again)"
        ],
    )
    voice.verdict(str(metrics.get("verdict", "")), verdict_details(metrics))
    return RunSummary(folder.path, "already finished", metrics)
