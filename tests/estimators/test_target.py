from __future__ import annotations

import numpy as np
import pytest

from crystalssl.estimators._target import TargetScaler
from crystalssl.estimators._y import check_y

GEOMETRIC = np.geomspace(1, 100, 50)

LOGGED = {
    "positive, two decades": (GEOMETRIC, True),
    "positive, half a decade": (np.geomspace(1, 5, 50), False),
    "one value is zero": (np.r_[GEOMETRIC, 0.0], False),
    "one value is negative": (np.r_[GEOMETRIC, -1.0], False),
    "two decades, but of outliers only": (np.r_[np.full(98, 3.0), 0.1, 10.0], False),
    "all negative": (-GEOMETRIC, False),
    "constant": (np.full(9, 5.0), False),
}


@pytest.mark.parametrize(("y", "logged"), LOGGED.values(), ids=LOGGED)
def test_auto_takes_logarithms_of_positive_values_over_a_decade(y, logged):
    scaler = TargetScaler("auto").fit(y[:, None])
    assert scaler.log_.tolist() == [logged]
    expected = np.log(y) if logged else y
    np.testing.assert_allclose(scaler.mean_, expected.mean())
    np.testing.assert_allclose(scaler.scale_, expected.std(), atol=1e-15)


def test_targets_are_scaled_apart():
    y = np.c_[GEOMETRIC, GEOMETRIC - 50, np.full(50, 7.0)]
    scaler = TargetScaler("auto").fit(y)
    assert scaler.log_.tolist() == [True, False, False]
    scaled = scaler.scale(y)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(scaled.std(axis=0), [1, 1, 0], atol=1e-6)


@pytest.mark.parametrize("transform", ["auto", "log", None])
def test_restore_undoes_scale(transform):
    y = np.c_[GEOMETRIC, GEOMETRIC[::-1] * 3]
    scaler = TargetScaler(transform).fit(y)
    restored = scaler.to_unit(scaler.unscale(scaler.scale(y)))
    assert restored.dtype == np.float64
    np.testing.assert_allclose(restored, y, rtol=1e-5)


@pytest.mark.parametrize(("transform", "logged"), [("log", True), (None, False)])
def test_explicit_choice_does_not_depend_on_the_values(transform, logged):
    assert TargetScaler(transform).fit(np.ones((5, 1)) + np.arange(5)[:, None]).log_.tolist() == [logged]
    assert TargetScaler(transform).fit(GEOMETRIC[:, None]).log_.tolist() == [logged]


@pytest.mark.parametrize("value", [0.0, 5.0, -3e8, 1e-30])
def test_constant_target_is_kept(value):
    y = np.full((6, 1), value)
    scaler = TargetScaler("auto").fit(y)
    assert (scaler.scale(y) == 0).all()
    np.testing.assert_array_equal(scaler.to_unit(scaler.unscale(np.zeros((2, 1), np.float32))), y[:2])


@pytest.mark.parametrize("factor", [1e-20, 1e20])
def test_unit_does_not_matter(factor):
    y = np.linspace(-1, 1, 20)[:, None]
    np.testing.assert_allclose(
        TargetScaler("auto").fit(factor * y).scale(factor * y), TargetScaler("auto").fit(y).scale(y), rtol=1e-6
    )


def test_only_the_given_rows_are_learnt_from():
    y = GEOMETRIC[:, None].copy()
    rows = np.arange(0, 50, 2)
    scaler = TargetScaler("auto").fit(y, rows)
    expected = TargetScaler("auto").fit(y[rows])
    y[1::2] *= 1e6
    other = TargetScaler("auto").fit(y, rows)
    for name in ("log_", "mean_", "scale_"):
        assert getattr(scaler, name) == getattr(expected, name) == getattr(other, name)


def test_auto_takes_no_logarithm_that_a_held_out_row_does_not_have():
    y = np.r_[GEOMETRIC, -1.0][:, None]
    scaler = TargetScaler("auto").fit(y, np.arange(50))
    assert not scaler.log_
    assert np.isfinite(scaler.scale(y)).all()


@pytest.mark.parametrize("rows", [slice(None), np.arange(30, 50), np.arange(3)])
@pytest.mark.parametrize("value", [-2.0, 0.0])
def test_log_of_what_has_none_names_the_item(rows, value):
    values = GEOMETRIC.copy()
    values[17] = value
    with pytest.raises(ValueError, match=rf"y\[17\] is {value}, .*no logarithm.*target_transform=None"):
        TargetScaler("log").fit(values[:, None], rows)
    with pytest.raises(ValueError, match=r"y\[17, 1\] is"):
        TargetScaler("log").fit(np.c_[GEOMETRIC, values], rows)


# ------------------------------------------------------------------ check_y


@pytest.mark.parametrize("y", [[1, 2, 3], (1.0, 2.0, 3.0), np.array([1, 2, 3], np.int8), np.array([1, 2, 3], object)])
def test_numbers_become_a_column(y):
    values = check_y(y, 3)
    assert values.dtype == np.float64
    assert values.tolist() == [[1.0], [2.0], [3.0]]


def test_several_targets_stay_columns():
    assert check_y([[1, 2], [3, 4]], 2).tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_some_of_several_targets_may_be_missing():
    np.testing.assert_array_equal(check_y([[1, None], [float("nan"), 4]], 2), [[1, np.nan], [np.nan, 4]])


def wrong_y():
    import pandas as pd

    nan, inf = float("nan"), float("inf")
    return {
        "shorter": ([1, 2], "X holds 3 crystals but y has 2 values"),
        "longer": ([1, 2, 3, 4], "X holds 3 crystals but y has 4 values"),
        "NaN": ([1, nan, 3], r"y\[1\] is nan; leave out"),
        "None": ([1, 2, None], r"y\[2\] is nan"),
        "infinite": ([inf, 2, 3], r"y\[0\] is inf"),
        "minus infinite": ([1, 2, -inf], r"y\[2\] is -inf"),
        "NaN in a column": ([[1], [nan], [5]], r"y\[1, 0\] is nan; leave out"),
        "infinite of several": ([[1, 2], [3, -inf], [5, nan]], r"y\[1, 1\] is -inf; leave out"),
        "none of several": ([[1, nan], [nan, nan], [5, 6]], r"y\[1\] is nan for all 2 targets; leave out"),
        "text": ([1, "two", 3], r"y\[1\] is 'two', not a number"),
        "text array": (np.array(["1", "2", "x"]), r"y\[2\] is .*'x'.*, not a number"),
        "table with text": (pd.DataFrame({"a": [1, 2, 3], "b": [1, "x", 3]}), r"y\[1, 1\] is 'x', not a number"),
        "series with text": (pd.Series([1, 2, "x"], index=[7, 8, 9]), r"y\[2\] is 'x', not a number"),
        "ragged": ([[1, 2], [3], [4, 5]], "y is not numeric"),
        "complex": (np.array([1j, 2, 3]), "Complex data not supported"),
        "complex list": ([1, 2j, 3], r"y\[1\] is 2j, not a number"),
        "a number": (3.0, r"y has shape \(\)"),
        "three axes": (np.zeros((3, 1, 1)), r"y has shape \(3, 1, 1\)"),
        "no columns": (np.zeros((3, 0)), r"y has shape \(3, 0\)"),
        "nothing": (None, "y is None"),
    }


@pytest.mark.parametrize(("y", "message"), wrong_y().values(), ids=wrong_y())
def test_wrong_y_is_named(y, message):
    with pytest.raises(ValueError, match=message):
        check_y(y, 3)
