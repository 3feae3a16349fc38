"""The line that brings outputs to the scale of the measurements."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import moltide as mt
from moltide.assay_model.recalibration import Recalibration
from moltide.metrics import regression_metrics

TINY = Path(__file__).parent.parent / "data" / "esm2_tiny_random"


def outputs_and_targets(m: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two targets; the outputs of the first lie twice too far from their mean, and beside it."""
    rng = np.random.default_rng(seed)
    known = rng.standard_normal((m, 2))
    targets = known + 0.3 * rng.standard_normal((m, 2))
    return known * [2.0, 1.0] + [0.5, 0.0], targets


def rmse(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean((a - b) ** 2)))


def test_too_wide_outputs_come_back_and_keep_their_ranks():
    line = Recalibration.fit(*outputs_and_targets(500), None, [0, 1])
    assert line.slope == pytest.approx([0.5, 1.0], abs=0.08)
    assert line.offset == pytest.approx([-0.25, 0.0], abs=0.08)
    outputs, targets = outputs_and_targets(300, seed=1)
    straight = line(outputs)
    assert rmse(straight[:, 0], targets[:, 0]) < 0.4 < 1.0 < rmse(outputs[:, 0], targets[:, 0])
    assert (np.argsort(straight, axis=0) == np.argsort(outputs, axis=0)).all()


def test_few_rows_change_little():
    outputs, targets = outputs_and_targets(4)
    line = Recalibration.fit(outputs, targets, None, [0, 1])
    assert line.slope == pytest.approx([1.0, 1.0], abs=0.2)
    alone = Recalibration.fit(outputs[:1], targets[:1], None, [0, 1])
    assert (alone.slope == 1).all()
    assert (alone.offset == 0).all()


def test_rows_from_a_part_of_the_scale_say_less():
    outputs, targets = outputs_and_targets(2000)
    middle = np.abs(targets[:, 0]) < 0.4
    line = Recalibration.fit(outputs[middle], targets[middle], None, [0, 1])
    by_least_squares = np.polyfit(outputs[middle, 0], targets[middle, 0], 1)[0]
    assert by_least_squares < 0.25
    assert line.slope[0] > 0.5


def test_outputs_that_hardly_differ_are_not_drawn_out():
    outputs, targets = outputs_and_targets(200)
    line = Recalibration.fit(1e-3 * outputs, targets, None, [0, 1])
    assert (line.slope <= 2).all()


def test_outputs_against_the_measurements_keep_their_ranks():
    outputs, targets = outputs_and_targets(200)
    line = Recalibration.fit(-outputs, targets, None, [0, 1])
    assert (line.slope > 0).all()


def test_what_is_no_number_or_not_measured_stays():
    outputs, targets = outputs_and_targets(200)
    line = Recalibration.fit(outputs, targets, None, [1])
    assert (line.slope[0], line.offset[0]) == (1, 0)
    targets[:, 0] = np.nan
    line = Recalibration.fit(outputs, targets, None, [0, 1])
    assert (line.slope[0], line.offset[0]) == (1, 0)


def test_bounds_leave_a_target_as_it_is():
    outputs, targets = outputs_and_targets(200)
    censor = np.zeros(targets.shape, np.int8)
    censor[:20, 0] = 1
    line = Recalibration.fit(outputs, targets, censor, [0, 1])
    assert (line.slope[0], line.offset[0]) == (1, 0)
    assert line.slope[1] != 1


def test_a_loss_of_ranks_gets_a_scale():
    outputs, targets = outputs_and_targets(200)
    censor = np.zeros(targets.shape, np.int8)
    censor[:20, 0] = 1
    line = Recalibration.fit(40 * outputs + 7, targets, censor, [0, 1], ranks_only=True)
    assert rmse(line(40 * outputs + 7), targets) < 0.4


@pytest.mark.parametrize("loss", ["auto", "ranking"])
def test_predictions_lie_on_the_scale_of_the_assay(loss, tmp_path):
    rng = np.random.default_rng(0)
    sequences = ["".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), 24)) for _ in range(300)]
    y = 50 + 10 * np.array([s.count("W") + s.count("K") for s in sequences]) + rng.normal(0, 3, 300)
    model = mt.AssayRegressor(
        backbone=str(TINY), adapter="full", loss=loss, epochs=4, validation_fraction=0.3
    )
    model.fit(sequences[:250], y[:250])
    line = model.model_.recalibration
    assert line is not None
    assert line.slope[0] > 0
    found = model.predict(sequences[250:])
    assert regression_metrics(y[250:], found)["rmse"] < 1.1 * y.std()
    model.save(tmp_path / "run")
    again = mt.load_assay_model(tmp_path / "run")
    np.testing.assert_array_equal(again.predict(sequences[250:]), found)
    np.testing.assert_array_equal(again.model_.recalibration.slope, line.slope)
