"""`moltide score`."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moltide.cli import common
from moltide.cli.common import MODEL_PANEL, OUTPUT_PANEL, TABLE_PANEL

if TYPE_CHECKING:
    from moltide.encoder import Encoder

HELP = """Score variants of a wild type without any training data.

A score is a log-odds of the masked language model: above 0, it likes the variant better than the
wild type. With VARIANTS (a table or FASTA), adds score and rank to its rows; without, scores every
single substitution, and --heatmap draws them.
"""
EPILOG = """Examples:

  moltide score variants.csv --wildtype parent.fasta -o scores.csv

  moltide score --wildtype MKTAYIAKQR... -o scan.csv --heatmap scan.html

  moltide score variants.csv --wildtype parent.fasta --method pseudo -o scores.csv
"""


class Method(str, enum.Enum):
    """How a score is computed."""

    masked = "masked"
    wildtype = "wildtype"
    pseudo = "pseudo"


def score(
    wildtype: Annotated[
        str,
        typer.Option(
            help="The wild type: residues, or a FASTA file with one record.",
            metavar="SEQ|FASTA",
            rich_help_panel=TABLE_PANEL,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="Where to write: .csv, .tsv (also .gz), .parquet; - is standard output.",
            metavar="FILE",
        ),
    ],
    variants: Annotated[
        Path | None, typer.Argument(help="Table or FASTA file.", metavar="[VARIANTS]")
    ] = None,
    sequence: common.SequenceColumn = None,
    mutations: common.MutationsColumn = None,
    numbering: common.Numbering = "auto",
    method: Annotated[
        Method,
        typer.Option(
            help="masked: each mutated position masked in the wild type; wildtype: one pass; "
            "pseudo: pseudo-likelihood, as many passes as residues for each variant.",
            rich_help_panel=MODEL_PANEL,
        ),
    ] = Method.masked,
    heatmap: Annotated[
        Path | None,
        typer.Option(
            help="Draw the scan: .html, .svg or .png.", metavar="FILE", rich_help_panel=OUTPUT_PANEL
        ),
    ] = None,
    backbone: common.Backbone = "protein-mini",
    device: common.DeviceOption = common.Device.auto,
    dtype: common.DtypeOption = common.Dtype.auto,
    json_line: common.Json = False,
) -> None:
    import json

    from moltide.assay.wildtype import read_wildtype
    from moltide.cli.table_output import kind_of
    from moltide.cli.voice import TerminalVoice
    from moltide.errors import ConfigError
    from moltide.pretrained import load

    to_stdout = str(out) == "-"
    kind_of(out)
    for path in ([] if to_stdout else [out]) + ([heatmap] if heatmap is not None else []):
        common.check_output(path)
    if variants is not None and heatmap is not None:
        raise ConfigError("--heatmap shows a full scan; leave VARIANTS out")
    number = common.numbering_of(numbering)
    parent = read_wildtype(wildtype).sequence
    voice = TerminalVoice(to_stderr=json_line or to_stdout)
    with voice.busy("loading the backbone"):
        encoder = load(backbone, device.value, dtype.value)
    if variants is None:
        offset = 1 if number == "auto" else int(number)
        count = _scan(encoder, parent, method.value, offset, out, heatmap, voice)
    else:
        count = _table(
            encoder, parent, method.value, variants, out, voice,
            sequence=sequence, mutations=mutations, wildtype=wildtype, numbering=number,
        )  # fmt: skip
    if not to_stdout:
        voice.say(f"{out}: {count:,} scores ({method.value}, {backbone})")
    if json_line:
        print(json.dumps({"out": str(out), "scores": count, "method": method.value}))


def _scan(
    encoder: Encoder,
    parent: str,
    method: str,
    offset: int,
    out: Path,
    heatmap: Path | None,
    voice: Any,
) -> int:
    from moltide.cli.table_output import _write
    from moltide.finetune.results import number

    with voice.busy(f"scoring {19 * len(parent):,} substitutions"):
        found = encoder.scan(parent, method, offset=offset)
    names, scores = found.to_long()
    order = sorted(range(len(names)), key=lambda i: -scores[i])
    rank = {index: place for place, index in enumerate(order, 1)}
    rows = (
        [i, name, name[1:-1], name[0], name[-1], number(float(scores[i])), rank[i]]
        for i, name in enumerate(names)
    )
    header = ["mutation", "position", "wildtype", "mutant", "score", "rank"]
    _write(out, header, rows)
    if heatmap is not None:
        from moltide.report import write_heatmap

        write_heatmap(
            found.scores,
            parent,
            heatmap,
            residues=found.residues,
            numbering=offset,
            title="Single-mutant scan",
            subtitle=f"{method} scores of {encoder.name}",
        )
        voice.say(f"{heatmap}: the scan as a heat map")
    return len(names)


def _table(
    encoder: Encoder,
    parent: str,
    method: str,
    variants: Path,
    out: Path,
    voice: Any,
    **options: Any,
) -> int:
    import numpy as np

    from moltide.assay import diff
    from moltide.cli.reading import SequenceReader
    from moltide.cli.table_output import write_with_columns
    from moltide.errors import DataError
    from moltide.finetune.results import number

    reader = SequenceReader(variants, **options)
    rows: list[int] = []
    changes: list[Any] = []
    for batch in reader:
        for row, text in zip(batch.rows, batch.sequences, strict=True):
            if len(text) != len(parent):
                raise DataError(
                    f"{variants.name} row {row}: {len(text)} residues, the wild type has "
                    f"{len(parent)}; only substitutions are scored"
                )
            rows.append(row)
            changes.append(diff(parent, text))
    with voice.busy(f"scoring {len(rows):,} variants"):
        scores = np.asarray(encoder.score_variants(parent, changes, method), np.float64)
    order = sorted(range(len(rows)), key=lambda i: (np.isnan(scores[i]), -scores[i]))
    cells: dict[int, list[Any]] = {}
    for rank, i in enumerate(order, 1):
        cells[rows[i]] = [number(float(scores[i])), rank]
    return write_with_columns(variants, out, ["score", "rank"], cells)


COMMAND = score
