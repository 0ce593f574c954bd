"""Crystals as plain data: what pymatgen makes of a dict, but nothing in it is executed."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from pymatgen.core import Composition, DummySpecies, Element, Lattice, Species, Structure

from crystalssl import check_structures
from crystalssl.exceptions import InvalidStructureError, NotACrystalError
from crystalssl.graphs import LIMITS
from crystalssl.graphs._dicts import crystal_from_dict, structure_from_dict

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
    "spin": make([Species("Fe", 3, spin=5), Species("O", -2)]),
    "dummy": make([DummySpecies("X", 1), "O"]),
}


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


def test_partly_known_site_properties_are_none_elsewhere():
    dct = make(site_properties={"magmom": [1.0, 2.0]}).as_dict()
    del dct["sites"][1]["properties"]["magmom"]
    assert [site.properties["magmom"] for site in structure_from_dict(dct)] == [1.0, None]


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


HOSTILE = {"@module": "antigravity", "@class": "Popen", "args": "touch /tmp/owned"}


@pytest.mark.parametrize("where", ["site property", "property", "species"])
def test_nothing_that_a_dict_names_is_imported(where, tmp_path):
    dct = make().as_dict()
    if where == "site property":
        dct["sites"][0]["properties"] = {"velocity": HOSTILE, "list": [HOSTILE]}
    elif where == "property":
        dct["properties"] = {"run": HOSTILE}
    else:
        dct["sites"][0]["species"][0] |= HOSTILE
    dct |= {"@module": "antigravity", "@class": "Structure"}
    path = tmp_path / "hostile.json"
    path.write_text(json.dumps(dct))
    for structure in check_structures([dct, path, path.read_text() + "\n"]):
        assert structure.composition == make().composition
    assert "antigravity" not in sys.modules


JARVIS = {
    "lattice_mat": (4.2 * np.eye(3)).tolist(),
    "coords": [[0, 0, 0], [0.5, 0.5, 0.5]],
    "elements": ["Cs", "Cl"],
    "cartesian": False,
    "props": ["", ""],
}


@pytest.mark.parametrize("cartesian", [False, True])
def test_dicts_of_jarvis_are_read(cartesian, tmp_path):
    dct = JARVIS | {"cartesian": cartesian}
    if cartesian:
        dct["coords"] = [[0, 0, 0], [2.1, 2.1, 2.1]]
    (tmp_path / "jarvis.json").write_text(json.dumps(dct))
    for structure in check_structures([dct, tmp_path / "jarvis.json"]):
        assert structure.formula == "Cs1 Cl1"
        assert structure.get_distance(0, 1) == pytest.approx(4.2 * np.sqrt(3) / 2)


def test_jarvis_atoms_are_read():
    atoms = pytest.importorskip("jarvis.core.atoms").Atoms(**{name: JARVIS[name] for name in JARVIS if name != "props"})
    [structure] = check_structures([atoms])
    assert structure.formula == "Cs1 Cl1"
    assert structure.get_distance(0, 1) == pytest.approx(4.2 * np.sqrt(3) / 2)
    with pytest.raises(NotACrystalError, match="X is a single Atoms"):
        check_structures(atoms)


DAMAGED = {
    "no elements": JARVIS | {"elements": []},
    "elements that are none": JARVIS | {"elements": ["Cs", "Qq"]},
    "too few coordinates": JARVIS | {"coords": [[0, 0, 0]]},
    "sites that are none": {"lattice": {"matrix": JARVIS["lattice_mat"]}, "sites": [1, 2]},
    "no sites": {"lattice": {"matrix": JARVIS["lattice_mat"]}, "sites": []},
    "no matrix": {"lattice": {}, "sites": make().as_dict()["sites"]},
}


@pytest.mark.parametrize("dct", DAMAGED.values(), ids=DAMAGED)
def test_damaged_dict_is_named(dct):
    with pytest.raises(InvalidStructureError, match=r"^item 1: ") as caught:
        check_structures([make(), dct])
    assert caught.value.index == 1


def test_dict_of_too_many_sites_is_refused(monkeypatch):
    monkeypatch.setattr(LIMITS, "sites", 1)
    for dct in (make().as_dict(), JARVIS):
        with pytest.raises(InvalidStructureError, match=r"item 0: it holds 2 sites, more than the 1 of .*LIMITS"):
            check_structures([dct])


@pytest.mark.parametrize("said", ["False", "true", None])
def test_what_coordinates_are_must_be_said_as_truth(said):
    atoms = {"lattice_mat": [[4, 0, 0], [0, 4, 0], [0, 0, 4]], "coords": [[0, 0, 0.5]], "elements": ["Po"]}
    with pytest.raises(ValueError, match="should be True or False"):
        crystal_from_dict({**atoms, "cartesian": said})
    assert crystal_from_dict({**atoms, "cartesian": False}).positions[0, 2] == 2


def test_missing_parts_of_a_dict_are_named():
    whole = Structure(Lattice.cubic(3), ["Po"], [[0, 0, 0]]).as_dict()
    without_matrix = {**whole, "lattice": {"a": 3, "b": 3, "c": 3}}
    without_positions = {**whole, "sites": [{"species": whole["sites"][0]["species"]}]}
    for broken in (without_matrix, without_positions):
        with pytest.raises(ValueError, match="needs the 'matrix' of its lattice and the fractional coordinates 'abc'"):
            crystal_from_dict(broken)
