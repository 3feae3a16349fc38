"""What pretraining is worth: `protein-mini` beside the same architecture with random weights.

    python benchmarks/protein_mini.py --data DATA/proteins --write    # hours; see --jobs
    python benchmarks/protein_mini.py --data DATA/proteins --backbone mini/ --only rocklin gb1_two
    python benchmarks/protein_mini.py --data DATA/proteins --adapter lora full --controls 1
    python benchmarks/protein_mini.py --data DATA/proteins --frozen   # minutes in place of hours

The table shows the test Spearman of ridge on one-hot and of ridge on frozen embeddings, and, unless
--frozen, of `moltide finetune` with each backbone and --adapter. Without --epochs it trains as long
as it does by default: a few epochs hardly leave the ridge that the head starts from. Random weights
stand there with the mean of --controls seeds, and the least and the largest. Secondary structure
(three states a residue) is a linear probe on frozen embeddings of residues, beside the same probe
on a one-hot window. DATA/proteins holds the published tables named in ASSAYS, and
flip_secondary_structure.csv.gz (columns sequence, labels, mask, split).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from workload import machine

import moltide as mt
from moltide.baselines import fit_baselines
from moltide.metrics import spearman
from moltide.random_init import random_encoder
from moltide.training.arithmetic import training_dtype


@dataclass(frozen=True)
class Assay:
    file: str
    target: str
    split: str
    rows: int | None = None  # training rows are sampled down to this number; test rows to twice it


ASSAYS = {
    "gb1_two": Assay("gb1_flip.csv.gz", "target", "two_vs_rest"),
    "gb1_three": Assay("gb1_flip.csv.gz", "target", "three_vs_rest"),
    "gb1_low": Assay("gb1_flip.csv.gz", "target", "low_vs_high"),
    "gb1_sampled": Assay("gb1_flip.csv.gz", "target", "sampled"),
    "blat": Assay("blat_ecolx_ranganathan2015.csv.gz", "amp_2500", "split_random"),
    "blat_positions": Assay("blat_ecolx_ranganathan2015.csv.gz", "amp_2500", "split_contiguous"),
    "rocklin": Assay("stability_rocklin2017.csv.gz", "stability_score", "split", 3000),
    "avgfp": Assay("avgfp.csv.gz", "score", "split", 1000),
    "pab1": Assay("pab1.csv.gz", "score", "split", 3000),
}
STRUCTURES = "flip_secondary_structure.csv.gz"
STATES = "CEH"
PROBED = 300  # proteins at most whose residues the probe is trained on
WINDOW = 7  # residues to each side in the one-hot probe


def reduced(assay: Assay, data: Path, folder: Path) -> Path:
    """The assay's table with the columns that matter, and its rows sampled down where asked."""
    table = pd.read_csv(data / assay.file)[["sequence", assay.target, assay.split]].dropna()
    # Stop codons: no protein of full length was measured.
    table = table[~table["sequence"].str.contains("*", regex=False)]
    if assay.rows is not None:
        limits = {"train": assay.rows, "valid": assay.rows // 4, "test": 2 * assay.rows}
        table = pd.concat(
            part.sample(min(len(part), limits[str(name)]), random_state=0)
            for name, part in table.groupby(assay.split)
        )
    path = folder / f"{Path(assay.file).stem}.{assay.split}.csv"
    table.to_csv(path, index=False)
    return path


def finetuned(
    table: Path, assay: Assay, backbone: str, out: Path, options: list[str], threads: int
) -> float:
    """Test Spearman of the model that `moltide finetune` makes of the backbone."""
    command = [
        sys.executable, "-m", "moltide", "finetune", str(table), "--sequence", "sequence",
        "--target", assay.target, "--split", assay.split, "--backbone", backbone,
        "--out", str(out), "--no-learning-curve", *options,
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: failed\n{done.stderr[-2000:]}")
    metrics = json.loads((out / "metrics.json").read_text())
    return float(metrics["model"]["spearman"])


def frozen(table: Path, assay: Assay, encoders: list[mt.Encoder]) -> list[float]:
    """Test Spearman of ridge on one-hot, and on the embeddings of each encoder."""
    rows = pd.read_csv(table)
    parts = {str(name): part for name, part in rows.groupby(assay.split)}
    valid, test = parts.get("valid"), parts["test"]

    def ridge(name: str, encoder: mt.Encoder | None = None) -> float:
        (result,) = fit_baselines(
            parts["train"]["sequence"].tolist(),
            parts["train"][assay.target].to_numpy(float),
            test["sequence"].tolist(),
            valid_sequences=None if valid is None else valid["sequence"].tolist(),
            y_valid=None if valid is None else valid[assay.target].to_numpy(float),
            embed=None if encoder is None else encoder.embed,
            names=[name],
        )
        assert result.predictions is not None, result.note
        return spearman(test[assay.target].to_numpy(float), result.predictions)

    return [ridge("ridge"), *(ridge("ridge_embeddings", encoder) for encoder in encoders)]


def probe(features: dict[str, np.ndarray], labels: dict[str, np.ndarray]) -> float:
    """Share of test residues that a linear classifier of these features gets right."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(features["train"])
    model = LogisticRegression(max_iter=1000, C=0.1)
    model.fit(scaler.transform(features["train"]), labels["train"])
    return float(model.score(scaler.transform(features["test"]), labels["test"]))


def windows(sequence: str) -> np.ndarray:
    """(L, (2 WINDOW + 1) * 26) one-hot neighbourhood of every residue."""
    codes = np.frombuffer(sequence.encode(), dtype=np.uint8) - 65
    one_hot = np.zeros((len(codes) + 2 * WINDOW, 26), dtype=np.float32)
    one_hot[np.arange(len(codes)) + WINDOW, codes] = 1
    shape = (len(codes), 2 * WINDOW + 1)
    rows = np.arange(shape[0])[:, None] + np.arange(shape[1])[None]
    return one_hot[rows].reshape(len(codes), -1)


def secondary_structure(data: Path, encoders: dict[str, mt.Encoder]) -> dict[str, float]:
    """Three-state accuracy of each encoder's probe, and of the one-hot window's."""
    # A mask is text of 0 and 1, which pandas would read as a number.
    table = pd.read_csv(data / STRUCTURES, dtype=str)
    table = table[table["sequence"].str.len() <= 500]
    train = table[table["split"] == "train"]
    parts = {
        "train": train.sample(min(len(train), PROBED), random_state=0),
        "test": table[table["split"] == "test"],
    }
    labels, masks = {}, {}
    for name, part in parts.items():
        masks[name] = np.array(list("".join(part["mask"]))) == "1"
        states = np.array(list("".join(part["labels"])))
        labels[name] = np.searchsorted(list(STATES), states)[masks[name]]

    def accuracy(residues) -> float:
        features = {
            name: np.concatenate(residues(part["sequence"].tolist()))[masks[name]]
            for name, part in parts.items()
        }
        return probe(features, labels)

    result = {"one-hot": accuracy(lambda texts: [windows(text) for text in texts])}
    for name, encoder in encoders.items():
        result[name] = accuracy(lambda texts, e=encoder: e.embed(texts, pool=None))
    return result


def cell(figures: list[float], best: float) -> str:
    """Their mean, bold where it is the best of the row, and where they begin and end."""
    mean = float(np.mean(figures))
    text = f"**{mean:.3f}**" if mean == best else f"{mean:.3f}"
    return text if len(figures) == 1 else f"{text} ({min(figures):.3f}..{max(figures):.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the published tables")
    parser.add_argument("--backbone", default="protein-mini", help="bundled name or folder")
    parser.add_argument("--only", nargs="+", choices=[*ASSAYS, "structure"])
    parser.add_argument("--adapter", nargs="+", default=["lora"], choices=["lora", "full", "head"])
    parser.add_argument("--epochs", type=int, help="of each fine-tuning; default: finetune's own")
    parser.add_argument("--jobs", type=int, default=1, help="fine-tunings side by side")
    parser.add_argument("--controls", type=int, default=2, help="sets of random weights")
    parser.add_argument("--frozen", action="store_true", help="ridge alone, no fine-tuning")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="store in benchmarks/results")
    options = parser.parse_args()
    for name in ("epochs", "jobs", "controls"):
        if (got := getattr(options, name)) is not None and got < 1:
            parser.error(f"argument --{name}: {got}, must be at least 1")
    if not options.data.is_dir():
        raise SystemExit(f"{options.data}: no such folder")

    wanted = options.only or [*ASSAYS, "structure"]
    extra = ["--seed", str(options.seed)]
    if options.epochs is not None:
        extra += ["--epochs", str(options.epochs)]
    threads = max(1, mt.num_threads() // options.jobs)
    columns = ["ridge on one-hot", "embeddings: pretrained", "random"]
    dtype = training_dtype("auto")
    how = (
        f"backbone {options.backbone} in {dtype}, {options.controls} sets of random weights "
        "(mean, least..largest); test Spearman"
    )
    if not options.frozen:
        for adapter in options.adapter:
            columns += [f"fine-tuned ({adapter}): pretrained", "random"]
        epochs = "as many epochs as by default"
        if options.epochs is not None:
            epochs = f"at most {options.epochs} epochs"
        how += f"; fine-tuned for {epochs}"
    facts = machine()
    lines = [
        "# What pretraining is worth: a backbone beside its architecture with random weights",
        "",
        *(f"- {k}: {v}" for k, v in facts.items()),
        f"- {how}",
        "",
        f"| assay, split | training rows | {' | '.join(columns)} |",
        "|---|---:|" + "---:|" * len(columns),
    ]
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        encoder = mt.load(options.backbone, dtype=dtype)
        controls = [
            random_encoder(encoder.config, seed, dtype, encoder.width**-0.5)
            for seed in range(options.controls)
        ]
        for seed, control in enumerate(controls):
            control.save(folder / f"random{seed}")
        backbones = [options.backbone, *(str(folder / f"random{i}") for i in range(len(controls)))]
        assays = {name: ASSAYS[name] for name in wanted if name in ASSAYS}
        tables = {name: reduced(assay, options.data, folder) for name, assay in assays.items()}
        pool = ThreadPoolExecutor(options.jobs)
        try:
            runs = {
                (name, adapter, i): pool.submit(
                    finetuned, tables[name], assay, backbone, folder / f"{name}-{adapter}-{i}",
                    ["--adapter", adapter, *extra], threads,
                )
                for name, assay in assays.items()
                for adapter in options.adapter
                for i, backbone in enumerate([] if options.frozen else backbones)
            }  # fmt: skip
            for name, assay in assays.items():
                one_hot, *found = frozen(tables[name], assay, [encoder, *controls])
                groups = [[one_hot], found[:1], found[1:]]
                for adapter in options.adapter if runs else []:
                    found = [runs[name, adapter, i].result() for i in range(len(backbones))]
                    groups += [found[:1], found[1:]]
                rows = int((pd.read_csv(tables[name])[assay.split] == "train").sum())
                best = max(float(np.mean(group)) for group in groups)
                cells = [cell(group, best) for group in groups]
                line = f"| {name}, {assay.split} | {rows:,} | {' | '.join(cells)} |"
                lines.append(line)
                print(line, flush=True)
        finally:
            pool.shutdown(cancel_futures=True)
        if "structure" in wanted:
            both = {"pretrained": encoder, "random": controls[0]}
            shares = secondary_structure(options.data, both)
            line = (
                f"\nSecondary structure, linear probe of {PROBED} proteins, three-state accuracy: "
                + ", ".join(f"{name} {value:.3f}" for name, value in shares.items())
            )
            lines.append(line)
            print(line, flush=True)
    if options.write:
        path = Path(__file__).parent / "results" / f"{facts['date']}-protein-mini.md"
        path.write_text("\n".join(lines) + "\n")
        print(f"written: {path}")


if __name__ == "__main__":
    main()
