"""Where the head of a fine-tuning on molecules should start: ridge on the frozen backbone, or near
zero.

    python benchmarks/head_start.py --data DATA/molecules --write            # half an hour
    python benchmarks/head_start.py --data DATA/molecules --only esol --rows 100 --seeds 3

Scaffold split; the score on the validation rows is what a default may be chosen by, the test's
stands beside it. --rows fits to so many random training rows, and as many epochs as the engine then
plans; else the epochs are those of molecules.py.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
from molecule_baselines import ASSAYS, Parts, measured, parts, read
from molecules import EPOCHS, RESULTS, SPLIT, headline, standardised
from workload import machine

STARTS, ADAPTERS = ("ridge", "random"), ("full", "lora")
DEFAULT = ("esol", "biogen_solubility", "bace", "bbbp", "pharmabench_cyp2d6")


def one_fit(
    name: str, found: Parts, adapter: str, start: str, seed: int, options: argparse.Namespace
) -> dict[str, float]:
    import moltide as mt
    from moltide.assay_model import ModelSpec, Rows, fit_assay_model
    from moltide.training import TrainSettings

    assay = ASSAYS[name]
    classes = ["0", "1"] if assay.task == "classification" else None
    spec = ModelSpec(assay.task, "sequence", assay.targets, classes)
    n = len(found.smiles["train"])
    chosen, epochs = np.arange(n), int(np.clip(round(options.visits / n), *EPOCHS))
    settings = TrainSettings(adapter=adapter, head_start=start, seed=seed, epochs=epochs)
    if options.rows:
        chosen = np.sort(np.random.default_rng(seed).permutation(n)[: options.rows])
        settings = TrainSettings(adapter=adapter, head_start=start, seed=seed)
    model, result = fit_assay_model(
        mt.load(options.backbone, dtype="bf16"),
        Rows([found.smiles["train"][i] for i in chosen], found.y["train"][chosen]),
        Rows(found.smiles["valid"], found.y["valid"]),
        spec,
        settings,
        finish=False,
    )
    predicted = model.predict(found.smiles["test"])
    values = predicted.values if predicted.probabilities is None else predicted.probabilities
    values = values if classes is None else values[..., 1]
    test = measured(found, assay.task, values)[headline(assay.task)[0]]
    return {"valid": float(result.best_score), "test": test, "epoch": result.best_epoch}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder of the published tables")
    add("--only", nargs="+", choices=list(ASSAYS), default=DEFAULT)
    add("--backbone", default="molecule-mini", help="bundled name or folder")
    add("--rows", type=int, default=0, help="training rows; 0: all")
    add("--seeds", type=int, default=1)
    add("--visits", type=int, default=30_000, help="training molecules seen in all epochs")
    add("--write", action="store_true", help="store the table in benchmarks/results")
    options = parser.parse_args()
    if not options.data.is_dir():
        raise SystemExit(f"{options.data}: no such folder")
    facts = machine()
    of_rows = f"{options.rows} training rows" if options.rows else "all training rows"
    lines = [
        f"# Where the head starts: {options.backbone}, {of_rows}", "",
        *(f"- {key}: {value}" for key, value in facts.items()),
        f"- scaffold split, mean of {options.seeds} seed(s); valid: Spearman's rho or ROC-AUC, "
        "test: RMSE or ROC-AUC; epoch: the best", "",
        "| assay | adapter | start | valid | test | epoch |", "|---|---|---|---:|---:|---:|",
    ]  # fmt: skip
    for line in lines[-2:]:
        print(line)
    for name in options.only:
        found = standardised(parts(name, SPLIT, *read(name, options.data), 0))
        for adapter, start in itertools.product(ADAPTERS, STARTS):
            fits = [
                one_fit(name, found, adapter, start, seed, options) for seed in range(options.seeds)
            ]
            means = [float(np.mean([fit[key] for fit in fits])) for key in ("valid", "test")]
            epochs = ", ".join(str(fit["epoch"]) for fit in fits)
            figures = " | ".join(f"{mean:.3f}" for mean in means)
            lines.append(f"| {name} | {adapter} | {start} | {figures} | {epochs} |")
            print(lines[-1], flush=True)
    if options.write:
        of_rows = f"-{options.rows}-rows" if options.rows else ""
        path = RESULTS / f"{facts['date']}-head-start{of_rows}.md"
        path.write_text("\n".join(lines) + "\n")
        print(f"written: {path}")


if __name__ == "__main__":
    main()
