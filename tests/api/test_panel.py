"""Thresholds as people write them, lights, probabilities and order; what a file comes to."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from moltide.assay_model import ModelSpec, Prediction
from moltide.assay_model.class_sets import ClassSets
from moltide.assay_model.distribution import percentile, quantiles
from moltide.assay_model.spec import TargetScaling
from moltide.errors import ConfigError
from moltide.panel import PanelView, Tally, Threshold, matched, read_thresholds

SPEC = ModelSpec("mixed", "sequence", ("hERG", "logS", "Ames"), (), ((), (), ("0", "1")))


def rules(text: str) -> list[str]:
    return [str(one) for one in read_thresholds(text)]


def test_rules_between_commas() -> None:
    given = "hERG<5, logS >= -4,Ames=0 ,logS<1"
    assert rules(given) == ["hERG < 5", "-4 < logS < 1", "Ames = 0"]
    assert rules("a b (nM)<1e3") == ["a b (nM) < 1000"]
    again = [Threshold.from_dict(one.to_dict()) for one in read_thresholds(given)]
    assert again == read_thresholds(given)


@pytest.mark.parametrize(
    "text",
    [
        "endpoint,above,below,class,weight\nhERG,,5,,2\nlogS,-4,1,,\nAmes,,,0,\n",
        "Endpoint\tmin\tmax\tclass\tweight\nhERG\t\t5\t\t2\nlogS\t-4\t1\t\t\n\nAmes\t\t\t0\t\n",
        "rule,weight\nhERG<5,2\nlogS>-4,\nlogS<1,\nAmes=0,\n",
        "target,threshold,weight\nhERG,<5,2\nlogS,>-4,\nlogS,<1,\nAmes,=0,\n",
    ],
)
def test_rules_in_a_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "thresholds.csv"
    path.write_text(text)
    found = read_thresholds(path)
    assert [str(one) for one in found] == ["hERG < 5", "-4 < logS < 1", "Ames = 0"]
    assert [one.weight for one in found] == [2, 1, 1]
    assert read_thresholds(str(path)) == found


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "no rule in ''; write rules such as"),
        ("hERG", "'hERG' is no rule"),
        ("hERG<five", "'hERG<five': 'five' is no number"),
        ("hERG<nan", "'nan' is no number"),
        ("a<1,a>2", "no value of 'a' meets a < 1 and a > 2"),
        ("a=1,a=2", "two rules for 'a', a = 1 and a = 2"),
    ],
)
def test_bad_rules_are_named(given: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_thresholds(given)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,limit\na,3\n", "row 2: nothing is wanted of 'a'"),
        ("value,limit\na,3\n", "no column 'endpoint' .*columns: value, limit"),
        ("endpoint,below\na,x\n", "row 2: 'x' is no number"),
        ("endpoint,below\n,3\n", "row 2: no endpoint"),
        ("endpoint,above,below\na,3,3\n", "row 2: no number is above 3 and below 3"),
        ("endpoint,below,class\na,3,yes\n", "row 2: 'a' has a class and a number"),
        ("endpoint,below,weight\na,3,-1\n", "row 2: weight is -1; allowed: above 0"),
        ("rule\na<1\nb\n", "row 3: 'b' is no rule"),
    ],
)
def test_bad_files_are_named_by_row(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "thresholds.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"thresholds\.csv.*{message}"):
        read_thresholds(path)
    with pytest.raises(FileNotFoundError):
        read_thresholds(str(tmp_path / "none.csv"))


def test_thresholds_find_their_targets() -> None:
    found = matched(read_thresholds("Ames=0,hERG<5"), SPEC)
    assert {j: str(one) for j, one in found.items()} == {0: "hERG < 5", 2: "Ames = 0"}
    for given, message in (
        ("herg<5", r"no endpoint 'herg'; did you mean 'hERG'\? \(endpoints: hERG, logS, Ames\)"),
        ("Ames<0.5", "'Ames' is of classes; say which one is wanted, Ames=0 or Ames=1"),
        ("Ames=no", "'Ames' has no class 'no'; its classes: 0, 1"),
        ("hERG=5", "'hERG' is a number; write hERG<5 or hERG>5"),
    ):
        with pytest.raises(ConfigError, match=message):
            matched(read_thresholds(given), SPEC)


def model(**values: Any) -> Any:
    """What a panel asks of a model: residuals of 99 validation rows, 0.01 to 0.99 SDs."""
    residuals = np.arange(1, 100) / 100
    defaults = {
        "spec": SPEC,
        "uncertainty": SimpleNamespace(residuals=[residuals, residuals, np.zeros(0)]),
        "scaling": TargetScaling(np.zeros(3), np.ones(3)),
        "distribution": quantiles(np.tile(np.arange(101.0)[:, None], (1, 3)), [0, 1]),
    }
    return SimpleNamespace(**{**defaults, **values})


def prediction(values: list[list[float]], notes: list[str] | None = None) -> Prediction:
    """Of hERG, logS and the probability of Ames 1; std 1, intervals of +-0.9, sets by 0.2."""
    table = np.array(values)
    n = len(table)
    std = np.ones((n, 3))
    std[:, 2] = np.nan
    shares = np.full((n, 3, 2), np.nan)
    shares[:, 2, 1] = table[:, 2]
    shares[:, 2, 0] = 1 - table[:, 2]
    sets = np.nan_to_num(shares) > 0.2
    return Prediction(
        table, shares, std, table - 0.9 * std, table + 0.9 * std, sets, notes or [""] * n
    )


def test_a_light_takes_the_whole_interval_to_be_green_or_red() -> None:
    view = PanelView(model(), matched(read_thresholds("hERG<5,logS>-4,logS<1,Ames=0"), SPEC))
    found = prediction(
        [
            [4.0, -1.0, 0.1],  # all of every interval
            [4.2, 0.2, 0.5],  # 3.3 to 5.1, -0.7 to 1.1, both classes
            [6.0, 2.0, 0.9],
            [5.9, -5.0, 0.1],  # from 5.0 on
            [4.0, -1.0, 0.1],
        ],
        ["", "", "", "", "unlike any training sequence"],
    )
    seen = view.look(found, 0.9)
    assert seen.lights[0] == ["green", "amber", "red", "red", "grey"]
    assert seen.lights[1] == ["green", "amber", "red", "red", "grey"]
    assert seen.lights[2] == ["green", "amber", "red", "green", "grey"]
    assert seen.liabilities(0, SPEC.target_names) == ""
    # The least likely first: 9 of 99 residuals are as large as 0.9 SD, and half of them below.
    assert seen.liabilities(3, SPEC.target_names) == "logS red 0%; hERG red 5%"
    assert seen.liabilities(4, SPEC.target_names).startswith("Ames grey 90%")
    found.target_notes = {1: ["", "unlike", "", "", ""]}
    assert view.look(found, 0.9).lights[1] == ["green", "grey", "red", "red", "grey"]
    # Of equal scores that in the training domain comes first.
    assert seen.overall[0] == seen.overall[4]
    assert seen.order[0].tolist() > seen.order[4].tolist()


def test_probabilities_come_from_the_residuals() -> None:
    thresholds = matched(read_thresholds("hERG<5"), SPEC)
    seen = PanelView(model(), thresholds).look(prediction([[4.5, 0, 0], [5.0, 0, 0]]), 0.9)
    assert seen.order[:, 1].tolist() == [0.5, 0.0]
    # Half an SD below: 50 of 99 residuals are as large, half of them on that side.
    np.testing.assert_allclose(seen.meets[0], [1 - 0.5 * 51 / 100, 0.5])
    between = matched(read_thresholds("hERG<5,hERG>4"), SPEC)
    both = PanelView(model(), between).look(prediction([[4.5, 0, 0]]), 0.9)
    np.testing.assert_allclose(both.meets[0], 2 * seen.meets[0][:1] - 1)
    weighted = [Threshold("hERG", below=5, weight=3), Threshold("Ames", wanted="0")]
    product = PanelView(model(), matched(weighted, SPEC)).look(prediction([[4.5, 0, 0.3]]), 0.9)
    np.testing.assert_allclose(product.overall, seen.meets[0][:1] ** 3 * 0.7)


def test_without_intervals_nothing_is_sure() -> None:
    thresholds = matched(read_thresholds("hERG<5,Ames=0"), SPEC)
    found = prediction([[0.0, 0.0, 0.01]])
    found.std = found.low = found.high = found.sets = None
    seen = PanelView(model(uncertainty=None), thresholds).look(found, 0.9)
    assert seen.lights == {0: ["amber"], 2: ["amber"]}
    assert np.isnan(seen.meets[0][0])
    np.testing.assert_allclose(seen.overall, 0.5 * 0.99)
    assert seen.liabilities(0, SPEC.target_names) == "hERG amber; Ames amber 99%"


def test_percentiles_where_nothing_is_wanted() -> None:
    found = prediction([[50.0, 0.0, 0.5], [200.0, 100.0, 0.5], [300.0, 100.0, 0.5]])
    seen = PanelView(model(), {}).look(found, 0.9)
    assert seen.lights == {}
    np.testing.assert_allclose(seen.percentiles[0], [50, 100, 100], atol=0.1)
    np.testing.assert_allclose(seen.overall[0], (50 + 0.05 + 50) / 3, atol=0.1)
    # Beyond all training values the value itself decides.
    assert seen.order[1][0] == seen.order[2][0]
    assert seen.order[1].tolist() < seen.order[2].tolist()
    lowest = PanelView(model(), {}, ascending=True).look(found, 0.9)
    assert np.array_equal(lowest.order, -seen.order)
    assert not PanelView(model(distribution=None), {}).can_rank


def test_quantiles_are_of_measured_values() -> None:
    values = np.array([[1.0, 0], [np.nan, 1], [2, 0], [3, 1], [4, 0]])
    table = quantiles(values, [0])
    assert np.isnan(table[1]).all()
    np.testing.assert_allclose(percentile(table, 0, np.array([0.0, 2.5, 9.0])), [0, 50, 100])


def test_sets_hold_each_class_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        labels = (rng.random(n) < 0.1).astype(float)  # a rare class
        score = rng.normal(labels, 1.0)
        share = 1 / (1 + np.exp(-(score - 2)))
        return np.stack([1 - share, share], axis=1)[:, None], labels[:, None]

    sets = ClassSets.fit(*draw(2000))
    shares, labels = draw(20000)
    possible = sets.possible(shares, 0.9)
    for c in (0, 1):
        held = possible[labels[:, 0] == c, 0, c].mean()
        assert 0.87 < held < 0.94
    assert sets.suffices(0, 0.9)
    again = ClassSets.from_arrays(sets.arrays())
    assert np.array_equal(again.possible(shares, 0.8), sets.possible(shares, 0.8))
    few = ClassSets.fit(shares[:8], labels[:8])
    assert not few.suffices(0, 0.9)
    assert few.possible(shares, 0.9)[:, 0, int(labels[:8].max() == 0)].all()


def test_a_tally_counts_lights_values_and_reasons() -> None:
    thresholds = matched(read_thresholds("hERG<5"), SPEC)
    tally = Tally.begin(model(), thresholds)
    for number, (value, light, domain) in enumerate(
        [("3", "green", "yes"), ("1000", "red", "no"), ("", "", "")], 2
    ):
        note = "" if domain else "not predicted: '1' at position 3 is no residue"
        cells = [value, light, value, "0.5", "", domain, note]
        tally.add(number, f"row{number}", cells, [0, 2, 3], {0: 1})
    assert tally.endpoints[0].lights == {"green": 1, "amber": 0, "red": 1, "grey": 0}
    assert (tally.rows, tally.outside, tally.skipped_rows) == (3, 1, 1)
    assert tally.skipped == [(4, "row4", "'1' at position 3 is no residue")]
    assert tally.endpoints[0].counts.sum() == 2
    assert tally.endpoints[0].counts[-1] == 1
    assert tally.endpoints[0].training is not None
    assert tally.endpoints[2].training is None
