"""Every baseline of molecules on published assays, beside a random forest as most run it.

    python benchmarks/molecule_baselines.py --data DATA/molecules --write     # hours; see --jobs
    python benchmarks/molecule_baselines.py --data DATA/molecules --only esol bbbp
    python benchmarks/molecule_baselines.py --data DATA/molecules --floors    # the forest alone
    python benchmarks/molecule_baselines.py --split scaffold_balanced butina --only esol

The forest as most run it ("floor") has 60 trees on 1,024 Morgan counts of radius 2, fitted to train
and valid; FLOORS holds what it gave when the tables were collected. Splits are the tables' own
columns, or --split: methods of `moltide.splits.make_split`. Regression shows the test RMSE and
Spearman's rho, classes the test AUROC; several endpoints their mean. Raw results go to a CSV beside
the table, and rows that stand there already are not computed again (--again does).
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from workload import machine

from moltide import num_threads
from moltide.assay import AssayTable
from moltide.assay.summary import DataSummary
from moltide.baselines import fit_baselines
from moltide.baselines.result import NAMES_OF
from moltide.baselines.row_tables import MoleculeTables
from moltide.chem.fingerprints import morgan_counts
from moltide.kinds import MOLECULE
from moltide.metrics import classification_metrics, mean_metrics, regression_metrics
from moltide.splits import make_split

TOX21 = (
    "NR-AR", "NR-AR-LBD", "NR-AhR", "NR-Aromatase", "NR-ER", "NR-ER-LBD", "NR-PPAR-gamma", "SR-ARE",
    "SR-ATAD5", "SR-HSE", "SR-MMP", "SR-p53",
)  # fmt: skip


@dataclass(frozen=True)
class Assay:
    file: str
    targets: tuple[str, ...]
    task: str = "regression"
    least: float | None = None  # the logarithm is taken, of this at least


ASSAYS = {
    "esol": Assay("esol.csv", ("logS",)),
    "bace": Assay("bace.csv", ("pIC50",)),
    "bace_active": Assay("bace.csv", ("active",), "classification"),
    "bbbp": Assay("bbbp.csv", ("bbb_permeable",), "classification"),
    "biogen_hlm_clint": Assay("biogen_hlm_clint.csv", ("log_hlm_clint",)),
    "biogen_solubility": Assay("biogen_solubility.csv", ("log_solubility",)),
    "pharmabench_cyp2d6": Assay("pharmabench_cyp2d6.csv", ("ic50_um",), least=1e-3),
    "pharmabench_hlm_cl": Assay("pharmabench_hlm_cl.csv", ("log_hlm_cl",)),
    "chembl28_hlm_stability": Assay("chembl28_hlm_stability.csv", ("pct_remaining_1h",)),
    "herg_sato2021": Assay("herg_sato2021.csv.gz", ("pIC50",)),
    "chembl28_egfr": Assay("chembl28_egfr.csv.gz", ("pIC50",)),
    "pharmabench_ames": Assay("pharmabench_ames.csv.gz", ("ames_positive",), "classification"),
    "tox21_ahr": Assay("tox21.csv.gz", ("NR-AhR",), "classification"),
    "tox21": Assay("tox21.csv.gz", TOX21, "classification"),
    "pharmabench_water_sol": Assay("pharmabench_water_sol.csv.gz", ("log_sol_nm",)),
    "hiv": Assay("hiv.csv.gz", ("active",), "classification"),
}
COLUMNS = ("split_random", "split_scaffold")
PARTS = ("train", "valid", "test")
# (RMSE, rho) or (AUROC,) by assay: of the random column, of the scaffold column.
FLOORS = {
    "bace": ((0.663, 0.831), (1.120, 0.787)),
    "bace_active": ((0.921,), (0.873,)),
    "bbbp": ((0.918,), (0.739,)),
    "biogen_hlm_clint": ((0.496, 0.638), (0.506, 0.531)),
    "biogen_solubility": ((0.572, 0.490), (0.467, 0.285)),
    "chembl28_egfr": ((0.662, 0.865), (0.801, 0.802)),
    "chembl28_hlm_stability": ((29.106, 0.529), (34.997, 0.543)),
    "esol": ((0.926, 0.901), (1.090, 0.838)),
    "herg_sato2021": ((0.633, 0.672), (0.656, 0.624)),
    "pharmabench_ames": ((0.913,), (0.808,)),
    "pharmabench_cyp2d6": ((0.685, 0.539), (0.706, 0.425)),
    "pharmabench_hlm_cl": ((0.433, 0.693), (0.581, 0.644)),
    "pharmabench_water_sol": ((1.046, 0.876), (1.606, 0.597)),
    "tox21_ahr": ((0.913,), (0.816,)),
}
FLOOR = "floor"
NAMES = [name for name in NAMES_OF[MOLECULE] if name not in ("mean", "ridge_embeddings")]
FIELDS = [
    "assay", "split", "method", "n_train", "n_valid", "n_test", "targets", "rmse", "spearman",
    "auroc", "auprc", "seconds", "note",
]  # fmt: skip


@dataclass
class Parts:
    """Molecules and targets of train, valid and test rows, each with some measured value; "known"
    are train and valid rows in the table's order, on which a forest of a seed depends."""

    smiles: dict[str, list[str]]
    y: dict[str, np.ndarray]


def read(name: str, data: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """The rows with a value, and their targets (n, k)."""
    assay = ASSAYS[name]
    table = pd.read_csv(data / assay.file)
    y = table[list(assay.targets)].to_numpy(float)
    measured = ~np.isnan(y).all(axis=1)
    y = y[measured]
    return table[measured], y if assay.least is None else np.log10(np.maximum(y, assay.least))


def parts(name: str, split: str, table: pd.DataFrame, y: np.ndarray, seed: int) -> Parts:
    """The parts of a column, or of a method on the distinct SMILES of the table."""
    if split in table.columns:
        labels = table[split].to_numpy(str)
    else:
        smiles = table["smiles"].tolist()
        distinct, of_row = np.unique(smiles, return_inverse=True)
        first = np.unique(of_row, return_index=True)[1]
        labels = make_split(as_table(list(distinct), y[first], name), split, seed).labels[of_row]
    texts = table["smiles"].to_numpy()
    chosen = {part: labels == part for part in PARTS}
    chosen["known"] = chosen["train"] | chosen["valid"]
    return Parts(
        {part: texts[rows].tolist() for part, rows in chosen.items()},
        {part: y[rows] for part, rows in chosen.items()},
    )


def as_table(smiles: list[str], y: np.ndarray, name: str) -> AssayTable:
    """An assay table of distinct SMILES as they are, to be split."""
    n, task = len(smiles), ASSAYS[name].task
    summary = DataSummary(
        ASSAYS[name].file, n, n, 2, "CSV", n, {}, [], [], [], task, 0, 0.0, 0,
    )  # fmt: skip
    return AssayTable(
        smiles, y, np.zeros(y.shape, np.int8), list(ASSAYS[name].targets), task,
        ["0", "1"] if task == "classification" else None, [[i] for i in range(n)],
        np.ones(y.shape, np.int64), [None] * y.shape[1], summary, kind=MOLECULE,
    )  # fmt: skip


def floor(found: Parts, task: str, seed: int) -> np.ndarray:
    """Test predictions (n, k), of class 1 where there are classes, by a forest as most run it."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    known, test = (
        morgan_counts(smiles, radius=2, size=1024).toarray()
        for smiles in (found.smiles["known"], found.smiles["test"])
    )
    labels = found.y["known"]
    out = np.zeros((len(test), labels.shape[1]))
    for j in range(labels.shape[1]):
        rows = ~np.isnan(labels[:, j])
        given = {"n_estimators": 60, "random_state": seed, "n_jobs": num_threads()}
        if task == "regression":
            model = RandomForestRegressor(max_features=0.3, **given)
            out[:, j] = model.fit(known[rows], labels[rows, j]).predict(test)
        else:
            model = RandomForestClassifier(**given).fit(known[rows], labels[rows, j].astype(int))
            out[:, j] = model.predict_proba(test)[:, 1]
    return out


def measured(found: Parts, task: str, predictions: np.ndarray) -> dict[str, float]:
    """Mean test metrics over the targets."""
    y, each = found.y["test"], []
    for j in range(y.shape[1]):
        known = ~np.isnan(y[:, j])
        one = classification_metrics if task == "classification" else regression_metrics
        each.append(one(y[known, j], predictions[known, j]))
    return mean_metrics(each)


def results(
    name: str, split: str, found: Parts, methods: list[str], seed: int
) -> Iterator[dict[str, object]]:
    """A row of raw results for each method in turn."""
    task = ASSAYS[name].task
    counts = {f"n_{part}": len(found.smiles[part]) for part in PARTS}
    tables = MoleculeTables([one for part in PARTS for one in found.smiles[part]])
    for method in methods:
        start = time.perf_counter()
        note = "60 trees, 1,024 columns"
        if method == FLOOR:
            predictions = floor(found, task, seed)
        else:
            (result,) = fit_baselines(
                found.smiles["train"], found.y["train"], found.smiles["test"], task=task,
                n_classes=2 if task == "classification" else None,
                valid_sequences=found.smiles["valid"], y_valid=found.y["valid"], seed=seed,
                names=[method], kind=MOLECULE, tables=tables,
            )  # fmt: skip
            assert result.predictions is not None
            predictions = result.predictions
            note = result.note.split(" | ")[0]
        metrics = measured(found, task, predictions)
        kept = {key: round(metrics[key], 4) for key in FIELDS if key in metrics}
        seconds = round(time.perf_counter() - start, 1)
        yield {
            "assay": name, "split": split, "method": method, **counts,
            "targets": len(ASSAYS[name].targets), **kept, "seconds": seconds, "note": note,
        }  # fmt: skip


def shown(row: dict[str, object] | None, task: str) -> str:
    if row is None:
        return ""
    if task == "classification":
        return f"{float(row['auroc']):.3f}"  # type: ignore[arg-type]
    return f"{float(row['rmse']):.3f}, {float(row['spearman']):.3f}"  # type: ignore[arg-type]


def leading(rows: dict[str, dict[str, object]], task: str, methods: list[str]) -> str:
    """The method with the best first metric."""
    there = [method for method in methods if method in rows]
    if task == "classification":
        return max(there, key=lambda one: float(rows[one]["auroc"]))  # type: ignore[arg-type]
    return min(there, key=lambda one: float(rows[one]["rmse"]))  # type: ignore[arg-type]


def report(rows: list[dict[str, object]], facts: dict[str, str], splits: list[str]) -> list[str]:
    """The table of a dated file."""
    methods = [FLOOR, *NAMES]
    headers = ["published floor", "floor", *(name.replace("_", " ") for name in NAMES)]
    lines = ["# Baselines of molecules on published assays", ""]
    lines += [f"- {key}: {value}" for key, value in facts.items()]
    lines += [
        "- test part, fitted to train + valid (settings chosen on valid); regression: RMSE, "
        "Spearman's rho; classes: AUROC; tox21: mean of its 12 endpoints",
        "- floor: 60 trees on 1,024 Morgan counts of radius 2 (a split looks at the root of the "
        "columns for classes, at 30 % of them for numbers), seed 0; published floor: what it gave "
        "when the tables were collected; cyp2d6 is log10 of the IC50 in uM, of 0.001 at least",
    ]
    by = {(row["assay"], row["split"]): {} for row in rows}
    for row in rows:
        by[row["assay"], row["split"]][row["method"]] = row
    for split in splits:
        lines += ["", f"## {split}", "", f"| assay | train + valid, test | {' | '.join(headers)} |"]
        lines.append("|---|---:|" + "---:|" * len(headers))
        for name, assay in ASSAYS.items():
            own = by.get((name, split))
            if not own:
                continue
            first = next(iter(own.values()))
            sizes = f"{int(first['n_train']) + int(first['n_valid']):,}, {int(first['n_test']):,}"  # type: ignore[call-overload]
            published = ""
            if name in FLOORS and split in COLUMNS:
                figures = FLOORS[name][COLUMNS.index(split)]
                published = ", ".join(f"{one:.3f}" for one in figures)
            best = leading(own, assay.task, methods)
            cells = []
            for method in methods:
                cell = shown(own.get(method), assay.task)
                cells.append(f"**{cell}**" if method == best and cell else cell)
            lines.append(f"| {name} | {sizes} | {published} | {' | '.join(cells)} |")
    return lines


def differences(rows: list[dict[str, object]]) -> list[str]:
    """Where the floor is another than published."""
    lines = []
    for row in rows:
        name, split = str(row["assay"]), str(row["split"])
        if row["method"] != FLOOR or name not in FLOORS or split not in COLUMNS:
            continue
        regression = ASSAYS[name].task == "regression"
        keys = ("rmse", "spearman") if regression else ("auroc",)
        figures = FLOORS[name][COLUMNS.index(split)]
        for key, figure in zip(keys, figures, strict=True):
            if abs(float(row[key]) - figure) > 0.0006:  # type: ignore[arg-type]
                lines.append(f"{name}, {split}: {key} {float(row[key]):.4f}, published {figure}")  # type: ignore[arg-type]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the published tables")
    parser.add_argument("--only", nargs="+", choices=list(ASSAYS))
    parser.add_argument("--methods", nargs="+", choices=[FLOOR, *NAMES])
    parser.add_argument("--floors", action="store_true", help="as --methods floor")
    parser.add_argument("--split", nargs="+", default=list(COLUMNS), help="columns or methods")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--raw", type=Path, help="CSV of raw results; default with --write: in benchmarks/results"
    )
    parser.add_argument("--again", action="store_true", help="also what the CSV holds already")
    parser.add_argument("--write", action="store_true", help="store in benchmarks/results")
    options = parser.parse_args()
    if not options.data.is_dir():
        raise SystemExit(f"{options.data}: no such folder")
    methods = [FLOOR] if options.floors else options.methods or [FLOOR, *NAMES]
    facts = machine()
    stem = Path(__file__).parent / "results" / f"{facts['date']}-molecule-baselines"
    raw = options.raw or (stem.with_suffix(".csv") if options.write else None)
    rows: list[dict[str, object]] = []
    if raw is not None and raw.exists() and not options.again:
        with raw.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
    done = {(row["assay"], row["split"], row["method"]) for row in rows}
    for name in options.only or ASSAYS:
        table, y = read(name, options.data)
        for split in options.split:
            missing = [one for one in methods if (name, split, one) not in done]
            if not missing:
                continue
            found = parts(name, split, table, y, options.seed)
            for row in results(name, split, found, missing, options.seed):
                rows.append(row)
                cell = shown(row, ASSAYS[name].task)
                print(f"{name}, {split}, {row['method']}: {cell} ({row['seconds']} s)", flush=True)
                if raw is not None:
                    with raw.open("w", newline="") as stream:
                        writer = csv.DictWriter(stream, FIELDS, lineterminator="\n")
                        writer.writeheader()
                        writer.writerows(rows)
    lines = report(rows, facts, options.split)
    print("\n".join(lines))
    for line in differences(rows):
        print(f"another floor: {line}")
    if options.write:
        stem.with_suffix(".md").write_text("\n".join(lines) + "\n")
        print(f"written: {stem}.md")


if __name__ == "__main__":
    main()
