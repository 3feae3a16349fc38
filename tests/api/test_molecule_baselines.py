"""Baselines of molecules and RNA: against explicit fits, and better than the mean on real data."""

from __future__ import annotations

import numpy as np
import pytest
from molecule_tables import bbbp, esol
from rdkit.Chem import Descriptors
from sklearn.ensemble import RandomForestRegressor
from sklearn.metrics import roc_auc_score

from moltide import _engine
from moltide.baselines import boosting, dense, descriptors, fit_baselines, forest, limits
from moltide.baselines.limits import TimeLimit
from moltide.baselines.linear import Problem
from moltide.baselines.nucleotides import Frequencies, composition
from moltide.baselines.result import CURVE_BASELINE, NAMES_OF
from moltide.baselines.row_tables import MoleculeTables
from moltide.chem.fingerprints import morgan_bits, morgan_counts, tanimoto
from moltide.errors import ConfigError, DataError
from moltide.kinds import KINDS

OWN = ("morgan_forest", "morgan_boosting", "descriptors_ridge", "nearest_neighbour")
ESOL, LOG_S = esol()
BBBP, PASSES = bbbp()


def fit(smiles, y, names=None, parts=(120, 140), **options):
    """Fitted to the first rows, then validation rows, then test rows; all baselines by name."""
    a, b = parts
    given = {"kind": "molecule", "names": names, **options}
    if b > a:
        given |= {"valid_sequences": smiles[a:b], "y_valid": y[a:b]}
    found = fit_baselines(smiles[:a], y[:a], smiles[b:], **given)
    return {one.name: one for one in found}


def error(result, y):
    return float(np.sqrt(np.mean((result.predictions - y) ** 2)))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(forest, "TREES", 15)
    monkeypatch.setattr(boosting, "ROUNDS", 40)


@pytest.fixture(scope="module")
def fitted():
    return fit(ESOL, LOG_S)


def test_every_baseline_of_molecules_is_better_than_the_mean(fitted):
    assert tuple(fitted) == NAMES_OF["molecule"]
    y = LOG_S[140:]
    for name in OWN:
        assert error(fitted[name], y) < 0.8 * error(fitted["mean"], y), name
        assert fitted[name].valid_predictions.shape == (20,)
    assert not fitted["ridge_embeddings"].available
    assert fitted["morgan_forest"].label == "random forest on Morgan counts"
    assert fitted["descriptors_ridge"].label == "ridge on RDKit descriptors"


def test_classes_are_told_apart_and_probabilities_are_those_of_the_table():
    found = fit(BBBP, PASSES, task="classification", n_classes=2)
    y = PASSES[140:]
    for name in OWN:
        probability = found[name].predictions
        assert probability.shape == (60, 2)
        np.testing.assert_allclose(probability.sum(axis=1), 1)
        assert roc_auc_score(y, probability[:, 1]) > 0.65, name
        assert probability[:, 1].mean() == pytest.approx(PASSES[:140].mean(), abs=0.12), name
    assert "classes of equal weight" in found["morgan_forest"].note
    assert found["descriptors_ridge"].label == "logistic ridge on RDKit descriptors"


def test_the_forest_is_scikit_learns():
    model = RandomForestRegressor(
        forest.TREES, max_features=forest.COLUMNS, random_state=0, n_jobs=1
    ).fit(morgan_counts(ESOL[:140]).toarray(), LOG_S[:140], sample_weight=np.ones(140))
    expected = model.predict(morgan_counts(ESOL[140:]).toarray())
    found = fit(ESOL, LOG_S, ["morgan_forest"])["morgan_forest"]
    np.testing.assert_array_equal(found.predictions, expected)
    assert found.settings == {"trees": forest.TREES, "rows": 140}


def test_neighbours_by_tanimoto(fitted):
    result = fitted["nearest_neighbour"]
    size = result.settings["neighbours"]
    near = tanimoto(morgan_bits(ESOL[140:]), morgan_bits(ESOL[:140])).astype(float)
    expected = []
    for row in near:
        used = row >= np.sort(row)[-size]
        weight = np.maximum(row[used], 0.01) ** 4
        expected.append(weight @ LOG_S[:140][used] / weight.sum())
    np.testing.assert_allclose(result.predictions, expected, rtol=1e-5)
    assert "fourth power of their similarity" in result.note


def test_the_rounds_are_the_best_on_held_out_rows():
    found = fit(ESOL, LOG_S, ["morgan_boosting"], (120, 180))["morgan_boosting"]
    problem = Problem(LOG_S[:180], np.ones(180), np.arange(180) >= 120, None, "regression", 0, 0)
    counts = morgan_counts(ESOL[:180])
    stages = boosting._stages(counts[:120], counts[120:], problem, np.arange(120))
    errors = [np.mean((stage - LOG_S[120:180]) ** 2) for stage in stages]
    assert len(errors) == boosting.ROUNDS
    best = int(np.argmin(errors)) + 1
    assert found.settings["rounds"] == best
    assert "chosen on 60 validation rows" in found.note
    # The final fit has the validation rows too, and so many rounds.
    columns = np.flatnonzero(counts.getnnz(axis=0) >= boosting.LEAF_ROWS)
    model = boosting._model(best, problem)
    model.fit(counts[:, columns].toarray(), LOG_S[:180])
    expected = model.predict(morgan_counts(ESOL[180:])[:, columns].toarray())
    np.testing.assert_allclose(found.predictions, expected, rtol=1e-9)


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_the_same_bits_on_any_number_of_threads(task):
    y = LOG_S if task == "regression" else PASSES
    smiles = ESOL if task == "regression" else BBBP
    options = {"task": task} | ({"n_classes": 2} if task == "classification" else {})
    both = np.stack([y, np.where(np.arange(200) % 3, y, np.nan)], axis=1)
    found = []
    for threads in (1, 3):
        _engine.set_num_threads(threads)
        found.append(fit(smiles, both, OWN, **options))
    for name in OWN:
        one, other = (run[name] for run in found)
        np.testing.assert_array_equal(one.predictions, other.predictions, err_msg=name)
        np.testing.assert_array_equal(one.valid_predictions, other.valid_predictions)


def test_the_seed_decides():
    seeds = (0, 0, 1)
    one, again, other = (fit(ESOL, LOG_S, ["morgan_forest"], seed=seed) for seed in seeds)
    np.testing.assert_array_equal(
        one["morgan_forest"].predictions, again["morgan_forest"].predictions
    )
    assert (one["morgan_forest"].predictions != other["morgan_forest"].predictions).any()


def test_targets_are_fitted_on_their_own_rows():
    y = np.stack([LOG_S, -LOG_S], axis=1)
    y[:60, 0] = np.nan
    y[125, 1] = np.nan
    both = fit(ESOL, y, OWN)
    alone = fit(ESOL[60:], LOG_S[60:], ["morgan_forest", "morgan_boosting"], (60, 80))
    for name in OWN:
        assert both[name].predictions.shape == (60, 2)
        assert both[name].valid_predictions.shape == (20, 2)
    for name in alone:
        np.testing.assert_array_equal(both[name].for_target(0).predictions, alone[name].predictions)


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_labels_that_are_all_equal_are_predicted(task):
    found = fit(ESOL, np.ones(200), OWN, task=task, n_classes=2)
    for name, one in found.items():
        got = one.predictions if task == "regression" else one.predictions[:, 1]
        np.testing.assert_allclose(got, 1, atol=1e-4, err_msg=name)


def test_one_training_molecule_and_no_test_molecules():
    for one in fit_baselines(["CCO"], [2.0], ["CCN"], kind="molecule"):
        if one.available:
            np.testing.assert_allclose(one.predictions, [2.0])
    for one in fit_baselines(["CCO", "CCN"], [2.0, 3.0], [], kind="molecule"):
        if one.available:
            assert one.predictions.shape == (0,)


def test_three_classes_one_of_which_training_lacks():
    y = np.where(LOG_S > -3, 0.0, 2.0)
    found = fit(ESOL, y, OWN, task="classification", n_classes=3)
    for name, one in found.items():
        assert one.predictions.shape == (60, 3)
        assert np.all(one.predictions[:, 1] == 0), name


def test_rare_classes_weigh_as_much_as_the_others():
    y = np.zeros(100)
    y[:4] = 1
    problem = Problem(y, np.ones(100), np.zeros(100, bool), None, "classification", 3, 0)
    weights = forest.balancing(problem, np.arange(100))
    assert weights[:4].sum() == pytest.approx(weights[4:].sum())
    assert weights.mean() == pytest.approx(1)


def test_censored_labels_are_counted():
    censor = np.zeros(120, int)
    censor[:5] = -1
    found = fit(ESOL, LOG_S, ["nearest_neighbour"], censor=censor)
    assert "5 censored labels taken at their bound" in found["nearest_neighbour"].note


# ---- features -------------------------------------------------------------------------------


def test_descriptors_are_rdkits_and_nothing_slow():
    names = descriptors.descriptor_names()
    assert len(names) > 180
    assert not {"qed", "Ipc", "BCUT2D_MWHI"} & set(names)
    table = descriptors.descriptors(ESOL[:5])
    functions = dict(Descriptors.descList)
    from rdkit import Chem

    for i in range(5):
        molecule = Chem.MolFromSmiles(ESOL[i])
        expected = [functions[name](molecule) for name in names]
        np.testing.assert_allclose(table[i], expected)


def test_several_processes_change_nothing(monkeypatch):
    expected = descriptors.descriptors(ESOL[:40])
    monkeypatch.setattr(descriptors, "_MANY", 10)
    monkeypatch.setattr(descriptors, "_SHARE", 9)
    _engine.set_num_threads(2)
    np.testing.assert_array_equal(descriptors.descriptors(ESOL[:40]), expected)


def test_a_descriptor_that_fails_or_explodes_does_no_harm(monkeypatch):
    def broken(molecule):
        if molecule.GetNumAtoms() > 5:
            raise ValueError("no charges for this element")
        return float("inf") if molecule.GetNumAtoms() > 4 else 1e300

    weight = ("MolWt", dict(Descriptors.descList)["MolWt"])
    monkeypatch.setattr(descriptors, "_functions", lambda: [("broken", broken), weight])
    found = fit(ESOL, LOG_S, ["descriptors_ridge"])["descriptors_ridge"]
    assert np.isfinite(found.predictions).all()
    assert "1 standardised descriptors" in found.note


def test_standardised_columns_are_finite_and_bounded(rng):
    table = rng.normal(3, 2, (100, 5))
    table[:, 1] = 7  # says nothing
    table[:, 2] = np.nan
    table[3, 3], table[4, 3], table[5, 3] = np.inf, np.nan, 1e9
    made = dense.Standardised().fit(table)
    columns = made.transform(table)
    assert columns.shape == (100, 3)
    np.testing.assert_allclose(columns.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(columns.std(axis=0), 1)
    other = made.transform(np.full((2, 5), 1e5))
    assert (other == dense.CLIP).all()
    assert np.isfinite(made.transform(np.full((1, 5), np.nan))).all()


def test_rows_of_a_table_are_computed_once(monkeypatch):
    asked = []

    def counted(smiles):
        asked.extend(smiles)
        return morgan_counts(smiles)

    from moltide.baselines import row_tables

    monkeypatch.setitem(row_tables._COMPUTED, "counts", counted)
    tables = MoleculeTables(ESOL[:30])
    few = tables.of("counts", np.array([5, 3, 9]))
    np.testing.assert_array_equal(
        few.toarray(), morgan_counts([ESOL[i] for i in (5, 3, 9)]).toarray()
    )
    order = np.random.default_rng(0).permutation(30)
    more = tables.of("counts", order)
    np.testing.assert_array_equal(more.toarray(), morgan_counts([ESOL[i] for i in order]).toarray())
    assert sorted(asked) == sorted(ESOL[:30])


# ---- limits ---------------------------------------------------------------------------------


def test_out_of_time_fewer_rows_are_fitted_and_said_to_be():
    smiles, y = ESOL * 4, np.tile(LOG_S, 4)
    limit = TimeLimit(0.001, 1.0)
    found = fit(smiles, y, parts=(600, 640), limit=limit)
    for name in ("morgan_forest", "morgan_boosting", "descriptors_ridge"):
        assert found[name].cut_short == "fitted to 250 of 600 training rows, drawn at random"
        assert found[name].cut_short in found[name].note
    whole = fit(ESOL, LOG_S, ["morgan_forest"], limit=TimeLimit(1000.0, 1.0))["morgan_forest"]
    assert whole.cut_short == ""


def test_out_of_memory_fewer_rows_are_fitted_and_said_to_be(monkeypatch):
    smiles, y = ESOL * 8, np.tile(LOG_S, 8)
    monkeypatch.setattr(forest, "TREES", 2)
    monkeypatch.setattr(boosting, "ROUNDS", 2)
    monkeypatch.setattr(_engine, "available_memory", lambda: 1000)
    names = ["morgan_forest", "morgan_boosting", "nearest_neighbour"]
    found = fit(smiles, y, names, parts=(1500, 1500))
    said = "fitted to 1,000 of 1,500 training rows, drawn at random, for lack of memory"
    assert found["morgan_forest"].cut_short == said
    assert found["morgan_boosting"].cut_short == said
    assert found["nearest_neighbour"].cut_short == ""
    assert limits.rows_in_memory(50_000, 0, 100) == 1000
    monkeypatch.setattr(_engine, "available_memory", lambda: 10_000_000)
    assert limits.rows_in_memory(50_000, 5000, 100) == 35_000


# ---- errors ---------------------------------------------------------------------------------


def test_bad_input_says_what_is_wrong():
    with pytest.raises(DataError, match="molecule 1: 'C1CC' is no SMILES"):
        fit_baselines(["C", "C1CC"], [1.0, 2.0], ["C"], kind="molecule", names=["morgan_forest"])
    with pytest.raises(ConfigError, match="unknown baseline 'ridge'; allowed: mean, morgan_forest"):
        fit_baselines(["C"], [1.0], ["C"], kind="molecule", names=["ridge"])
    with pytest.raises(ConfigError, match="kind is 'dna'; allowed: 'protein', 'molecule', 'rna'"):
        fit_baselines(["C"], [1.0], ["C"], kind="dna")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_curve_and_a_mean(kind):
    assert CURVE_BASELINE[kind] in NAMES_OF[kind]
    assert NAMES_OF[kind][0] == "mean"


# ---- RNA ------------------------------------------------------------------------------------


def rna(rng, n, low, high):
    """Sequences whose value is in their GC content and in how often GGA occurs."""
    sequences = []
    for _ in range(n):
        share = rng.uniform(0.2, 0.8)
        p = [(1 - share) / 2, share / 2, share / 2, (1 - share) / 2]
        sequences.append("".join(rng.choice(list("ACGU"), rng.integers(low, high), p=p)))
    gc = np.array([(s.count("G") + s.count("C")) / len(s) for s in sequences])
    motif = np.array([s.count("GGA") / len(s) for s in sequences])
    return sequences, 3 * gc + 40 * motif + 0.05 * rng.normal(size=n)


@pytest.mark.parametrize(("low", "high"), [(60, 61), (40, 120)], ids=["one length", "many"])
def test_baselines_of_rna(rng, low, high):
    sequences, y = rna(rng, 300, low, high)
    found = fit(sequences, y, None, (200, 200), kind="rna")
    assert tuple(found) == NAMES_OF["rna"]
    test = y[200:]
    for name in ("composition", "ridge", "ridge_kmers", "nearest_neighbour"):
        assert error(found[name], test) < error(found["mean"], test), name
    assert error(found["ridge_kmers"], test) < 0.7 * error(found["composition"], test)
    on = "one-hot" if high - low == 1 else "k-mers"
    assert found["ridge"].label == f"ridge on {on}"
    assert found["composition"].label == "ridge on GC content and length"


def test_composition_and_frequencies():
    np.testing.assert_allclose(
        composition(["GCGC", "AUGA", "A"]), [[1, np.log(4)], [0.25, np.log(4)], [0, 0]]
    )
    made = Frequencies().fit(["GCGC", "AUGA"])
    table = made.transform(["GCGC", "GCGCGCGC"])
    assert table.shape[1] == made.kmers_.n_columns_ + 1
    # Single letters are as frequent in both.
    np.testing.assert_allclose(table[0, :4], table[1, :4])
