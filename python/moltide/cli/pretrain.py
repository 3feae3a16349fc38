"""`moltide pretrain`."""

from __future__ import annotations

import enum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from moltide.cli import common
from moltide.cli.common import MODEL_PANEL, OUTPUT_PANEL, TRAIN_PANEL
from moltide.kinds import MOLECULE, PROTEIN, RNA

HELP = """Pretrain a language model of proteins, molecules or RNA on one machine.

Reads TRAIN (FASTA, CSV, TSV, Parquet; gzip too) once into a file beside the run, holds clusters
out for validation (or takes --valid), trains a masked language model, and writes RUN/: the model
as moltide.load and Transformers read it, README.md (a model card to complete), metrics.json with
perplexities beside two baselines, report.html, log.jsonl. Interrupted runs (Ctrl-C, kill, power
cut) go on with the same command, to the same bits.
"""
EPILOG = """Examples:

  moltide pretrain proteins.fasta.gz --layers 6 --width 192 --heads 8 --out runs/mini

  moltide pretrain train.fasta --valid valid.fasta --config config.json --epochs 3 --out runs/a

  moltide pretrain uniref.parquet --sequence seq --cluster uniref50 --cluster-weight 0
  --steps 100000 --layers 12 --width 480 --heads 20 --dtype bf16 --out runs/35M

  moltide pretrain molecules.csv.gz --kind molecule --sequence smiles --augment 7 --layers 6
  --width 256 --heads 8 --mask-rate 0.3 --out runs/molecules

  moltide pretrain transcripts.fasta.gz --kind rna --layers 6 --width 256 --heads 8 --out runs/rna

  moltide pretrain my_family.fasta --backbone facebook/esm2_t6_8M_UR50D --lr 1e-4 --max-minutes 60
  --out runs/more

  moltide pretrain proteins.fasta --layers 6 --width 320 --heads 20 --out runs/8M --dry-run
"""
DATA_PANEL, VALID_PANEL = "Data", "Validation"


class Long(str, enum.Enum):
    """What becomes of long records."""

    pieces = "pieces"
    crop = "crop"


class Kind(str, enum.Enum):
    """What is read."""

    protein = PROTEIN
    molecule = MOLECULE
    rna = RNA


class Schedule(str, enum.Enum):
    """How the learning rate falls."""

    cosine = "cosine"
    linear = "linear"
    constant = "constant"


class Keep(str, enum.Enum):
    """Which weights are the result."""

    best = "best"
    last = "last"


class SaveDtype(str, enum.Enum):
    """Of model.safetensors."""

    float32 = "float32"
    bf16 = "bf16"


class BadRow(str, enum.Enum):
    """What becomes of unusable records."""

    set_aside = "set_aside"
    error = "error"


def _option(panel: str, help: str, metavar: str | None = None) -> Any:
    return typer.Option(help=help, metavar=metavar, rich_help_panel=panel)


_data, _valid = partial(_option, DATA_PANEL), partial(_option, VALID_PANEL)
_model, _train = partial(_option, MODEL_PANEL), partial(_option, TRAIN_PANEL)
_out = partial(_option, OUTPUT_PANEL)


def pretrain(
    train: Annotated[
        list[Path], typer.Argument(help="FASTA, CSV, TSV or Parquet.", metavar="TRAIN...")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the results.", metavar="RUN/")],
    kind: Annotated[
        Kind | None, _data("What TRAIN holds; by default what --backbone reads, or proteins.")
    ] = None,
    sequence: Annotated[
        str | None, _data("Column of residues, SMILES or nucleotides.", "COLUMN")
    ] = None,
    augment: Annotated[
        int, _data("Molecules: so many random SMILES beside each canonical one.")
    ] = 0,
    descriptors: Annotated[
        bool,
        typer.Option(
            "--descriptors",
            help="Molecules: learn to predict RDKit's descriptors too.",
            rich_help_panel=TRAIN_PANEL,
        ),
    ] = False,
    descriptor_weight: Annotated[
        float, _train("Of their squared error beside the masked-token loss.")
    ] = 1.0,
    cluster: Annotated[str | None, _data("Column of cluster names.", "COLUMN")] = None,
    weight: Annotated[
        str | None, _data("Column of weights: records are drawn in proportion.", "COLUMN")
    ] = None,
    cluster_weight: Annotated[
        float | None,
        _data(
            "Draw clusters by their size to this power, then a member: 0 visits each cluster once "
            "an epoch. By default every record is seen once an epoch.",
            "POWER",
        ),
    ] = None,
    on_bad_row: Annotated[
        BadRow,
        _data("Unusable records: left out and listed in RUN/skipped.csv, or refused."),
    ] = BadRow.set_aside,
    shortest: Annotated[int, _data("Leave out records below so many residues.")] = 16,
    longest: Annotated[int, _data("Residues that the model sees of a record at most.")] = 1022,
    long: Annotated[
        Long,
        _data("Longer records: cut into pieces, elsewhere each epoch, or one random crop."),
    ] = Long.pieces,
    cache: Annotated[
        Path | None,
        _data("Keep the corpus file here for other runs; by default in RUN/ until done.", "FOLDER"),
    ] = None,
    valid: Annotated[Path | None, _valid("Validation file.", "FILE")] = None,
    holdout: Annotated[
        float, _valid("Without --valid: share of the records held out, in whole clusters.")
    ] = 0.02,
    identity: Annotated[
        float | None,
        _valid("Without --cluster: sequence identity of a cluster; by default 0.5, of RNA 0.8."),
    ] = None,
    valid_tokens: Annotated[
        int, _valid("Residues validated on while training; the end uses all.")
    ] = 100_000,
    valid_every: Annotated[
        int | None, _valid("Steps between validations; by default 20 in the run.")
    ] = None,
    layers: Annotated[int | None, _model("Layers of a new ESM-2.")] = None,
    width: Annotated[int | None, _model("Its width.")] = None,
    heads: Annotated[int | None, _model("Its attention heads.")] = None,
    ffn_width: Annotated[int | None, _model("Feed-forward width; by default 4 x width.")] = None,
    config: Annotated[
        Path | None, _model("Shape of a new model: a published config.json.", "FILE")
    ] = None,
    backbone: Annotated[
        str | None, _model("Go on from this checkpoint.", "NAME|FOLDER|HUB-ID")
    ] = None,
    init: Annotated[
        float | None, _model("Deviation of initial weights; by default 1 / sqrt(width).")
    ] = None,
    device: common.DeviceOption = common.Device.auto,
    dtype: common.TrainingDtypeOption = common.Dtype.auto,
    steps: Annotated[int | None, _train("Updates.")] = None,
    epochs: Annotated[
        float | None, _train("Passes over the data; 1 where nothing else is given.")
    ] = None,
    max_minutes: Annotated[
        float | None, _train("Time for the whole run; the steps are planned to fit.")
    ] = None,
    batch_tokens: Annotated[int, _train("Tokens in an update.")] = 4096,
    max_tokens: Annotated[int, _train("Tokens computed at once: less needs less memory.")] = 8192,
    lr: Annotated[
        float | None,
        typer.Option(
            "--lr",
            help="Peak learning rate; by default 1e-3, with --backbone 1e-4.",
            rich_help_panel=TRAIN_PANEL,
        ),
    ] = None,
    warmup: Annotated[
        int | None, _train("Steps of rising rate; by default 2 % of all, 10 to 2,000.")
    ] = None,
    schedule: Annotated[Schedule, _train("How the rate falls.")] = Schedule.cosine,
    min_lr_ratio: Annotated[float, _train("Last rate, as a share of the peak.")] = 0.02,
    beta1: Annotated[float, _train("Of AdamW.")] = 0.9,
    beta2: Annotated[float, _train("Of AdamW.")] = 0.98,
    weight_decay: Annotated[float, _train("Decoupled, not on norms and biases.")] = 0.01,
    clip_norm: Annotated[float, _train("Largest gradient norm; 0: any.")] = 1.0,
    mask_rate: Annotated[float, _train("Share of residues to predict.")] = 0.15,
    mask_token: Annotated[float, _train("Of these: replaced by <mask>.")] = 0.8,
    mask_random: Annotated[
        float, _train("Of these: replaced by a random residue; the rest stays.")
    ] = 0.1,
    recompute: Annotated[
        bool,
        typer.Option(
            "--recompute", help="Trade time for memory, same bits.", rich_help_panel=TRAIN_PANEL
        ),
    ] = False,
    seed: Annotated[int, _train("Fixes everything random.")] = 0,
    threads: Annotated[
        int | None, _train("Threads to compute with; results do not depend on it.")
    ] = None,
    save_every: Annotated[
        int | None, _out("Steps between checkpoints; by default every 20 seconds or rarer.")
    ] = None,
    keep: Annotated[
        Keep, _out("The result: the weights that were best on validation, or the last.")
    ] = Keep.best,
    save_dtype: Annotated[SaveDtype, _out("Of model.safetensors.")] = SaveDtype.float32,
    tensorboard: Annotated[
        bool,
        typer.Option(
            "--tensorboard",
            help="Also write events to RUN/tensorboard.",
            rich_help_panel=OUTPUT_PANEL,
        ),
    ] = False,
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
            help="Show data, tokens, parameters, memory, time; write nothing to RUN/ or --cache.",
            rich_help_panel=OUTPUT_PANEL,
        ),
    ] = False,
    json_line: common.Json = False,
) -> None:
    import json

    from moltide.cli.voice import TerminalVoice
    from moltide.pretraining import PretrainOptions
    from moltide.pretraining import pretrain as run

    voice = TerminalVoice(to_stderr=json_line)
    summary = run(
        PretrainOptions(
            train=train,
            out=out,
            kind=None if kind is None else kind.value,
            sequence=sequence,
            augment=augment,
            descriptors=descriptors,
            descriptor_weight=descriptor_weight,
            cluster=cluster,
            weight=weight,
            cluster_weight=cluster_weight,
            on_bad_row=on_bad_row.value,
            shortest=shortest,
            longest=longest,
            long=long.value,
            cache=cache,
            valid=valid,
            holdout=holdout,
            identity=identity,
            valid_tokens=valid_tokens,
            valid_every=valid_every,
            layers=layers,
            width=width,
            heads=heads,
            ffn_width=ffn_width,
            config=config,
            backbone=backbone,
            init=init,
            device=device.value,
            dtype=dtype.value,
            steps=steps,
            epochs=epochs,
            max_minutes=max_minutes,
            batch_tokens=batch_tokens,
            max_tokens=max_tokens,
            lr=lr,
            warmup=warmup,
            schedule=schedule.value,
            min_lr_ratio=min_lr_ratio,
            beta1=beta1,
            beta2=beta2,
            weight_decay=weight_decay,
            clip_norm=clip_norm,
            mask_rate=mask_rate,
            mask_token=mask_token,
            mask_random=mask_random,
            recompute=recompute,
            seed=seed,
            threads=threads,
            save_every=save_every,
            keep=keep.value,
            save_dtype=save_dtype.value,
            tensorboard=tensorboard,
            dry_run=dry_run,
            overwrite=overwrite,
        ),
        voice,
    )
    if summary.state == "finished":
        voice.say("")
        voice.say(f"{out / 'report.html'}   the report, one file")
        voice.say(f"{out / 'README.md'}   a model card; complete it before you share the model")
        voice.say(f"moltide finetune ASSAY.csv --backbone {out} --out RUN/   for an assay")
    if json_line:
        print(json.dumps(summary.to_dict()))


COMMAND = pretrain
