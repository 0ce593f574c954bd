import contextlib
import json

import numpy as np
import pytest
from pymatgen.core import Structure

from crystalssl._optimade import structure_from_record
from crystalssl.exceptions import InvalidStructureError
from crystalssl.graphs import check_structures

from .records import BAD, GOOD, WORSE


def test_good_record():
    built = structure_from_record(GOOD)
    expected = Structure(
        GOOD["lattice_vectors"], ["Cs", "Cl"], GOOD["cartesian_site_positions"], coords_are_cartesian=True
    )
    assert built.species == expected.species
    np.testing.assert_allclose(built.lattice.matrix, expected.lattice.matrix)
    np.testing.assert_allclose(built.cart_coords, expected.cart_coords, atol=1e-12)


def test_what_may_be_absent():
    essential = {name: GOOD[name] for name in ("lattice_vectors", "cartesian_site_positions")}
    built = structure_from_record(essential | {"species_at_sites": ["Cs", "Cl"]})
    assert built == structure_from_record(GOOD)


def test_left_handed_vectors_span_the_same_crystal():
    vectors = GOOD["lattice_vectors"]
    built = structure_from_record(GOOD | {"lattice_vectors": [vectors[2], vectors[1], vectors[0]]})
    check_structures([built])
    assert built.lattice.volume == pytest.approx(structure_from_record(GOOD).lattice.volume)
    np.testing.assert_allclose(built.cart_coords, GOOD["cartesian_site_positions"], atol=1e-12)
    assert built.get_distance(0, 1) == pytest.approx(structure_from_record(GOOD).get_distance(0, 1))


@pytest.mark.parametrize("name", [*BAD, *WORSE])
def test_reason(name):
    record, reason = (BAD | WORSE)[name]
    with pytest.raises(InvalidStructureError) as caught:
        structure_from_record(json.loads(json.dumps(record)))
    assert reason in str(caught.value)


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize(
    "value", [0, -1, 1e300, "text", True, [], [[]], {}, {"a": 1}, [None], [[None]], [{}], ["Cs"] * 2]
)
def test_nonsense_is_refused_or_read_as_before(name, value):
    """Whatever stands in one field, the answer is a crystal or a reason, never another exception."""
    with contextlib.suppress(InvalidStructureError):
        structure_from_record(GOOD | {name: value})
