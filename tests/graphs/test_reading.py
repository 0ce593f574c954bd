"""Files and texts by format: what is taken, what is refused, and how much of it is read."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.vasp import Poscar

from crystalssl import CrystalGraphTransformer, check_structures
from crystalssl.exceptions import InvalidStructureError
from crystalssl.graphs import LIMITS
from crystalssl.graphs._poscar import read_poscar
from crystalssl.graphs._structures import crystal_arrays

HEAD = "rock salt\n1.0\n5.64 0 0\n0 5.64 0\n0 0 5.64\n"
SITES = "0 0 0\n0 .5 .5\n.5 0 .5\n.5 .5 0\n.5 .5 .5\n.5 0 0\n0 .5 0\n0 0 .5\n"
SALT = HEAD + "Na Cl\n4 4\nDirect\n" + SITES
CASES = Path(__file__).resolve().parents[2] / ".." / "shared" / "cases"


def read(text, folder=None, name="POSCAR"):
    """Read a text, or a file of it."""
    if folder is not None:
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    [structure] = check_structures([text if folder is None else folder / name])
    return structure


@pytest.fixture
def salt():
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


# ---------------------------------------------------------------------- POSCAR

POSCARS = {
    "as it comes": SALT,
    "Windows": SALT.replace("\n", "\r\n"),
    "Cartesian": HEAD
    + "Na Cl\n4 4\nCartesian\n"
    + "".join(f"{2.82 * i} {2.82 * j} {2.82 * k}\n" for i, j, k in np.loadtxt(SITES.split("\n")) * 2),
    "scale": SALT.replace("1.0\n5.64 0 0\n0 5.64 0\n0 0 5.64", "5.64\n1 0 0\n0 1 0\n0 0 1"),
    "scales": SALT.replace("1.0\n5.64 0 0\n0 5.64 0\n0 0 5.64", "2 3 4\n2.82 0 0\n0 1.88 0\n0 0 1.41"),
    "volume": SALT.replace("1.0\n5.64 0 0\n0 5.64 0\n0 0 5.64", f"{-(5.64**3)}\n1 0 0\n0 1 0\n0 0 1"),
    "scaled Cartesian": HEAD.replace("1.0\n5.64 0 0\n0 5.64 0\n0 0 5.64", "5.64\n1 0 0\n0 1 0\n0 0 1")
    + "Na Cl\n4 4\ncart\n"
    + SITES,
    "selective dynamics": HEAD + "Na Cl\n4 4\nSelective dynamics\nDirect\n" + SITES.replace("\n", " T T F\n"),
    "potentials": SALT.replace("Na Cl", "Na_pv Cl_h/0a1b2c3d"),
    "elements in turns": HEAD
    + "Na Cl Na Cl\n3 1 1 3\nDirect\n"
    + "".join(SITES.splitlines(True)[i] for i in (0, 1, 2, 4, 3, 5, 6, 7)),
    "elements in two lines": HEAD + "Na\nCl\n4\n4\nDirect\n" + SITES,
    "elements behind the sites": HEAD
    + "4 4\nDirect\n"
    + "".join(f"{site} {'Na' if i < 4 else 'Cl'}\n" for i, site in enumerate(SITES.splitlines())),
    "velocities": SALT + "\n0 0 0\n0 0 0\n",
    "grid": SALT + "\n10 10 10\n" + "0.1 0.2 0.3 0.4 0.5\n" * 200,
    "comment in any letters": SALT.replace("rock salt", "Steinsalz für Ł"),
}


@pytest.mark.parametrize("text", POSCARS.values(), ids=POSCARS)
def test_poscars_are_read(tmp_path, salt, text):
    for structure in (read(text), read(text, tmp_path), read(text, tmp_path, "unnamed")):
        assert structure.composition == salt.composition
        assert structure.volume == pytest.approx(5.64**3)
        assert structure.matches(salt)
        graphs = CrystalGraphTransformer().transform([structure, salt])
        assert np.sort(graphs[:1].distances) == pytest.approx(np.sort(graphs[1:].distances), abs=1e-5)


def test_poscars_that_pymatgen_writes_are_read_alike(prototypes, crystals):
    for structure in [*prototypes[::10], *crystals[::50]]:
        found, expected = (
            read_poscar(Poscar(structure).get_str()),
            Structure.from_str(Poscar(structure).get_str(), fmt="poscar"),
        )
        assert found.atomic_numbers.tolist() == list(expected.atomic_numbers)
        assert np.abs(found.positions - expected.cart_coords).max() < 1e-9
        assert np.abs(found.lattice - expected.lattice.matrix).max() < 1e-12


BAD_POSCARS = {
    "no elements": (HEAD + "4 4\nDirect\n" + SITES, "it names no elements .* name them in a line above"),
    "no elements, but in the comment": ("Na Cl\n" + HEAD[10:] + "4 4\nDirect\n" + SITES, "it names no elements"),
    "no elements, words behind sites": (
        HEAD + "4 4\nDirect\n" + SITES.replace("\n", " T T F\n"),
        "it names no elements",
    ),
    "some elements behind sites": (HEAD + "4 4\nDirect\n" + SITES.replace("\n", " Na\n", 7), "it names no elements"),
    "unknown elements": (SALT.replace("Na Cl", "Na Qq"), "symbol 'Qq' names no element"),
    "fewer counts": (SALT.replace("4 4", "8"), "it names 2 elements, but gives 1 numbers"),
    "more counts": (SALT.replace("4 4", "4 2 2"), "it names 2 elements, but gives 3 numbers"),
    "underscore": (SALT.replace("4 4", "4_0 4"), "line 7 should give .*: '4_0 4'"),
    "plus": (SALT.replace("4 4", "+4 4"), r"line 7 should give .*: '\+4 4'"),
    "vertical tab": (SALT.replace("4 4", "4\x0b4"), "line 7 holds characters"),
    "line separator": (SALT.replace("4 4", "4 4\u2028"), "line 7 holds characters"),
    "other digits": (SALT.replace("4 4", "\uff14 \uff14"), "line 7 holds characters"),
    "huge number": (SALT.replace("4 4", "4 99999999999999999999"), "sites, more than the 20,000 of .*LIMITS"),
    "more sites than lines": (SALT.replace("4 4", "4 400"), "announces 404 sites on 17 lines"),
    "no mode": (HEAD + "Na Cl\n4 4\n" + SITES, "line 8 should say Direct or Cartesian"),
    "underscore in a coordinate": (SALT.replace(".5 .5 .5", ".5 1_0 .5"), "'.5 1_0 .5' should be 3 numbers"),
    "NaN": (SALT.replace(".5 .5 .5", ".5 nan .5"), "should be 3 numbers"),
    "too few coordinates": (SALT.replace(".5 .5 .5", ".5 .5"), "'.5 .5' should be 3 numbers"),
    "no lattice": ("x\n1.0\n5.64 0\n0 5.64 0\n0 0 5.64\nNa\n1\nDirect\n0 0 0\n", "should be 3 numbers"),
    "no volume": (SALT.replace("0 5.64 0", "5.64 0 0"), "the cell has zero volume"),
    "empty": ("\n", "should be 1 numbers"),
    "a negative one of three factors": (SALT.replace("1.0", "-1.0 2.0 1.0"), "should be three positive factors"),
}


@pytest.mark.parametrize(("text", "reason"), BAD_POSCARS.values(), ids=BAD_POSCARS)
def test_poscar_that_does_not_decide_is_refused(tmp_path, text, reason):
    (tmp_path / "POTCAR").write_text("PAW_PBE Na 08Apr2002\nVRHFIN =Na:\n")  # which is not looked at
    (tmp_path / "POSCAR").write_text(text, newline="")
    with pytest.raises(InvalidStructureError, match=f"(?s)item 2.*POSCAR.*{reason}") as caught:
        crystal_arrays(tmp_path / "POSCAR", 2)
    assert caught.value.index == 2


# ---------------------------------------------------------------------- other formats


@pytest.mark.parametrize("name", ["salt.json", "salt.yaml", "salt.xsf", "salt.cssr", "salt.res", "salt.JSON"])
def test_formats_of_pymatgen_are_read(tmp_path, salt, name):
    salt.to(str(tmp_path / name.lower()))
    path = (tmp_path / name.lower()).rename(tmp_path / name)
    assert check_structures([path])[0].matches(salt)
    (tmp_path / (name + ".gz")).write_bytes(gzip.compress(path.read_bytes()))
    assert check_structures([tmp_path / (name + ".gz")])[0].matches(salt)


def test_texts_are_read_as_files_are(salt):
    texts = [salt.to(fmt="cif"), Poscar(salt).get_str(), salt.to(fmt="json") + "\n"]
    for structure in check_structures(texts):
        assert structure.matches(salt)
    with pytest.raises(
        InvalidStructureError, match=r"item 0: cannot read .* from text 'Na1 Cl1'.: neither its name nor"
    ):
        check_structures(["Na1 Cl1\n"])


@pytest.mark.parametrize("name", ["vasprun.xml", "salt.xyz", "salt.nc", "salt.pdb", "salt"])
def test_other_formats_are_refused_with_a_remedy(tmp_path, name):
    (tmp_path / name).write_text("<modeling>\n</modeling>\n")
    with pytest.raises(
        InvalidStructureError, match=r"is that of CIF, POSCAR.*; read it yourself, e\.g\. with pymatgen's"
    ):
        check_structures([tmp_path / name])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("shelx.res", "TITL x\nCELL 0.71 5 5 5 90 90 90\nLATT 1\nSYMM -X,Y,-Z\nSFAC C\nC1 1 0.1 0.2 0.3 11.0\nEND\n"),
        ("salt.cssr", "5 5 5\n90 90 90 SPGR = 225 F m -3 m\n1 0\n0 x\n1 C 0 0 0\n"),
    ],
)
def test_symmetry_that_pymatgen_leaves_out_is_refused(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(
        InvalidStructureError, match="it has symmetry, which pymatgen's reader of this format leaves out"
    ):
        check_structures([tmp_path / name])


RES = "TITL x\nCELL 0.71 5 5 5 90 90 90\nLATT -1\nSFAC Na Cl\nNa1 1 0 0 0 11.00000\nCl1 2 0.5 0.5 0.5 1.0\nEND\n"
CSSR = "5.0 5.0 5.0\n90.0 90.0 90.0 SPGR =  1 P 1    OPT = 1\n2 0\n0 x\n1 Na 0.0 0.0 0.0\n2 Cl 0.5 0.5 0.5\n"
XSF = "CRYSTAL\nPRIMVEC\n5 0 0\n0 5 0\n0 0 5\nPRIMCOORD\n2 1\n11 0 0 0\n17 2.5 2.5 2.5\n"
OTHERWISE = {
    "half a site": ("x.res", RES.replace("11.00000", "0.5"), "not fully occupied"),
    "half a site, not refined": ("x.res", RES.replace("11.00000", "10.50000"), "not fully occupied"),
    "a free variable": ("x.res", RES.replace("11.00000", "21.00000"), "not fully occupied"),
    "a centre that goes without saying": ("x.res", RES.replace("LATT -1\n", ""), "no line LATT, .* centre of symmetry"),
    "Cartesian": ("x.cssr", CSSR.replace("2 0\n", "2 1\n"), "its coordinates are not fractional"),
    "sites that are passed over": (
        "x.cssr", CSSR.replace("2 0\n", "3 0\n") + "3 O2- 0.25 0.25 0.25\n", "announces 3 sites, but lists 2",
    ),
    "a slab": ("x.xsf", XSF.replace("CRYSTAL", "SLAB"), "periodic along fewer than three axes"),
    "a polymer": ("x.xsf", XSF.replace("CRYSTAL", "DIM-GROUP\n 1 1"), "periodic along fewer than three axes"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "text"), [("x.res", RES), ("x.cssr", CSSR), ("x.xsf", XSF)])
def test_what_other_programs_write_is_read(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    [crystal] = check_structures([tmp_path / name])
    assert crystal.formula == "Na1 Cl1"
    np.testing.assert_allclose(crystal.frac_coords, [[0, 0, 0], [0.5, 0.5, 0.5]])


@pytest.mark.parametrize(("name", "text", "reason"), OTHERWISE.values(), ids=OTHERWISE)
def test_what_pymatgen_would_read_as_another_crystal_is_refused(tmp_path, name, text, reason):
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidStructureError, match=reason):
        check_structures([tmp_path / name])


# Some versions of pymatgen fail on the second by themselves.
@pytest.mark.parametrize(
    ("announced", "message"),
    [(400000000, "it announces 400000000 sites on 8 lines"), (2, "it announces 2 sites, but lists 1|out of range")],
)
def test_xsf_that_announces_other_sites_is_refused(tmp_path, announced, message):
    head = "CRYSTAL\nPRIMVEC\n4 0 0\n0 4 0\n0 0 4\nPRIMCOORD\n"
    (tmp_path / "x.xsf").write_text(f"{head}{announced} 1\nC 0 0 0\n")
    with pytest.raises(InvalidStructureError, match=message):
        check_structures([tmp_path / "x.xsf"])


def test_no_warning_is_lost_while_pymatgen_reads(tmp_path, salt, monkeypatch):
    """Python's filters and its list of caught warnings belong to all threads."""
    inside, warned = threading.Event(), threading.Event()

    def from_str(text, fmt):
        inside.set()
        assert warned.wait(60)
        warnings.warn("an odd file", UserWarning, stacklevel=2)
        return salt

    monkeypatch.setattr(Structure, "from_str", from_str)
    (tmp_path / "odd.xsf").write_text("CRYSTAL\n")
    reader = threading.Thread(target=check_structures, args=([salt, tmp_path / "odd.xsf"],))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        filters = list(warnings.filters)
        reader.start()
        assert inside.wait(60)
        warnings.warn("of this thread", UserWarning, stacklevel=1)
        assert warnings.filters == filters
        warned.set()
        reader.join()
        assert warnings.filters == filters
    assert [str(warning.message) for warning in caught] == ["of this thread", "an odd file"]


# ---------------------------------------------------------------------- limits


def refuse(path, reason):
    with pytest.raises(InvalidStructureError, match=reason):
        check_structures([path])


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_no_more_bytes_are_read_than_the_limit(tmp_path, monkeypatch, compress):
    monkeypatch.setattr(LIMITS, "bytes", 5000)
    path = tmp_path / "salt.cif"
    path.write_bytes(compress(b"#" + bytes(10**7)))
    refuse(path, r"holds more than .* MiB, the crystalssl.LIMITS.bytes; raise that limit")
    path = tmp_path / "CHGCAR"
    path.write_bytes(compress((SALT + "\n10 10 10\n" + "0.123456\n" * 10**5).encode()))
    assert check_structures([path])[0].formula == "Na4 Cl4"  # its head is enough
    refuse("data_x\n" * 1000, "holds more than 5,000 bytes, the crystalssl.LIMITS.bytes")


def test_what_is_no_regular_file_is_not_opened(tmp_path):
    refuse(tmp_path, "it is a folder")
    os.mkfifo(tmp_path / "pipe.cif")
    refuse(tmp_path / "pipe.cif", "it is no regular file")
    (tmp_path / "zero.cif").symlink_to("/dev/zero")
    refuse(tmp_path / "zero.cif", "it is no regular file")
    with (tmp_path / "sparse.cif").open("wb") as file:
        file.truncate(3 * 2**30)
    refuse(tmp_path / "sparse.cif", "it holds more than 8 MiB")
    refuse("x" * 1000 + ".cif", "File name too long")
    refuse("x\0.cif", "null")
    refuse(tmp_path / "missing.cif", "there is no file")


def test_lists_of_lists_are_not_followed(tmp_path):
    aliases = "a: &a [1, 2, 3]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(9 * ['*' + chr(97 + i)])}]\n" for i in range(12)
    )
    for keys in (
        "lattice: *k\nsites: *m\n",
        "lattice_mat: *m\nelements: [C]\ncoords: *m\n",
        "lattice: {matrix: *m}\nsites: [{}]\n",
    ):
        (tmp_path / "aliases.yaml").write_text(aliases + keys)
        refuse(tmp_path / "aliases.yaml", "item 0: cannot read a crystal from .*aliases.yaml")
    for name, text in (("x.json", "[" * 10**5), ("x.yaml", "[" * 10**5), ("y.yaml", "- " * 10**5)):
        (tmp_path / name).write_text(text)
        refuse(tmp_path / name, "recursion|nested deeper")
    (tmp_path / "many.json").write_text('{"sites": [' + "{}," * 2 * 10**6 + "{}]}")
    refuse(tmp_path / "many.json", "it holds more values than a crystal of 20000 sites")
    (tmp_path / "long.yaml").write_text("a: 1\n" * 10**5)
    refuse(tmp_path / "long.yaml", "write JSON")


def test_crowds_of_atoms_are_refused_before_their_pairs_are_listed():
    crowd = Structure(Lattice.cubic(40), ["C"] * 3000, np.random.default_rng(0).uniform(0, 0.01, (3000, 3)))
    for read_it in (lambda: check_structures([crowd]), lambda: CrystalGraphTransformer().transform([crowd])):
        with pytest.raises(InvalidStructureError, match=r"item 0: \d+ atoms are within .* Å of each other"):
            read_it()


def test_reading_a_cif_does_without_pymatgen(tmp_path):
    """Its import takes longer than the reading of some thousand files."""
    code = "import sys; from crystalssl.graphs._cif import read_cif; print('pymatgen' in sys.modules)"
    import subprocess

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.skipif(not CASES.is_dir(), reason="../shared/cases is not there")
def test_poscar_of_vasp_4_is_refused():
    refuse(CASES / "POSCAR_v4", "POSCAR_v4.*it names no elements")
