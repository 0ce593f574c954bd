"""Labels: surrogate classes from properties, classes of any kind as numbers, properties standardised."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from crystalssl.pretext import TASKS, surrogate_classes
from crystalssl.pretext._labels import SURROGATES, encode_classes, encode_properties

NAN = math.nan


@pytest.mark.parametrize(
    ("kind", "properties", "expected"),
    [
        ("metal", {"band_gap": [0.0, 0.01, 5.0, NAN]}, [1, 0, 0, -1]),
        ("gap", {"band_gap": [0.0, 0.01, 2.0, 2.1, 9.0, NAN]}, [0, 1, 1, 2, 2, -1]),
        # 0.05 µB per atom: 0.1 of two atoms is not above it, 0.11 is, and 4 of a hundred is not.
        ("magnetic", {"magnetization": [0.1, 0.11, 4.0, 0.0, NAN], "n_atoms": [2, 2, 100, 1, 1]}, [0, 1, 0, 0, -1]),
        ("magnetic", {"magnetization": [0.1, 0.04, -0.1, NAN]}, [1, 0, 1, -1]),
        ("magnetic", {"magnetization": [-4.0], "n_atoms": [2]}, [1]),
        # What is not needed is not looked at.
        ("metal", {"band_gap": [0.0], "magnetization": [3.0], "n_atoms": [1]}, [1]),
    ],
)
@pytest.mark.parametrize("kind_of", [list, np.array, pd.Series])
def test_surrogate_classes(kind, properties, expected, kind_of):
    found = surrogate_classes(kind, **{name: kind_of(values) for name, values in properties.items()})
    assert found.dtype.kind == "i"
    assert found.tolist() == expected


@pytest.mark.parametrize(
    ("kind", "properties", "message"),
    [
        ("metals", {"band_gap": [0.0]}, r"no surrogate classes 'metals'; choose one of \['metal', 'magnetic', 'gap'\]"),
        ("metal", {"magnetization": [0.0]}, "'metal' follow from band_gap, which was not given"),
        ("gap", {}, "'gap' follow from band_gap, which was not given"),
        ("magnetic", {"band_gap": [0.0]}, "'magnetic' follow from magnetization, which was not given"),
    ],
)
def test_surrogate_classes_that_cannot_be_made(kind, properties, message):
    with pytest.raises(ValueError, match=message):
        surrogate_classes(kind, **properties)


def test_surrogates_are_what_spmat_takes():
    gaps, moments = [0.0, 1.0, 3.0, 3.0, NAN], [0.0, 1.0, 0.0, 0.0, NAN]
    for kind in SURROGATES:
        codes = TASKS["spmat-simclr"].encode_labels(surrogate_classes(kind, band_gap=gaps, magnetization=moments))
        assert codes[-1] == -1
        assert (codes[:-1] >= 0).all()


# ---------------------------------------------------------------------- classes


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        ([0, 1, 1, -1], [0, 1, 1, -1]),
        ([7.0, 3.0, 7.0, -1.0], [0, 1, 0, -1]),
        ([0.0, NAN, 2.0, NAN, 2.0], [0, -1, 1, -1, 1]),
        (["metal", "insulator", None, "metal"], [0, 1, -1, 0]),
        ([True, False, True], [0, 1, 0]),
        (np.array(["b", "a", "b"]), [0, 1, 0]),
        (np.array([[0], [1], [1], [-1]]), [0, 1, 1, -1]),
        (pd.Series(["b", "a", "b"], index=[5, 3, 4]), [0, 1, 0]),
        (pd.Series(["b", "a", None, "b"], dtype="category"), [0, 1, -1, 0]),
    ],
    ids=str,
)
def test_classes_of_any_kind_become_numbers(y, expected):
    found = encode_classes(y, "spmat-simclr")
    assert found.dtype == np.float32
    assert found.tolist() == [[code] for code in expected]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "'spmat-barlow' learns from surrogate classes; give them as y, one per crystal .*surrogate_classes"),
        ([3, 3, -1], "y holds one class only, 3; choose a surrogate that divides the corpus"),
        (["metal"] * 4, "y holds one class only, 'metal'"),
        ([-1, -1], "y holds no class at all"),
        ([NAN, None], "y holds no class at all"),
        ([0.0, NAN, 1.5, 1.5], r"y holds continuous numbers: y\[2\] is 1.5; make classes of them.*surrogate_classes"),
        (np.float32([0.1, 0.1, 0.2, 0.2]), r"y holds continuous numbers: y\[0\] is 0.1"),
        ([0, 1, 0, math.inf], r"y holds continuous numbers: y\[3\] is inf"),
        ([0, 1, 2, -1], "y holds 3 classes of one crystal each; choose a surrogate that several crystals share"),
        (["mp-1", "mp-2", None], "y holds 2 classes of one crystal each"),
        (np.zeros((4, 2)), r"surrogate classes have shape \(4, 2\); expected \(n_crystals,\)"),
    ],
)
def test_classes_that_tell_nothing_apart_are_refused(y, message):
    with pytest.raises(ValueError, match=message):
        TASKS["spmat-barlow"].encode_labels(y)


# ---------------------------------------------------------------------- properties


def test_properties_are_standardised_over_known_values():
    found = encode_properties([[1.0, 10.0], [3.0, NAN], [NAN, 30.0], [NAN, 20.0]])
    assert found.dtype == np.float32
    scale = 10 * math.sqrt(2 / 3)
    expected = [[-1, -10 / scale], [1, NAN], [NAN, 10 / scale], [NAN, 0]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_property_of_one_value_is_zero():
    np.testing.assert_array_equal(encode_properties([3.0, 3.0, NAN]), np.float32([[0], [0], [NAN]]))


@pytest.mark.parametrize("y", [[1.0, 2.0], [[1.0], [2.0]], np.array([1, 2]), pd.Series([1.0, 2.0], index=[5, 3])])
def test_single_property_may_be_a_list_or_a_column(y):
    np.testing.assert_array_equal(encode_properties(y), np.float32([[-1], [1]]))


def test_given_properties_are_left_alone():
    y = np.array([[1.0, 10.0], [3.0, NAN]])
    copy = y.copy()
    encode_properties(y)
    np.testing.assert_array_equal(y, copy)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([[1.0, NAN], [2.0, NAN]], "no crystal has a value of property 1; leave the column out"),
        ([1.0, math.inf], r"y\[1, 0\] is infinite; write NaN where a property is unknown"),
        (["high", "low"], "properties must be numbers, NaN where unknown"),
    ],
)
@pytest.mark.parametrize("name", ["joint", "properties"])
def test_properties_that_cannot_be_learnt_are_refused(name, y, message):
    with pytest.raises(ValueError, match=message):
        TASKS[name].encode_labels(y)


def test_other_tasks_ignore_labels():
    for name, task in TASKS.items():
        if not task.needs_labels and task.n_labels_param is None:
            assert task.encode_labels([["nonsense"]]) is None, name
        if not task.needs_labels:
            assert task.encode_labels(None) is None, name
