"""A molecule encoder on published assays, beside random weights and every baseline.

    python benchmarks/molecules.py --data DATA/molecules --write    # hours; goes on after a stop
    python benchmarks/molecules.py --data DATA/molecules --only esol bbbp --seeds 1
    python benchmarks/molecules.py --data DATA/molecules --report   # the table of what is there

The split is the tables' own scaffold column. Every fine-tuning is a fresh process, so that its peak
memory is its own: `full` and `lora` start from --backbone, `random` has the same shape and random
weights, all trained (`full`). All settings are the engine's defaults, but for the number of epochs,
which is --visits over the training rows within EPOCHS, to be done in a night; the best epoch is
chosen on the validation rows. Baselines are those of `moltide finetune`, fitted to train and valid,
and ridge on the frozen backbone's embeddings. Every result is a line of JSON in --raw; lines that
stand there are not computed again. By default one process a core runs, each with one thread.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
from molecule_baselines import ASSAYS, FLOOR, FLOORS, NAMES, Parts, floor, measured, parts, read
from workload import machine, memory_mb

MODELS = ("full", "lora", "random")
FROZEN = "ridge_embeddings"
# Fits that depend on no seed, or on none that moves their figures.
ONCE = ("nearest_neighbour", "descriptors_ridge", FROZEN)
SPLIT = "split_scaffold"
EPOCHS = (3, 20)
RESULTS = Path(__file__).parent / "results"
PUBLISHED = Path(__file__).parent / "published_molecules.csv"
LABELS = {
    FLOOR: "floor", "morgan_forest": "forest", "morgan_boosting": "boosting",
    "descriptors_ridge": "descriptors", "nearest_neighbour": "neighbours",
    FROZEN: "ridge on embeddings", "full": "full", "lora": "LoRA", "random": "random weights",
}  # fmt: skip


def standardised(found: Parts) -> Parts:
    """The same rows with the SMILES that `moltide finetune` would read; what it would set aside
    (bbbp's nitrous oxide has no organic part) stays, so that all methods see the same rows."""
    from moltide.chem.standardise import standardise_all

    smiles = {}
    for part, texts in found.smiles.items():
        molecules = standardise_all(texts).molecules
        smiles[part] = [one.smiles or text for text, one in zip(texts, molecules, strict=True)]
    return Parts(smiles, found.y)


def finetune(
    name: str, found: Parts, method: str, seed: int, backbone: str, visits: int
) -> dict[str, Any]:
    """Fine-tune here and now; metrics of the test part, time, memory."""
    import moltide as mt
    from moltide.assay_model import ModelSpec, Rows, fit_assay_model
    from moltide.random_init import random_encoder
    from moltide.training import TrainSettings
    from moltide.training.arithmetic import training_dtype

    dtype = training_dtype("auto")
    encoder = mt.load(backbone, dtype=dtype)
    if method == "random":
        config, tokenizer = encoder.config, encoder.tokenizer
        encoder = random_encoder(config, seed, dtype, encoder.width**-0.5, tokenizer)
    assay = ASSAYS[name]
    classes = assay.task == "classification"
    spec = ModelSpec(
        assay.task, "sequence", assay.targets, *([("0", "1")] if classes else []),
    )  # fmt: skip
    epochs = int(np.clip(round(visits / len(found.smiles["train"])), *EPOCHS))
    adapter = "lora" if method == "lora" else "full"
    settings = TrainSettings(adapter=adapter, seed=seed, epochs=epochs)
    start = time.perf_counter()
    model, result = fit_assay_model(
        encoder,
        Rows(found.smiles["train"], found.y["train"]),
        Rows(found.smiles["valid"], found.y["valid"]),
        spec,
        settings,
        finish=False,
    )
    seconds = time.perf_counter() - start
    predicted = model.predict(found.smiles["test"])
    values = predicted.values
    if classes:
        assert predicted.probabilities is not None
        values = predicted.probabilities[..., 1]
    tokens = encoder.tokenizer.encode(found.smiles["train"])[1][-1]
    before = {}
    if not classes:
        model.recalibration = None
        as_they_are = model.predict(found.smiles["test"]).values
        before = {"rmse_not_recalibrated": measured(found, assay.task, as_they_are)["rmse"]}
    return {
        **measured(found, assay.task, values),
        **before,
        "fit_seconds": round(seconds, 1),
        "peak_mb": round(memory_mb("VmHWM")),
        "epochs": len(result.history),
        "best_epoch": result.best_epoch,
        "train_tokens": int(tokens),
        "dtype": dtype,
    }


def baseline(name: str, found: Parts, method: str, seed: int, backbone: str) -> dict[str, Any]:
    import moltide as mt
    from moltide.baselines import fit_baselines
    from moltide.kinds import MOLECULE

    task = ASSAYS[name].task
    embed = mt.load(backbone).embed if method == FROZEN else None
    start = time.perf_counter()
    (result,) = fit_baselines(
        found.smiles["train"], found.y["train"], found.smiles["test"], task=task,
        n_classes=2 if task == "classification" else None, embed=embed,
        valid_sequences=found.smiles["valid"], y_valid=found.y["valid"], seed=seed,
        names=[method], kind=MOLECULE,
    )  # fmt: skip
    if result.predictions is None:
        raise SystemExit(f"{name}, {method}: {result.note}")
    values = result.predictions
    if task == "classification":
        values = values[..., 1]
    values = values.reshape(found.y["test"].shape)
    seconds = round(time.perf_counter() - start, 1)
    return {**measured(found, task, values), "fit_seconds": seconds}


def compute(name: str, method: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    found = parts(name, SPLIT, *read(name, options.data), seed)
    if method == FLOOR:
        start = time.perf_counter()
        metrics = measured(found, ASSAYS[name].task, floor(found, ASSAYS[name].task, seed))
        own: dict[str, Any] = {**metrics, "fit_seconds": round(time.perf_counter() - start, 1)}
    else:
        given = (name, standardised(found), method, seed, options.backbone)
        own = finetune(*given, options.visits) if method in MODELS else baseline(*given)
    sizes = {f"n_{part}": len(found.smiles[part]) for part in ("train", "valid", "test")}
    return {"assay": name, "method": method, "seed": seed, **sizes, **own}


def in_a_process(name: str, method: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    command = [
        sys.executable, __file__, "--data", str(options.data), "--backbone", options.backbone,
        "--visits", str(options.visits), "--one", name, method, str(seed),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: failed\n{done.stderr[-2000:]}")
    return {**json.loads(done.stdout.splitlines()[-1]), "threads": options.threads}


def wanted(options: argparse.Namespace) -> list[tuple[str, str, int]]:
    """What is to be computed: all of the first seed before the second."""
    everything = []
    for seed in range(options.seeds):
        for name in options.only or ASSAYS:
            for method in options.methods:
                if seed == 0 or method not in ONCE:
                    everything.append((name, method, seed))
    return everything


def headline(task: str) -> tuple[str, int]:
    """The metric that ranks, and 1 where more is better."""
    return ("auroc", 1) if task == "classification" else ("rmse", -1)


def spread(values: list[float]) -> str:
    mean = f"{np.mean(values):.3f}"
    return mean if len(values) < 2 else f"{mean} ± {np.std(values, ddof=1):.3f}"


def report(rows: list[dict[str, Any]], facts: dict[str, str], backbone: str) -> list[str]:
    """The dated file: the table of the ranking metric, Spearman's rho, times, published figures."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["assay"], row["method"]].append(row)
    methods = [FLOOR, *NAMES, FROZEN, *MODELS]
    there = [name for name in ASSAYS if any((name, one) in groups for one in methods)]
    lines = [
        f"# {backbone} on published assays of molecules",
        "",
        *(f"- {key}: {value}" for key, value in facts.items()),
        "- scaffold split of the tables, test part; mean ± standard deviation over the seeds; the "
        "best of a row in bold; nothing was chosen on test rows",
        "- full, LoRA: fine-tuned from the backbone on train, the epoch chosen on valid; random "
        "weights: the same shape trained in full; baselines are fitted to train + valid",
        "- floor: a forest of 60 trees on 1,024 Morgan counts, as published with the tables",
        "- tox21: the mean of 12 endpoints, one model for all; cyp2d6: log10 of the IC50 in uM",
    ]
    for title, key, tasks in (
        ("RMSE (regression) and ROC-AUC (classes)", None, ("regression", "classification")),
        ("Spearman's rho", "spearman", ("regression",)),
    ):
        header = " | ".join(LABELS[one] for one in methods)
        lines += ["", f"## {title}", "", f"| assay | metric | train, test | {header} |"]
        lines.append("|---|---|---:|" + "---:|" * len(methods))
        for name in there:
            task = ASSAYS[name].task
            if task not in tasks:
                continue
            metric, sign = headline(task) if key is None else (key, 1)
            means = {
                one: float(np.mean([row[metric] for row in groups[name, one]]))
                for one in methods
                if groups[name, one]
            }
            best = max(means, key=lambda one: sign * means[one])
            cells = []
            for one in methods:
                own = groups[name, one]
                cell = spread([row[metric] for row in own]) if own else ""
                cells.append(f"**{cell}**" if one == best else cell)
            first = groups[name, next(iter(means))][0]
            sizes = f"{first['n_train']:,}, {first['n_test']:,}"
            lines.append(f"| {name} | {metric} | {sizes} | {' | '.join(cells)} |")
    parts = (verdicts, recalibrated, costs)
    return [*lines, *(line for part in parts for line in part(groups, there)), *published(there)]


def verdicts(groups: dict[tuple[str, str], list[dict[str, Any]]], there: list[str]) -> list[str]:
    """How often the backbone is better than what it must beat."""

    def wins(one: tuple[str, ...], others: tuple[str, ...]) -> tuple[list[str], int]:
        won, of = [], 0
        for name in there:
            metric, sign = headline(ASSAYS[name].task)

            def top(methods: tuple[str, ...], name=name, metric=metric, sign=sign) -> float | None:
                found = [
                    sign * float(np.mean([row[metric] for row in groups[name, m]]))
                    for m in methods
                    if groups[name, m]
                ]
                return max(found) if len(found) == len(methods) else None

            ours, theirs = top(one), top(others)
            if ours is not None and theirs is not None:
                of += 1
                won += [name] if ours > theirs else []
        return won, of

    lines = ["", "## What it comes to", ""]
    for text, one, others in (
        ("full beats random weights", ("full",), ("random",)),
        ("LoRA beats random weights", ("lora",), ("random",)),
        ("full beats the forest on fingerprints", ("full",), ("morgan_forest",)),
        ("full beats every baseline", ("full",), (*NAMES, FROZEN)),
        ("LoRA beats every baseline", ("lora",), (*NAMES, FROZEN)),
    ):
        won, of = wins(one, others)
        if of:
            lines.append(f"- {text} on {len(won)} of {of} assays: {', '.join(won) or 'none'}")
    return lines


def recalibrated(
    groups: dict[tuple[str, str], list[dict[str, Any]]], there: list[str]
) -> list[str]:
    """What the line through the validation rows does to the test part."""
    key = "rmse_not_recalibrated"
    lines = ["", "## Recalibration", "", "test RMSE without it and with it, mean of the seeds", ""]
    lines.append(f"| assay | {' | '.join(LABELS[one] for one in MODELS)} |")
    lines.append("|---|" + "---:|" * len(MODELS))
    for name in there:
        cells = []
        for one in MODELS:
            own = [row for row in groups[name, one] if key in row]
            means = [np.mean([row[which] for row in own]) for which in (key, "rmse") if own]
            cells.append(" → ".join(f"{mean:.3f}" for mean in means))
        if any(cells):
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def costs(groups: dict[tuple[str, str], list[dict[str, Any]]], there: list[str]) -> list[str]:
    threads = sorted({row["threads"] for rows in groups.values() for row in rows})
    used = " or ".join(map(str, threads))
    given = f"seconds of fitting (mean of the seeds), peak MB; threads of a process: {used}"
    lines = ["", "## Time and memory", "", given, ""]
    shown = ("morgan_forest", "morgan_boosting", "descriptors_ridge", *MODELS)
    lines.append(f"| assay | {' | '.join(LABELS[one] for one in shown)} |")
    lines.append("|---|" + "---:|" * len(shown))
    for name in there:
        cells = []
        for one in shown:
            own = groups[name, one]
            cell = f"{np.mean([row['fit_seconds'] for row in own]):,.0f} s" if own else ""
            if own and "peak_mb" in own[0]:
                cell += f", {max(row['peak_mb'] for row in own):,} MB"
            cells.append(cell)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def published(there: list[str]) -> list[str]:
    lines = [
        "",
        "## Published figures",
        "",
        "From the papers; their splits differ from ours and from each other (see the column), so "
        "they say where the field stands and are no race.",
        "",
        "| assay | model | metric | figure | split | source |",
        "|---|---|---|---:|---|---|",
    ]
    with PUBLISHED.open(newline="") as stream:
        for one in csv.DictReader(stream):
            if one["assay"] in there:
                figure = one["value"] + (f" ± {one['sd']}" if one["sd"] else "")
                cells = [one["assay"], one["model"], one["metric"], figure]
                lines.append(f"| {' | '.join([*cells, one['split'], one['source']])} |")
    return lines


def missed_floors(rows: list[dict[str, Any]]) -> list[str]:
    """Where the floor of seed 0 is another than the one published with the tables."""
    lines = []
    for row in rows:
        if row["method"] == FLOOR and row["seed"] == 0 and row["assay"] in FLOORS:
            figures = FLOORS[row["assay"]][1]
            regression = ASSAYS[row["assay"]].task == "regression"
            keys = ("rmse", "spearman") if regression else ("auroc",)
            for key, figure in zip(keys, figures, strict=True):
                if abs(row[key] - figure) > 0.0006:
                    lines.append(f"{row['assay']}: {key} {row[key]:.4f}, published {figure}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder of the published tables")
    add("--backbone", default="molecule-mini", help="bundled name or folder")
    add("--only", nargs="+", choices=list(ASSAYS))
    methods = [FLOOR, *NAMES, FROZEN, *MODELS]
    add("--methods", nargs="+", default=methods, choices=methods)
    add("--seeds", type=int, default=3)
    add("--threads", type=int, default=1, help="of each process")
    add("--workers", type=int, default=os.cpu_count(), help="processes side by side")
    add("--visits", type=int, default=30_000, help="training molecules seen in all epochs")
    add("--raw", type=Path, default=RESULTS / "molecules.jsonl", help="JSON lines of results")
    add("--report", action="store_true", help="compute nothing")
    add("--write", action="store_true", help="store the table in benchmarks/results")
    add("--one", nargs=3, metavar=("ASSAY", "METHOD", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.data.is_dir():
        raise SystemExit(f"{options.data}: no such folder")
    if options.one:
        name, method, seed = options.one
        print(json.dumps(compute(name, method, int(seed), options)))
        return
    facts = machine()
    raw = options.raw
    rows = [json.loads(line) for line in raw.read_text().splitlines()] if raw.exists() else []
    done = {(row["assay"], row["method"], row["seed"]) for row in rows}
    missing = [] if options.report else [one for one in wanted(options) if one not in done]
    with ThreadPoolExecutor(options.workers) as pool:
        running = [pool.submit(in_a_process, *one, options) for one in missing]
        try:
            for future in as_completed(running):
                row = {**future.result(), **facts}
                rows.append(row)
                with raw.open("a") as stream:
                    stream.write(json.dumps(row) + "\n")
                metric, _ = headline(ASSAYS[row["assay"]].task)
                print(f"{row['assay']}, {row['method']}, seed {row['seed']}: {metric} "
                      f"{row[metric]:.3f} ({row['fit_seconds']} s)", flush=True)  # fmt: skip
        finally:
            pool.shutdown(cancel_futures=True)
    commits = dict.fromkeys(row["commit"] for row in rows)
    lines = report(rows, {**facts, "commit": ", ".join(commits)}, options.backbone)
    print("\n".join(lines))
    for line in missed_floors(rows):
        print(f"another floor: {line}")
    if options.write:
        path = RESULTS / f"{facts['date']}-molecules.md"
        path.write_text("\n".join(lines) + "\n")
        print(f"written: {path}")


if __name__ == "__main__":
    main()
