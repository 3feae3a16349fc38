"""`moltide score`."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moltide.cli import common
from moltide.cli.common import MODEL_PANEL, OUTPUT_PANEL, TABLE_PANEL
from moltide.kinds import UNIT
from moltide.wording import plural

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

_LISTED = 8  # positions in a message


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
    on_bad_row: Annotated[
        str,
        typer.Option(
            help="error: refuse VARIANTS with unreadable rows; set_aside: leave their scores empty "
            "and say why in a column note.",
            metavar="error|set_aside",
            rich_help_panel=TABLE_PANEL,
        ),
    ] = "error",
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

    from moltide.assay.residues import alphabet_of
    from moltide.assay.wildtype import read_wildtype
    from moltide.cli.table_output import kind_of
    from moltide.cli.voice import TerminalVoice
    from moltide.errors import ConfigError
    from moltide.pretrained import load

    to_stdout = str(out) == "-"
    kind_of(out)
    for path in ([] if to_stdout else [out]) + ([heatmap] if heatmap is not None else []):
        common.check_output(path, inputs=[variants])
    if variants is not None and heatmap is not None:
        raise ConfigError("--heatmap shows a full scan; leave VARIANTS out")
    if heatmap is not None:
        from moltide.report.heatmap import check_format

        check_format(heatmap)
    number = common.numbering_of(numbering)
    voice = TerminalVoice(to_stderr=json_line or to_stdout)
    with voice.busy("loading the backbone"):
        encoder = load(backbone, device.value, dtype.value)
    parent = read_wildtype(wildtype, alphabet_of(encoder.tokenizer.kind)).sequence
    common.say_int8_cost(voice, encoder, [parent])
    if variants is None:
        offset = 1 if number == "auto" else int(number)
        count = _scan(encoder, parent, method.value, offset, out, heatmap, voice)
    else:
        count = _table(
            encoder, parent, method.value, variants, out, voice,
            sequence=sequence, mutations=mutations, wildtype=wildtype, numbering=number,
            on_bad_row=on_bad_row,
        )  # fmt: skip
    if not to_stdout:
        voice.say(f"{out}: {plural(count, 'score')} ({method.value}, {backbone})")
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
    from moltide.cli.table_output import ranks, write_rows
    from moltide.finetune.results import number
    from moltide.sequences import LETTERS

    kind = encoder.tokenizer.kind
    letters = LETTERS.get(kind, "")
    unknown = [f"{r}{i}" for i, r in enumerate(parent, offset) if r not in letters]
    if unknown:
        listed = ", ".join(unknown[:_LISTED]) + (", ..." if len(unknown) > _LISTED else "")
        voice.say(
            f"{plural(len(unknown), 'position')} of the wild type left out, none of the "
            f"{len(letters)} {UNIT[kind]}s: {listed}"
        )
    with voice.busy(f"scoring {(len(letters) - 1) * (len(parent) - len(unknown)):,} substitutions"):
        found = encoder.scan(parent, method, offset=offset)
    names, scores = found.to_long()
    rank = ranks(scores)
    rows = (
        [i, name, name[1:-1], name[0], name[-1], number(float(scores[i])), rank[i]]
        for i, name in enumerate(names)
    )
    header = ["mutation", "position", "wildtype", "mutant", "score", "rank"]
    write_rows(out, header, rows)
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
    from moltide.cli.table_output import ranks, write_with_columns
    from moltide.errors import DataError
    from moltide.finetune.results import number
    from moltide.sequences import LETTERS

    kind = encoder.tokenizer.kind
    letters, unit = LETTERS.get(kind, ""), UNIT[kind]
    reader = SequenceReader(variants, kind=kind, **options)
    rows: list[int] = []
    changes: list[Any] = []
    unfit: dict[int, str] = {}
    for batch in reader:
        for row, text in zip(batch.rows, batch.sequences, strict=True):
            if len(text) == len(parent):
                rows.append(row)
                changes.append(diff(parent, text))
                continue
            unfit[row] = f"{len(text)} {unit}s, the wild type has {len(parent)}"
            if options["on_bad_row"] == "error":
                raise DataError(
                    f"{variants.name} {reader.unit} {row}: {unfit[row]}; only substitutions are "
                    "scored; correct it, or leave such rows out (--on-bad-row set_aside)"
                )
    reader.skipped.update(unfit)
    if not rows:
        raise DataError(f"{variants.name}: no variant to score: {' '.join(reader.left_out())}")
    with voice.busy(f"scoring {plural(len(rows), 'variant')}"):
        scores = np.asarray(encoder.score_variants(parent, changes, method), np.float64)
    noted = options["on_bad_row"] == "set_aside"
    cells: dict[int, list[Any]] = {
        row: ["", "", f"not scored: {reason}"] for row, reason in reader.skipped.items()
    }
    for row, one, rank in zip(rows, scores.tolist(), ranks(scores), strict=True):
        cells[row] = [number(one), rank, *([""] if noted else [])]
    for line in [*reader.notes, *reader.left_out()]:
        voice.say(line)
    against = sum(any(parent[one.position] not in letters for one in each) for each in changes)
    if against:
        voice.say(
            f"{plural(against, 'variant')} at positions where the wild type has none of the "
            f"{len(letters)} {unit}s: such scores come out too high"
        )
    write_with_columns(variants, out, ["score", "rank", *(["note"] if noted else [])], cells)
    return len(rows)


COMMAND = score
