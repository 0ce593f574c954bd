import json

import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.vasp import Poscar


@pytest.fixture(scope="session")
def three():
    """Three crystals that no two share a formula."""
    return [
        Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.69), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
        Structure(Lattice.from_parameters(3, 4, 5, 80, 95, 110), ["Fe", "O"], [[0, 0, 0], [0.1, 0.4, 0.7]]),
        Structure(Lattice.cubic(3.35), ["Po"], [[0.25, 0.5, 0.5]]),
    ]


@pytest.fixture(scope="session")
def texts(three):
    """Each of them in the forms that a cell may hold."""
    return {
        "cif": [crystal.to(fmt="cif") for crystal in three],
        "poscar": [Poscar(crystal).get_str() for crystal in three],
        "json": [json.dumps(crystal.as_dict()) for crystal in three],
    }


@pytest.fixture
def cifs(tmp_path, texts):
    """A folder with a CIF file of each."""
    folder = tmp_path / "cifs"
    folder.mkdir()
    for name, text in zip("abc", texts["cif"], strict=True):
        (folder / f"{name}.cif").write_text(text)
    return folder
