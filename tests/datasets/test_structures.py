import json

import numpy as np
import pytest
from pymatgen.core import Composition, Element, Lattice, Species, Structure

from crystalssl.datasets import _structures
from crystalssl.datasets._structures import structure_from_dict

LATTICE = Lattice.from_parameters(3.1, 4.2, 5.3, 80, 95, 110)
COORDS = [[0.0, 0.0, 0.0], [0.25, -0.5, 1.75]]


def make(species=("Na", "Cl"), lattice=LATTICE, **kwargs):
    return Structure(lattice, list(species), COORDS, **kwargs)


CRYSTALS = {
    "plain": make(),
    "magmom": make(site_properties={"magmom": [0.5, -1.0]}),
    "labels": make(labels=["Na1", "Cl1"]),
    "charge": make(charge=2),
    "properties": make(properties={"source": "test"}),
    "slab": make(lattice=Lattice(LATTICE.matrix, pbc=(True, True, False))),
    "deuterium": make(["D", "O"]),
    "vectors": make(site_properties={"force": [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]}),
    "oxidation": make([Species("Na", 1), Species("Cl", -1)]),
    "disordered": make([Composition({"Na": 0.5, "K": 0.5}), "Cl"]),
    "vacancies": make([Composition({"Na": 0.5}), "Cl"]),
}
SHORTCUT = {"plain", "magmom", "labels", "charge", "properties", "slab", "deuterium"}


@pytest.mark.filterwarnings("ignore:Structure charge")
@pytest.mark.parametrize("name", CRYSTALS)
def test_equals_from_dict(name):
    dct = json.loads(json.dumps(CRYSTALS[name].as_dict()))
    expected = Structure.from_dict(json.loads(json.dumps(dct)))
    built = structure_from_dict(dct)
    assert built == expected
    assert built.as_dict() == expected.as_dict()
    assert built.lattice.pbc == expected.lattice.pbc
    assert np.array_equal(built.frac_coords, expected.frac_coords)


@pytest.mark.filterwarnings("ignore:Structure charge")
@pytest.mark.parametrize("name", CRYSTALS)
def test_shortcut_is_taken_by_ordered_neutral_crystals_only(name, monkeypatch):
    used = []
    monkeypatch.setattr(_structures, "site_species", lambda symbol: used.append(symbol) or Composition({symbol: 1}))
    structure_from_dict(json.loads(json.dumps(CRYSTALS[name].as_dict())))
    assert bool(used) == (name in SHORTCUT)


def test_partly_known_site_properties_go_to_pymatgen():
    dct = make(site_properties={"magmom": [1.0, 2.0]}).as_dict()
    del dct["sites"][1]["properties"]["magmom"]
    with pytest.warns(UserWarning, match="magmom"):
        assert structure_from_dict(dct).site_properties["magmom"] == [1.0, None]


def test_changing_one_crystal_leaves_others_of_the_same_elements_alone():
    first, second = (structure_from_dict(make().as_dict()) for _ in range(2))
    first.add_oxidation_state_by_element({"Na": 1, "Cl": -1})
    first.replace(0, "K")
    assert second.species == [Element("Na"), Element("Cl")]
    assert structure_from_dict(make().as_dict()).species == [Element("Na"), Element("Cl")]


@pytest.mark.parametrize("sites", [[], None])
def test_no_sites_is_not_a_crystal(sites):
    dct = make().as_dict() | {"sites": sites}
    with pytest.raises((ValueError, TypeError)):
        structure_from_dict(dct)
