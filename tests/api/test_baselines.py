"""The five baselines against brute force, scikit-learn on explicit features, published floors."""

from __future__ import annotations

import gzip
import io
from importlib import resources

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from moltide.baselines import BASELINE_NAMES, BaselineResult, fit_baselines, linear, neighbour
from moltide.baselines import fit as fit_module
from moltide.errors import ConfigError, DataError
from moltide.metrics import spearman

RESIDUES = "ACDEFGHIKL"


def variants(rng, n, length=24, rate=0.12, alphabet=RESIDUES):
    """n variants of one random parent."""
    parent = rng.choice(list(alphabet), length)
    out = []
    for _ in range(n):
        changed = rng.random(length) < rate
        out.append("".join(np.where(changed, rng.choice(list(alphabet), length), parent)))
    return out


def ragged(rng, n, low=15, high=30):
    return ["".join(rng.choice(list("ACDE"), rng.integers(low, high))) for _ in range(n)]


def labels(rng, sequences, noise=0.2):
    """An additive signal, as ridge on one-hot can learn."""
    weight = rng.normal(size=(max(map(len, sequences)), 128))
    clean = np.array([sum(weight[i, ord(c)] for i, c in enumerate(s)) for s in sequences])
    return clean / clean.std() + noise * rng.normal(size=len(sequences))


def explicit_one_hot(sequences):
    columns = sorted({(i, c) for s in sequences for i, c in enumerate(s)})
    return lambda texts: np.array([[t[i] == c for i, c in columns] for t in texts], float)


def only(name, *args, **options) -> BaselineResult:
    (result,) = fit_baselines(*args, names=[name], **options)
    return result


@pytest.mark.parametrize("rate", [0.05, 0.9], ids=["few entries a row", "many entries a row"])
@pytest.mark.parametrize("length", [24, 60])
def test_ridge_is_ridge_on_the_explicit_one_hot_table(rng, monkeypatch, rate, length):
    monkeypatch.setattr(fit_module, "SEQUENCE_PENALTIES", np.array([2.0]))
    sequences = variants(rng, 260, length, rate)
    train, test = sequences[:200], sequences[200:]
    y, weights = labels(rng, train), rng.uniform(0.5, 2.0, 200)
    weights /= weights.mean()
    table = explicit_one_hot(train)
    expected = Ridge(alpha=2.0).fit(table(train), y, sample_weight=weights).predict(table(test))
    result = only("ridge", train, y, test, weights=weights)
    assert result.label == "ridge on one-hot"
    np.testing.assert_allclose(result.predictions, expected, atol=2e-4)


def test_both_ridge_solvers_agree(rng, monkeypatch):
    sequences = variants(rng, 400, 60, 0.1)
    y = labels(rng, sequences[:300])
    found = {}
    for few in (0, 10**9):
        monkeypatch.setattr(linear, "FEW_ENTRIES", few)
        found[few] = only("ridge", sequences[:300], y, sequences[300:]).predictions
    np.testing.assert_allclose(found[0], found[10**9], atol=1e-3)


def test_logistic_ridge_is_logistic_regression_on_the_explicit_table(rng, monkeypatch):
    monkeypatch.setattr(fit_module, "LOGISTIC_PENALTIES", np.array([1.0]))
    sequences = variants(rng, 300, 12, 0.4)
    train, test = sequences[:240], sequences[240:]
    y = np.digitize(labels(rng, train), [-0.5, 0.5]).astype(float)
    table = explicit_one_hot(train)
    model = LogisticRegression(C=1.0, max_iter=3000, tol=1e-8).fit(table(train), y)
    result = only("ridge", train, y, test, task="classification", n_classes=3)
    np.testing.assert_allclose(result.predictions, model.predict_proba(table(test)), atol=0.02)
    assert result.label == "logistic ridge on one-hot"


def test_the_penalty_is_the_best_on_the_validation_rows(rng):
    sequences = variants(rng, 300)
    y = labels(rng, sequences, noise=1.5)
    train, valid, test = sequences[:150], sequences[150:250], sequences[250:]
    table = explicit_one_hot(train)
    errors = {
        penalty: np.mean(
            (Ridge(alpha=penalty).fit(table(train), y[:150]).predict(table(valid)) - y[150:250])
            ** 2
        )
        for penalty in fit_module.SEQUENCE_PENALTIES
    }
    result = only("ridge", train, y[:150], test, valid_sequences=valid, y_valid=y[150:250])
    assert result.settings["penalty"] == pytest.approx(min(errors, key=errors.get))
    assert "100 validation rows" in result.note
    assert "train + validation (250 rows)" in result.note
    # The final fit has the validation rows too.
    both = explicit_one_hot(train + valid)
    model = Ridge(alpha=result.settings["penalty"]).fit(both(train + valid), y[:250])
    np.testing.assert_allclose(result.predictions, model.predict(both(test)), atol=1e-3)


def test_few_validation_rows_leave_the_choice_to_cross_validation(rng):
    sequences = variants(rng, 120)
    y = labels(rng, sequences)
    result = only(
        "ridge", sequences[:80], y[:80], sequences[100:],
        valid_sequences=sequences[80:100], y_valid=y[80:100],
    )  # fmt: skip
    assert "5-fold cross-validation" in result.note


def test_ridge_of_fewer_rows_than_columns(rng, monkeypatch):
    monkeypatch.setattr(linear, "FEW_ENTRIES", 0)
    monkeypatch.setattr(fit_module, "SEQUENCE_PENALTIES", np.array([0.5]))
    monkeypatch.setattr(linear._Moments, "of", None)  # sums over columns are not asked for
    sequences = variants(rng, 90, 60, 0.5)
    table, y, weights = explicit_one_hot(sequences[:60]), rng.normal(size=60), rng.uniform(1, 2, 60)
    found = only("ridge", sequences[:60], y, sequences[60:], weights=weights)
    model = Ridge(alpha=0.5).fit(table(sequences[:60]), y, sample_weight=weights / weights.mean())
    np.testing.assert_allclose(found.predictions, model.predict(table(sequences[60:])), atol=1e-8)


@pytest.mark.parametrize("n_valid", [0, 12, 60])
def test_ridge_sums_every_row_once_whatever_is_chosen_by(rng, monkeypatch, n_valid):
    monkeypatch.setattr(linear, "FEW_ENTRIES", 0)
    sequences = variants(rng, 160, 6, 0.9)
    table, y = explicit_one_hot(sequences), rng.normal(size=160)
    at = 160 - n_valid
    summed = []
    real = linear._Moments.of.__func__
    counted = classmethod(lambda cls, x, *rest: summed.append(len(rest[0])) or real(cls, x, *rest))
    monkeypatch.setattr(linear._Moments, "of", counted)
    held = {"valid_sequences": sequences[at:], "y_valid": y[at:]} if n_valid else {}
    result = only("ridge", sequences[:at], y[:at], sequences[:40], **held)
    assert sum(summed) == 160
    penalty = result.settings["penalty"]
    model = Ridge(alpha=penalty).fit(table(sequences), y)
    np.testing.assert_allclose(result.predictions, model.predict(table(sequences[:40])), atol=1e-8)
    if n_valid:
        alone = Ridge(alpha=penalty).fit(table(sequences[:at]), y[:at])
        expected = alone.predict(table(sequences[at:]))
        np.testing.assert_allclose(result.valid_predictions, expected, atol=1e-8)


@pytest.mark.parametrize("name", ["mean", "ridge", "nearest_neighbour", "ridge_embeddings"])
def test_validation_predictions_have_not_seen_validation_labels(rng, monkeypatch, name):
    monkeypatch.setattr(fit_module, "SEQUENCE_PENALTIES", np.array([1.0]))
    monkeypatch.setattr(fit_module, "EMBEDDING_PENALTIES", np.array([1.0]))
    monkeypatch.setattr(neighbour, "NEIGHBOURS", (3,))
    sequences = variants(rng, 200)
    y = labels(rng, sequences)

    def predictions(held):
        found = only(
            name, sequences[:100], y[:100], sequences[160:],
            valid_sequences=sequences[100:160], y_valid=held, embed=letter_counts,
        )  # fmt: skip
        return found

    first, second = predictions(y[100:160]), predictions(-5 * y[100:160] + 3)
    assert first.valid_predictions.shape == (60,)
    np.testing.assert_array_equal(first.valid_predictions, second.valid_predictions)
    assert not np.allclose(first.predictions, second.predictions)


def letter_counts(sequences):
    return np.array([[s.count(c) for c in RESIDUES] for s in sequences], float)


def brute_force_neighbours(train, y, queries, size, distance, weights=None):
    weights = np.ones(len(train)) if weights is None else weights
    out = []
    for query in queries:
        d = np.array([distance(query, s) for s in train], float)
        used = d <= np.sort(d)[size - 1]
        w = weights[used] / (d[used] + 0.5)
        out.append(w @ y[used] / w.sum())
    return np.array(out)


def hamming(a, b):
    return sum(x != y for x, y in zip(a, b, strict=True))


def kmer_distance(a, b):
    words = {t[i : i + k] for t in (a, b) for k in (1, 2, 3) for i in range(len(t) - k + 1)}
    count = lambda t, w: sum(t[i : i + len(w)] == w for i in range(len(t)))  # noqa: E731
    return 0.5 * sum((count(a, w) - count(b, w)) ** 2 for w in words)


@pytest.mark.parametrize("block", [16_000_000, 700])
@pytest.mark.parametrize("rate", [0.05, 0.9], ids=["sparse product", "dense product"])
@pytest.mark.parametrize("size", [1, 3, 10])
def test_neighbours_by_hamming_distance_with_ties(rng, monkeypatch, block, rate, size):
    monkeypatch.setattr(neighbour, "NEIGHBOURS", (size,))
    monkeypatch.setattr(neighbour, "_BLOCK", block)
    sequences = variants(rng, 150, 20, rate)
    train, test = sequences[:120], [*sequences[120:], sequences[0]]
    y, weights = rng.normal(size=120), rng.uniform(0.5, 2.0, 120)
    result = only("nearest_neighbour", train, y, test, weights=weights)
    expected = brute_force_neighbours(train, y, test, size, hamming, weights)
    np.testing.assert_allclose(result.predictions, expected, atol=1e-5)
    assert "Hamming" in result.note


def test_neighbours_of_ragged_sequences_go_by_kmers(rng, monkeypatch):
    monkeypatch.setattr(neighbour, "NEIGHBOURS", (3,))
    train, test = ragged(rng, 60), ragged(rng, 15)
    y = rng.normal(size=60)
    result = only("nearest_neighbour", train, y, test)
    # Every k-mer of the test rows has to be known, or it is counted with the other unknown ones.
    known = {t[i : i + k] for t in train for k in (1, 2, 3) for i in range(len(t) - k + 1)}
    asked = {t[i : i + k] for t in test for k in (1, 2, 3) for i in range(len(t) - k + 1)}
    assert asked <= known
    expected = brute_force_neighbours(train, y, test, 3, kmer_distance)
    np.testing.assert_allclose(result.predictions, expected, atol=1e-5)


def test_row_order_does_not_matter_to_neighbours(rng):
    sequences = variants(rng, 150, 15, 0.1)
    y, order = rng.normal(size=120), rng.permutation(120)
    a = only("nearest_neighbour", sequences[:120], y, sequences[120:])
    shuffled = [sequences[i] for i in order]
    b = only("nearest_neighbour", shuffled, y[order], sequences[120:])
    np.testing.assert_allclose(a.predictions, b.predictions, atol=1e-9)


def test_a_residue_never_seen_in_training_counts_as_a_difference(rng, monkeypatch):
    monkeypatch.setattr(neighbour, "NEIGHBOURS", (1,))
    train = ["AAAA", "AACC", "CCCC"]
    result = only("nearest_neighbour", train, [0.0, 1.0, 2.0], ["AAWA", "WCCC", "CCWW"])
    np.testing.assert_allclose(result.predictions, [0.0, 2.0, 2.0])


def test_ragged_sequences_get_kmers_that_find_a_motif(rng):
    train, test = ragged(rng, 300), ragged(rng, 100)
    y, truth = ([float(s.count("AC")) for s in part] for part in (train, test))
    result = only("ridge", train, y, test)
    assert result.label == "ridge on k-mers"
    np.testing.assert_allclose(result.predictions, truth, atol=0.02)


def test_too_many_columns_are_cut_to_the_most_variable(rng, monkeypatch):
    monkeypatch.setattr(linear, "MAX_COLUMNS", 40)
    train, test = ragged(rng, 200), ragged(rng, 50)
    y, truth = ([float(s.count("A")) for s in part] for part in (train, test))
    result = only("ridge", train, y, test)
    assert "the 40 most variable of" in result.note
    assert spearman(truth, result.predictions) > 0.9


def test_ridge_on_embeddings(rng, monkeypatch):
    monkeypatch.setattr(fit_module, "EMBEDDING_PENALTIES", np.array([3.0]))
    sequences = variants(rng, 150)
    train, test = sequences[:120], sequences[120:]
    y = labels(rng, train)
    asked = []

    def embed(texts):
        asked.extend(texts)
        return letter_counts(texts)

    result = only("ridge_embeddings", train, y, test, embed=embed)
    assert asked == sequences  # in one call: the encoder batches as it likes
    table = letter_counts(sequences)
    spread = table[:120].std(axis=0)
    table = (table - table[:120].mean(axis=0)) / np.where(spread > 0, spread, 1)
    expected = Ridge(alpha=3.0).fit(table[:120], y).predict(table[120:])
    np.testing.assert_allclose(result.predictions, expected, atol=1e-8)
    with pytest.raises(DataError, match=r"\(2, 3\), expected \(150, C\)"):
        only("ridge_embeddings", train, y, test, embed=lambda texts: np.zeros((2, 3)))


def test_mean_and_class_frequencies(rng):
    train, test = variants(rng, 40), variants(rng, 7)
    y, weights = rng.normal(size=40), rng.uniform(0.1, 3, 40)
    result = only("mean", train, y, test, weights=weights)
    np.testing.assert_allclose(result.predictions, np.full(7, np.average(y, weights=weights)))
    y = np.repeat([0.0, 2.0], [30, 10])
    result = only("mean", train, y, test, task="classification", n_classes=3)
    np.testing.assert_allclose(result.predictions, np.tile([0.75, 0, 0.25], (7, 1)))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_zero_shot_keeps_its_order_even_against_the_labels(rng, sign):
    sequences = variants(rng, 120)
    score = {s: float(v) for s, v in zip(sequences, rng.normal(size=120), strict=True)}
    values = np.array([score[s] for s in sequences])
    y = 10 + 2 * sign * values + 0.1 * rng.normal(size=120)
    result = only(
        "zero_shot", sequences[:80], y[:80], sequences[100:],
        valid_sequences=sequences[80:100], y_valid=y[80:100],
        zero_shot=lambda texts: [score[s] for s in texts],
    )  # fmt: skip
    assert spearman(values[100:], result.predictions) == pytest.approx(1.0)
    assert spearman(values[80:100], result.valid_predictions) == pytest.approx(1.0)
    assert ("runs against" in result.note) == (sign < 0)
    if sign > 0:
        assert np.sqrt(np.mean((result.predictions - y[100:]) ** 2)) < 0.3


def test_zero_shot_of_two_classes_gives_probabilities(rng):
    sequences = variants(rng, 120)
    score = {s: float(v) for s, v in zip(sequences, rng.normal(size=120), strict=True)}
    values = np.array([score[s] for s in sequences])
    y = (values + 0.5 * rng.normal(size=120) > 0.8).astype(float)
    result = only(
        "zero_shot", sequences[:80], y[:80], sequences[80:], task="classification", n_classes=2,
        zero_shot=lambda t: [score[s] for s in t],
    )  # fmt: skip
    np.testing.assert_allclose(result.predictions.sum(axis=1), 1)
    assert spearman(values[80:], result.predictions[:, 1]) == pytest.approx(1.0)
    assert result.predictions[:, 1].mean() == pytest.approx(y[:80].mean(), abs=0.15)


def test_what_is_not_available_says_why(rng):
    sequences = variants(rng, 30)
    y = rng.normal(size=20)
    results = fit_baselines(
        sequences[:20], y, sequences[20:], embed="the encoder did not fit", zero_shot=None
    )
    assert [one.name for one in results] == list(BASELINE_NAMES)
    found = {one.name: one for one in results}
    assert found["ridge_embeddings"].predictions is None
    assert not found["ridge_embeddings"].available
    assert found["ridge_embeddings"].note == "the encoder did not fit"
    assert "wild type" in found["zero_shot"].note
    classes = np.arange(20) % 3
    (result,) = fit_baselines(
        sequences[:20], classes, sequences[20:], task="classification", names=["zero_shot"],
        zero_shot=lambda t: np.zeros(len(t)),
    )  # fmt: skip
    assert result.predictions is None
    assert "3 classes" in result.note


def test_several_targets_are_fitted_one_at_a_time_around_missing_values(rng):
    sequences = variants(rng, 200)
    y = np.stack([labels(rng, sequences), labels(rng, sequences)], axis=1)
    y[rng.random((200, 2)) < 0.3] = np.nan
    options = {"embed": letter_counts, "zero_shot": lambda t: letter_counts(t)[:, 0]}
    both = fit_baselines(sequences[:150], y[:150], sequences[150:], **options)
    for one in both:
        assert one.predictions.shape == (50, 2)
    for j in range(2):
        kept = ~np.isnan(y[:150, j])
        train = [s for s, keep in zip(sequences[:150], kept, strict=True) if keep]
        for one in both:
            if one.name in ("ridge_embeddings", "ridge"):
                continue  # their features are those of all rows, so folds and scaling differ
            alone = only(one.name, train, y[:150, j][kept], sequences[150:], **options)
            if one.name == "nearest_neighbour":
                assert one.for_target(j).settings["neighbours"] == alone.settings["neighbours"]
            np.testing.assert_allclose(one.for_target(j).predictions, alone.predictions, atol=1e-6)


def test_several_classification_targets(rng):
    sequences = variants(rng, 160)
    y = np.stack([labels(rng, sequences) > 0, labels(rng, sequences) > 0.5], axis=1).astype(float)
    y[::7, 0] = np.nan
    results = fit_baselines(
        sequences[:100], y[:100], sequences[130:], task="classification", n_classes=2,
        valid_sequences=sequences[100:130], y_valid=y[100:130], embed=letter_counts,
        zero_shot=lambda t: letter_counts(t)[:, 0],
    )  # fmt: skip
    for one in results:
        assert one.predictions.shape == (30, 2, 2)
        assert one.valid_predictions.shape == (30, 2, 2)
        np.testing.assert_allclose(one.predictions.sum(axis=2), 1, atol=1e-9)
        assert one.predictions.min() >= 0
        assert one.for_target(1).predictions.shape == (30, 2)
        assert one.for_target(1).note


def test_a_class_that_training_lacks_has_probability_zero_or_its_pseudo_count(rng):
    sequences = variants(rng, 60)
    y = np.where(np.arange(50) % 2, 0.0, 2.0)
    for one in fit_baselines(
        sequences[:50], y, sequences[50:], task="classification", n_classes=4, embed=letter_counts
    ):
        if one.available:
            assert one.predictions.shape == (10, 4)
            assert np.all(one.predictions[:, [1, 3]] == 0)


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_labels_that_are_all_equal_are_predicted(rng, task):
    sequences = variants(rng, 40)
    for one in fit_baselines(
        sequences[:30], np.ones(30), sequences[30:], task=task, n_classes=2, embed=letter_counts,
        zero_shot=lambda t: letter_counts(t)[:, 0],
    ):  # fmt: skip
        got = one.predictions if task == "regression" else one.predictions[:, 1]
        np.testing.assert_allclose(got, 1, atol=1e-4)


def test_one_training_row_and_no_test_rows_are_allowed(rng):
    (sequence, other) = variants(rng, 2)
    for one in fit_baselines([sequence], [2.0], [other], embed=letter_counts):
        if one.available:
            np.testing.assert_allclose(one.predictions, [2.0])
    for one in fit_baselines([sequence, other], [2.0, 3.0], [], embed=letter_counts):
        if one.available:
            assert one.predictions.shape == (0,)


def test_censored_labels_are_counted_in_the_notes(rng):
    sequences = variants(rng, 40)
    censor = np.zeros(30, int)
    censor[[2, 5]] = 1
    for one in fit_baselines(sequences[:30], np.arange(30.0), sequences[30:], censor=censor):
        assert ("2 censored labels taken at their bound" in one.note) == one.available


def test_groups_stay_together_in_cross_validation(rng):
    y = np.arange(40.0)
    groups = np.repeat(np.arange(8), 5)
    problem = linear.Problem(y, np.ones(40), np.zeros(40, bool), groups, "regression", 0, 0)
    pairs, _ = problem.choices()
    assert len(pairs) == 5
    assert sorted(np.concatenate([check for _, check in pairs])) == list(range(40))
    for fit, check in pairs:
        assert not set(groups[fit]) & set(groups[check])


def test_features_that_say_nothing_about_the_test_rows_are_owned_up_to():
    train = ["AAAA", "CAAA", "DAAA", "ACAA", "ADAA"] * 4
    results = fit_baselines(train, np.arange(20.0), ["AAAC", "AAAD", "AAAE"])
    for one in results[1:4:2]:
        assert one.predictions[0] == pytest.approx(one.predictions[2])
        assert one.note.endswith("; the same prediction for every test row")
    assert "same prediction" not in results[0].note


def test_progress_and_names(rng):
    sequences = variants(rng, 40)
    heard = []
    results = fit_baselines(
        sequences[:30], np.arange(30.0), sequences[30:], names=["nearest_neighbour", "mean"],
        progress=lambda *told: heard.append(told),
    )  # fmt: skip
    assert [one.name for one in results] == ["mean", "nearest_neighbour"]
    assert [told[:2] for told in heard] == [(0, 2), (1, 2), (2, 2)]
    with pytest.raises(ConfigError, match="unknown baseline 'rigde'; allowed: mean, ridge"):
        fit_baselines(sequences[:30], np.arange(30.0), sequences[30:], names=["rigde"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y_train": np.arange(5.0)}, "y_train has 5 rows for 10 training sequences"),
        ({"y_train": np.full(10, np.nan)}, "target 0 has no measured value among 10"),
        ({"weights": np.ones(3)}, r"weights have shape \(3,\), expected \(10,\)"),
        ({"valid_sequences": ["AAAA"], "y_valid": [[1.0, 2.0]]}, "y_valid has 2 targets"),
        ({"zero_shot": lambda t: [0.0]}, "zero_shot returned 1 scores for 12 sequences"),
        ({"train_sequences": [], "y_train": np.zeros(0)}, "at least one training row"),
    ],
)
def test_bad_input_says_what_is_wrong(change, message):
    given = {
        "train_sequences": ["AAAA"] * 5 + ["AACA"] * 5,
        "y_train": np.arange(10.0),
        "test_sequences": ["CCCC", "AAAA"],
    }
    with pytest.raises(DataError, match=message):
        fit_baselines(**(given | change))
    with pytest.raises(ConfigError, match="task is 'ranking'"):
        fit_baselines(**given, task="ranking")


# Spearman of ridge on one-hot, test part, fitted on train + validation: the row FLIP publishes.
FLOORS = {
    "one_vs_rest": 0.28,
    "two_vs_rest": 0.59,
    "three_vs_rest": 0.76,
    "low_vs_high": 0.34,
    "sampled": 0.79,
}


@pytest.mark.parametrize("split", FLOORS)
def test_ridge_reaches_its_published_floor_on_gb1(split):
    path = resources.files("moltide") / "bundled" / "assays" / "gb1_flip.csv.gz"
    table = pd.read_csv(io.BytesIO(gzip.decompress(path.read_bytes())))
    train, valid, test = (table[table[split] == part] for part in ("train", "valid", "test"))
    result = only(
        "ridge", train.sequence.tolist(), train.target.to_numpy(), test.sequence.tolist(),
        valid_sequences=valid.sequence.tolist(), y_valid=valid.target.to_numpy(),
    )  # fmt: skip
    assert spearman(test.target, result.predictions) == pytest.approx(FLOORS[split], abs=0.016)
