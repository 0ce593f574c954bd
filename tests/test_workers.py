"""Calls in worker processes. That they end with their parent is tested in tests/reliability/test_faults.py."""

from __future__ import annotations

import os
from concurrent.futures import BrokenExecutor

import numpy as np
import pytest
from joblib import parallel_config

from crystalssl._workers import map_calls
from crystalssl.exceptions import InvalidStructureError
from crystalssl.graphs import GraphRecipe
from crystalssl.graphs._arrays import CrystalArrays, CrystalColumns
from crystalssl.graphs._neighbors import find_edges


def test_results_come_in_order_from_other_processes():
    assert map_calls(pow, [(base, 2) for base in range(20)], 2) == [base**2 for base in range(20)]
    found = map_calls(os.getpid, [() for _ in range(4)], 2)
    assert len(found) == 4
    assert os.getpid() not in found


def test_errors_keep_their_type_and_what_they_know():
    crystals = CrystalColumns.of([CrystalArrays(np.array([11, 17], np.uint8), np.zeros((2, 3)), 5 * np.eye(3))])
    with pytest.raises(InvalidStructureError, match="item 7") as caught:
        map_calls(find_edges, [(crystals, GraphRecipe(8.0, 12), number) for number in (7, 8)], 2)
    assert caught.value.index == 7


def test_workers_that_were_killed_are_replaced_in_the_next_call():
    with pytest.raises(BrokenExecutor):
        map_calls(os._exit, [(1,), (1,)], 2)
    assert map_calls(abs, [(-1,), (-2,)], 2) == [1, 2]


def test_other_backends_are_left_as_they_are():
    with parallel_config(backend="threading"):
        assert map_calls(os.getpid, [() for _ in range(4)], 2) == [os.getpid()] * 4
