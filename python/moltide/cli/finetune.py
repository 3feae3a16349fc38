"""`moltide finetune`."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from moltide.cli import common
from moltide.cli.common import OUTPUT_PANEL, TABLE_PANEL, TRAIN_PANEL

HELP = """Fine-tune a model of proteins or molecules on an assay table; say if it was worth it.

Reads ASSAY (CSV, TSV, Parquet, XLSX, SDF), splits it so that the test is honest, fits baselines,
fine-tunes, and writes RUN/: the model, predictions.csv, metrics.json, report.html, log.jsonl.
Interrupted runs (Ctrl-C, kill, power cut) go on with the same command, to the same bits.
"""
EPILOG = """Examples:

  moltide finetune gb1.csv --out runs/gb1

  moltide finetune scan.csv --mutations variant --wildtype parent.fasta --target ddG --out runs/scan

  moltide finetune panel.csv --targets all --compare-single --out runs/panel

  moltide finetune a.xlsx --backbone facebook/esm2_t12_35M_UR50D --max-minutes 30 --out runs/a

  moltide finetune chembl.csv --target "Standard Value" --transform plog --out runs/kinase

  moltide finetune solubility.csv --backbone molecules/ --split scaffold --out runs/solubility

  moltide finetune solubility.csv --backbone molecules/ --augment 10 --out runs/augmented

  moltide finetune antibodies.csv --heavy VH --light VL --targets all --out runs/antibodies

  moltide finetune stability.csv --backbone multimolecule/rnafm --split cluster --out runs/rna

  moltide finetune assay.csv --out runs/a --dry-run
"""


class Adapter(str, enum.Enum):
    """What is trained."""

    lora = "lora"
    full = "full"
    head = "head"


class Task(str, enum.Enum):
    """What the targets are."""

    auto = "auto"
    regression = "regression"
    classification = "classification"


class Loss(str, enum.Enum):
    """What training minimises."""

    auto = "auto"
    mse = "mse"
    huber = "huber"
    ranking = "ranking"
    tobit = "tobit"
    bce = "bce"
    cross_entropy = "cross_entropy"


class EndpointWeights(str, enum.Enum):
    """What a value of one of several targets weighs."""

    auto = "auto"
    root = "root"
    equal = "equal"
    rows = "rows"


class ClassWeight(str, enum.Enum):
    """What a value of a class weighs."""

    auto = "auto"
    balanced = "balanced"
    none = "none"


def finetune(
    assay: Annotated[Path, typer.Argument(help="The table.", metavar="ASSAY")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the results.", metavar="RUN/")],
    sequence: common.SequenceColumn = None,
    heavy: common.HeavyColumn = None,
    light: common.LightColumn = None,
    mutations: common.MutationsColumn = None,
    wildtype: common.Wildtype = None,
    numbering: common.Numbering = "auto",
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            "--targets",
            help="Column or columns to predict; all: every measured one; NAME=A+B reads A and B as "
            "replicates.",
            metavar="COLUMN[,COLUMN...]|all",
            rich_help_panel=TABLE_PANEL,
        ),
    ] = None,
    task: Annotated[
        Task, typer.Option(help="Numbers or classes.", rich_help_panel=TABLE_PANEL)
    ] = Task.auto,
    relation: Annotated[
        str | None,
        typer.Option(help="Column of =, <, >.", metavar="COLUMN", rich_help_panel=TABLE_PANEL),
    ] = None,
    unit: Annotated[
        str | None,
        typer.Option(
            help="Unit of targets, where the table does not say: nM, uM...; what it says is "
            "brought to this one. Or the column of units.",
            metavar="UNIT|COLUMN|TARGET=UNIT,...",
            rich_help_panel=TABLE_PANEL,
        ),
    ] = None,
    transform: Annotated[
        str | None,
        typer.Option(
            help="plog: -log10 of mol/L (IC50 to pIC50, with > and < turned round); log10.",
            metavar="plog|log10|none|TARGET=plog,...",
            rich_help_panel=TABLE_PANEL,
        ),
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            help="auto, random, time; cluster, position, mutations; of molecules scaffold, "
            "scaffold_balanced, butina; or a column of train/valid/test or of groups.",
            metavar="METHOD|COLUMN",
            rich_help_panel=TABLE_PANEL,
        ),
    ] = "auto",
    time: Annotated[
        str | None,
        typer.Option(
            help="Column of dates or numbers, for --split time.",
            metavar="COLUMN",
            rich_help_panel=TABLE_PANEL,
        ),
    ] = None,
    fasta: Annotated[
        Path | None,
        typer.Option(
            help="FASTA file of the sequences, named by --id.",
            metavar="FILE",
            rich_help_panel=TABLE_PANEL,
        ),
    ] = None,
    id: common.IdColumn = None,
    sheet: Annotated[
        str | None,
        typer.Option(help="Sheet of an XLSX file.", metavar="NAME", rich_help_panel=TABLE_PANEL),
    ] = None,
    on_bad_row: Annotated[
        str,
        typer.Option(
            help="error: refuse a table with unreadable rows; set_aside: leave them out, counted.",
            metavar="error|set_aside",
            rich_help_panel=TABLE_PANEL,
        ),
    ] = "error",
    kind: Annotated[
        str,
        typer.Option(
            help="What the table holds; by default told from its columns.",
            metavar="auto|protein|molecule|rna",
            rich_help_panel=TABLE_PANEL,
        ),
    ] = "auto",
    salts: Annotated[
        str,
        typer.Option(
            help="Molecules: strip to the largest organic part, or keep mixtures.",
            metavar="strip|keep",
            rich_help_panel=TABLE_PANEL,
        ),
    ] = "strip",
    charges: Annotated[
        str,
        typer.Option(
            help="Molecules: neutralise charges where possible, or keep them.",
            metavar="neutralise|keep",
            rich_help_panel=TABLE_PANEL,
        ),
    ] = "neutralise",
    stereo: Annotated[
        str,
        typer.Option(
            help="Molecules: keep stereo centres and double bonds, or drop them.",
            metavar="keep|drop",
            rich_help_panel=TABLE_PANEL,
        ),
    ] = "keep",
    tautomers: Annotated[
        bool,
        typer.Option(
            "--tautomers",
            help="Molecules: RDKit's canonical tautomer (slow).",
            rich_help_panel=TABLE_PANEL,
        ),
    ] = False,
    on_conflict: Annotated[
        str,
        typer.Option(
            help="Contradicting readings of a sequence.",
            metavar="report|set_aside|error",
            rich_help_panel=TABLE_PANEL,
        ),
    ] = "report",
    backbone: common.BackboneOrNone = None,
    adapter: Annotated[
        Adapter,
        typer.Option(
            help="lora: low-rank updates; full: every weight; head: frozen backbone.",
            rich_help_panel=common.MODEL_PANEL,
        ),
    ] = Adapter.lora,
    rank: Annotated[
        int, typer.Option(help="Rank of LoRA.", rich_help_panel=common.MODEL_PANEL)
    ] = 8,
    device: common.DeviceOption = common.Device.auto,
    dtype: common.TrainingDtypeOption = common.Dtype.auto,
    epochs: Annotated[
        int | None,
        typer.Option(
            help="Passes over the training rows; by default by their number.",
            rich_help_panel=TRAIN_PANEL,
        ),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(help="Sequences in an update.", rich_help_panel=TRAIN_PANEL)
    ] = 32,
    lr: Annotated[
        float | None,
        typer.Option(
            "--lr", help="Peak learning rate; by default by --adapter.", rich_help_panel=TRAIN_PANEL
        ),
    ] = None,
    loss: Annotated[
        Loss,
        typer.Option(
            help="auto: mse, tobit with censored values, cross entropy for classes.",
            rich_help_panel=TRAIN_PANEL,
        ),
    ] = Loss.auto,
    endpoint_weights: Annotated[
        EndpointWeights,
        typer.Option(
            help="Of several targets, what a value weighs: root: one over the square root of its "
            "target's number of values; equal: one over it; rows: all alike.",
            rich_help_panel=TRAIN_PANEL,
        ),
    ] = EndpointWeights.auto,
    class_weight: Annotated[
        ClassWeight,
        typer.Option(
            help="balanced: the rarer class weighs more, and probabilities are corrected for it; "
            "auto: with several targets.",
            rich_help_panel=TRAIN_PANEL,
        ),
    ] = ClassWeight.auto,
    patience: Annotated[
        int | None,
        typer.Option(
            help="Epochs without a better validation metric before training ends.",
            rich_help_panel=TRAIN_PANEL,
        ),
    ] = None,
    augment: Annotated[
        int,
        typer.Option(
            help="Molecules: random SMILES of each beside the canonical one, another in each epoch "
            "of training.",
            metavar="N",
            rich_help_panel=TRAIN_PANEL,
        ),
    ] = 0,
    seed: Annotated[
        int, typer.Option(help="Fixes everything random.", rich_help_panel=TRAIN_PANEL)
    ] = 0,
    max_minutes: Annotated[
        float | None,
        typer.Option(
            help="Time for the whole run; what does not fit is cut short, and said to be.",
            rich_help_panel=TRAIN_PANEL,
        ),
    ] = None,
    max_tokens: Annotated[
        int,
        typer.Option(
            help="Tokens computed at once. Fewer need less memory; on a few threads 512 are as "
            "fast in float32.",
            rich_help_panel=TRAIN_PANEL,
        ),
    ] = 2048,
    recompute: Annotated[
        bool | None,
        typer.Option(
            "--recompute/--no-recompute",
            help="Trade time for memory, same bits; by default if needed. Training all weights in "
            "float32 trades a little unless told not to.",
            rich_help_panel=TRAIN_PANEL,
        ),
    ] = None,
    learning_curve: Annotated[
        bool,
        typer.Option(
            help="Also train on parts of the training rows.", rich_help_panel=OUTPUT_PANEL
        ),
    ] = True,
    compare_single: Annotated[
        bool,
        typer.Option(
            "--compare-single",
            help="Of several targets, also train on each alone, and say which gain by company.",
            rich_help_panel=OUTPUT_PANEL,
        ),
    ] = False,
    thresholds: common.Thresholds = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Start again where RUN/ holds another run, or this one finished.",
            rich_help_panel=OUTPUT_PANEL,
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Show data, split, memory and time; write nothing.",
            rich_help_panel=OUTPUT_PANEL,
        ),
    ] = False,
    json_line: common.Json = False,
) -> None:
    from moltide.cli.voice import TerminalVoice
    from moltide.finetune import FinetuneOptions
    from moltide.finetune import finetune as run
    from moltide.finetune.results import to_json
    from moltide.training import TrainSettings

    table = {
        "sequence": sequence,
        "heavy": heavy,
        "light": light,
        "mutations": mutations,
        "wildtype": wildtype,
        "numbering": common.numbering_of(numbering),
        "target": target,
        "relation": relation,
        "unit": unit,
        "transform": transform,
        "time": time,
        "task": task.value,
        "on_conflict": on_conflict,
        "kind": kind,
        "salts": salts,
        "charges": charges,
        "stereo": stereo,
        "tautomers": tautomers,
        "on_bad_row": on_bad_row,
        "fasta": str(fasta) if fasta is not None else None,
        "id": id,
        "sheet": int(sheet) if sheet is not None and sheet.isdigit() else sheet,
    }
    settings = TrainSettings(
        adapter=adapter.value,
        rank=rank,
        # PEFT's habit: the update keeps its size when the rank changes.
        alpha=2.0 * rank,
        loss=loss.value,
        endpoint_weights=endpoint_weights.value,
        class_weight=class_weight.value,
        lr=lr,
        epochs=epochs,
        batch_size=batch_size,
        patience=patience,
        max_minutes=max_minutes,
        max_tokens=max_tokens,
        recompute=recompute,
        seed=seed,
        augment=augment,
    )
    voice = TerminalVoice(to_stderr=json_line)
    summary = run(
        FinetuneOptions(
            assay=assay,
            out=out,
            backbone=backbone,
            split=split,
            table=table,
            settings=settings,
            device=device.value,
            dtype=dtype.value,
            learning_curve=learning_curve,
            compare_single=compare_single,
            thresholds=thresholds,
            dry_run=dry_run,
            overwrite=overwrite,
        ),
        voice,
    )
    if summary.state == "finished":
        voice.say("")
        voice.say(f"{out / 'report.html'}   the report, one file")
        voice.say(f"moltide predict {out} NEW.csv -o predictions.csv   for new sequences")
    if json_line:
        print(to_json(summary.to_dict(), line=True))


COMMAND = finetune
