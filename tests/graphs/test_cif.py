"""CIF files: whichever way a file is read, the crystal is the one that pymatgen reads, and so is the error."""

from __future__ import annotations

import bz2
import gzip
import warnings

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from crystalssl import CrystalGraphTransformer, check_structures
from crystalssl.exceptions import InvalidStructureError
from crystalssl.graphs._cif import parse_cif, read_cif
from crystalssl.graphs._cif_symmetry import expand, operations_of
from crystalssl.graphs._cif_values import NotPlainError, values_of
from crystalssl.graphs._structures import crystal_arrays

CELL = """\
_cell_length_a 4.1
_cell_length_b 4.1
_cell_length_c 6.7
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 120
"""
P1 = "loop_\n_symmetry_equiv_pos_as_xyz\n'x, y, z'\n"
# P-3m1
TRIGONAL = """\
loop_
_symmetry_equiv_pos_site_id
_symmetry_equiv_pos_as_xyz
1 x,y,z
2 -y,x-y,z
3 -x+y,-x,z
4 y,x,-z
5 x-y,-y,-z
6 -x,-x+y,-z
7 -x,-y,-z
8 y,-x+y,-z
9 x-y,x,-z
10 -y,-x,z
11 -x+y,y,z
12 x,x-y,z
"""
FRACTIONS = "_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"
SITES = "loop_\n_atom_site_label\n_atom_site_type_symbol\n" + FRACTIONS
CADMIUM_IODIDE = "Cd1 Cd 0 0 0\nI1 I 0.3333 0.6667 0.2492\n"


def cif(symmetry=TRIGONAL, sites=SITES + CADMIUM_IODIDE, cell=CELL, more="", head="data_CdI2\n"):
    return head + cell + more + symmetry + sites


def occupied(*rows):
    """Sites with their occupancies."""
    return SITES + "_atom_site_occupancy\n" + "\n".join(rows) + "\n"


def without(tag, text=None):
    return "".join(line for line in (text or cif()).splitlines(keepends=True) if not line.startswith(tag))


def write(folder, text, name="crystal.cif"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def pymatgen_reads(path):
    """Return what pymatgen makes of the file, without oxidation states, and its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        structure = Structure.from_file(path)
    structure.remove_oxidation_states()
    return structure, [str(warning.message) for warning in caught]


def assert_same_crystal(crystal, expected):
    """Of the fractional coordinates the last bits may differ: they depend on the order of sums."""
    assert crystal.atomic_numbers.tolist() == [site.specie.Z for site in expected]
    assert crystal.atomic_numbers.dtype == np.uint8
    assert np.array_equal(crystal.lattice, expected.lattice.matrix)
    difference = crystal.frac_coords - expected.frac_coords
    assert np.abs(difference - np.round(difference)).max() < 1e-15
    structure = crystal.to_structure()
    assert structure == expected
    assert structure.labels == expected.labels


# ---------------------------------------------------------------------- what pymatgen writes


@pytest.mark.parametrize("symprec", [None, 0.01, 0.1])
def test_what_pymatgen_writes_is_read_by_gemmi(prototypes, tmp_path, symprec):
    offset = {None: 0, 0.01: 1, 0.1: 2}[symprec]
    for number, structure in enumerate(prototypes[offset::20]):
        path = str(tmp_path / f"{number}.cif")
        structure.to(path, **({} if symprec is None else {"symprec": symprec}))
        crystal = read_cif(path)
        assert crystal is not None
        assert_same_crystal(crystal, pymatgen_reads(path)[0])


def test_many_sites_without_symmetry(tmp_path):
    """They are compared by sorting, not pair by pair."""
    supercell = Structure(Lattice.orthorhombic(5, 5.1, 5.2), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.51, 0.52]]) * (4, 4, 4)
    path = str(tmp_path / "supercell.cif")
    supercell.to(path)
    assert_same_crystal(read_cif(path), pymatgen_reads(path)[0])
    twice = supercell.copy()
    twice.append("Cl", twice[100].frac_coords + np.array([0, 1, 0.00001]))
    twice.to(path)
    assert read_cif(path) is None


def test_oxidation_states_decide_the_order_but_are_dropped(tmp_path):
    magnetite = Structure(
        Lattice.cubic(6), ["O2-", "Fe3+", "Fe2+", "Fe3+"], [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    )
    path = str(tmp_path / "magnetite.cif")
    magnetite.to(path)
    crystal = read_cif(path)
    assert crystal.frac_coords[0].tolist() == [0.5, 0, 0.5]  # Fe2+ before Fe3+
    assert_same_crystal(crystal, pymatgen_reads(path)[0])
    [structure] = check_structures([path])
    assert structure == pymatgen_reads(path)[0]


# ---------------------------------------------------------------------- what others write

GALLIUM_SITES = SITES + "Ga1 Ga 0 0 0.1\n"
PLAIN = {
    "as it comes": cif(),
    "comments": "# by hand\n#  # twice\n" + cif(head="data_CdI2\n# cell:\n  # in Å\n".replace("Å", "A")),
    "Windows": cif().replace("\n", "\r\n"),
    "tabs and blank lines": cif().replace(" ", "\t ").replace("_cell", "\n \n_cell"),
    "no end of line": cif().rstrip("\n"),
    "name of the block": cif(head="data_\n"),
    "data in a name": cif(more="_refinement_data_file 'my data_7'\n"),
    "text field": cif(more="_publ_section_title\n;\nOn 'cadmium\n_iodide 5\n;\n"),
    "uncertainties": cif().replace("0.2492", "0.2492(3)").replace(" 6.7", " 6.71(12)"),
    "dots for zero": cif(sites=SITES + "Cd1 Cd . . .\nI1 I 0.3333 0.6667 0.25\n"),
    "quoted numbers": cif().replace("0.2492", "'0.2492'").replace(" 120", ' "120"'),
    "exponents": cif().replace("0.2492", "2.492e-1").replace(" 6.7", " +.67E1"),
    "negative coordinates": cif().replace("0.2492", "-0.7508").replace("Cd 0 0 0", "Cd -1 0 -0.0"),
    "beyond the cell": cif().replace("0.2492", "3.2492"),
    "rounded thirds": cif().replace("0.3333 0.6667", "0.33333 0.66667"),
    "thirds that are not rounded": cif().replace("0.3333 0.6667", "0.333 0.667"),
    "just below one": cif(P1, SITES + "Cd1 Cd 0.99999999 0 0\nI1 I 0.5 0.5 0.5\n"),
    "full occupancies": cif(sites=occupied("Cd1 Cd 0 0 0 1.000", "I1 I 0.3333 0.6667 0.25 1.0(0)")),
    "charges": cif().replace("Cd1 Cd", "Cd1 Cd2+").replace("I1 I", "I1 I1-"),
    "signs before charges": cif().replace("Cd1 Cd", "Cd1 Cd+2").replace("I1 I", "I1 I-"),
    "charges that are not whole": cif().replace("Cd1 Cd", "Cd1 Cd1.67+").replace("I1 I", "I1 I0.83-"),
    "numbers after symbols": cif().replace("Cd1 Cd", "Cd1 Cd1").replace("I1 I", "I1 I12"),
    "quoted labels": cif().replace("Cd1 Cd", '"Cd 1" Cd').replace("I1 I", "'I1' I"),
    "labels of another kind": cif().replace("Cd1 Cd", "(a) Cd").replace("I1 I", "x2* I"),
    "anions first": cif(sites=SITES + "I1 I 0.3333 0.6667 0.25\nCd1 Cd 0 0 0\n"),
    "formula": cif(more="_chemical_formula_sum 'Cd I2'\n"),
    "structural formula": cif(more="_chemical_formula_structural CdI2\n"),
    "other columns, other order": cif(
        sites="loop_\n_atom_site_fract_z\n_atom_site_U_iso\n_atom_site_type_symbol\n_atom_site_fract_y\n_atom_site_label\n"
        "_atom_site_fract_x\n0 ? Cd 0 Cd1 0\n0.25 0.01 I 0.6667 I1 0.3333\n"
        "loop_\n_atom_site_aniso_label\n_atom_site_aniso_U_11\nCd1 0.01\nI1 0.02\n"
    ),
    "tags in upper case that pymatgen overlooks": cif(more="_ATOM_SITE_OCCUPANCY 0.5\n"),
    "newer name of the operations": cif(TRIGONAL.replace("_symmetry_equiv_pos_as", "_space_group_symop_operation")),
    "spaces, capitals, decimals": cif(
        "loop_\n_symmetry_equiv_pos_as_xyz\n'+X, +Y, +Z'\n' -x , -y , 0.5+z '\n",
        SITES + "Cd1 Cd 0.1 0.2 0\nI1 I 0 0 0.25\n",
    ),
    "operations without translation first": cif(
        "loop_\n_symmetry_equiv_pos_as_xyz\n'-x,-y,-z'\n'x,y,z'\n", SITES + "Cd1 Cd 0.1 0.2 0\nI1 I 0 0 0.5\n"
    ),
    "operations win over the name": cif(more="_symmetry_space_group_name_H-M 'P 1'\n"),
    "name of the space group": cif("_symmetry_space_group_name_H-M 'P -3 m 1'\n"),
    "newer name of the space group": cif("_space_group_name_H-M_alt 'P -3 m 1'\n"),
    "name without spaces": cif("_symmetry_space_group_name_H-M P-3m1\n"),
    "number of the space group": cif("_symmetry_Int_Tables_number 164\n"),
    "newer number of the space group": cif("_space_group_IT_number 164\n"),
    "name before number": cif("_space_group_IT_number 1\n_symmetry_space_group_name_H-M 'P -3 m 1'\n"),
    "hexagonal axes": cif("_symmetry_space_group_name_H-M 'R -3 m'\n", GALLIUM_SITES),
    "rhombohedral group by number": cif("_symmetry_Int_Tables_number 166\n", GALLIUM_SITES),
}


@pytest.mark.parametrize("text", PLAIN.values(), ids=PLAIN)
def test_plain_file_is_read_by_gemmi(tmp_path, text):
    path = write(tmp_path, text)
    expected, _ = pymatgen_reads(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is wrong with the file
        crystal = read_cif(path)
    assert crystal is not None
    assert_same_crystal(crystal, expected)


def test_uncertain_cell_is_the_cell_of_pymatgen_to_the_last_bit(tmp_path):
    rng = np.random.default_rng(0)
    for _ in range(50):
        lengths, angles = rng.uniform(3, 20, 3), rng.uniform(75, 105, 3)
        values = zip(CELL.split()[::2], [*lengths, *angles], strict=True)
        cell = "".join(f"{tag} {value:.5f}\n" for tag, value in values)
        path = write(tmp_path, cif(P1, cell=cell))
        assert np.array_equal(read_cif(path).lattice, pymatgen_reads(path)[0].lattice.matrix)


# ---------------------------------------------------------------------- sites on special positions


@pytest.mark.parametrize("off", [0, 1e-8, 2e-5, 3.3e-5, 4.9e-5, 5e-5, 5.1e-5, 9.9e-5, 1e-4, 1.01e-4, 2e-4, 1e-3])
@pytest.mark.parametrize(
    "place", [(0.1, 0.2, 0.3), (0, 0, 0.3), (0.5, 0, 0), (0.999, 0.001, 0.5), (0.12345, 0.87655, 0)]
)
def test_images_merge_as_in_pymatgen(tmp_path, place, off):
    """On either side of the tolerance, on and off axes and mirrors of P-3m1."""
    x, y, z = place
    sites = SITES + f"Cd1 Cd {x + off:.7f} {y:.7f} {z:.7f}\nI1 I 0.3333 0.6667 {0.7 + off:.7f}\n"
    path = write(tmp_path, cif(sites=sites))
    arrays = crystal_arrays(path)
    expected, _ = pymatgen_reads(path)
    assert arrays.atomic_numbers.tolist() == list(expected.atomic_numbers)
    assert np.abs(arrays.positions - expected.cart_coords).max() < 1e-12


def test_images_are_merged_across_the_boundary_of_the_cell():
    operations = operations_of(values_of(b"data_x\nloop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\n-x,y,z\n"))
    coords, counts = expand(np.array([[0.00003, 0.5], [0.2, 0.2], [0.3, 0.3]]), operations)
    assert counts.tolist() == [1, 1]
    assert coords.tolist() == [[0.00003, 0.2, 0.3], [0.5, 0.2, 0.3]]


@pytest.mark.parametrize("off", [0.9e-4, 0.99999e-4, 1.00001e-4, 1.1e-4])
def test_tolerance_of_two_sites(off):
    coords = np.array([[0.1, 0.1 + off], [0.2, 0.2], [0.3, 0.3]])
    if off > 1e-4:
        assert len(expand(coords, None)[0]) == 2
    else:
        with pytest.raises(NotPlainError, match="several sites at one place"):
            expand(coords, None)


def test_images_of_two_sites_at_one_place_are_for_pymatgen():
    operations = operations_of(values_of(b"data_x\nloop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\n-x,-y,-z\n"))
    coords = np.array([[0.1, 0.9], [0.2, 0.8], [0.3, 0.69995]])
    with pytest.raises(NotPlainError, match="several sites at one place"):
        expand(coords, operations)
    coords[2, 1] = 0.6998
    assert len(expand(coords, operations)[0]) == 4


# ---------------------------------------------------------------------- odd files

HALVES = ("Cd1 Cd 0 0 0 0.5", "Zn1 Zn 0 0 0 0.5", "I1 I 0.3333 0.6667 0.25 1")
ODD = {
    "empty": "",
    "blank": "\n\n",
    "binary": bytes(range(256)),
    "byte order mark": b"\xef\xbb\xbf" + cif().encode(),
    "UTF-16": cif().encode("utf-16"),
    "not ASCII in a value": cif(more="_publ_author_name 'Müller'\n"),
    "not ASCII in a number": cif().replace("0.2492", "0.24\u00a092"),
    "old Macintosh": cif().replace("\n", "\r"),
    "form feed": cif().replace("0.6667 ", "0.6667\f"),
    "not a CIF": "Cd I\n1.0\n4 0 0\n0 4 0\n0 0 4\n",
    "two blocks": cif() + cif(head="data_other\n").replace("0.2492", "0.3"),
    "block without a crystal first": "data_global\n_journal_year 2001\n" + cif(),
    "block in a text field": cif(more="_publ_section_title\n;\ndata_7 is\n;\n"),
    "powder pattern": cif(head="data_powder_pattern\n"),
    "block in upper case": cif(head="DATA_CdI2\n"),
    "block in upper case, and another in a value": cif(head="DATA_CdI2\n", more="_journal_name 'data_7'\n"),
    "loop in upper case": cif().replace("loop_", "LOOP_"),
    "loop in upper case, and another in a value": cif().replace("loop_", "LOOP_", 1) + "_journal_name 'loop_7'\n",
    "loop in a text field": cif(more="_publ_section_title\n;\nloop_ it\n;\n"),
    "stop": cif(more="loop_\n_a\n_b\n1 2\nstop_\n"),
    "save frame": cif(more="save_x\n_a 1\nsave_\n"),
    "end": cif(more="_eof 1\n"),
    "tags in upper case": cif().replace("_atom_site_fract", "_ATOM_SITE_FRACT"),
    "comment in a line": cif().replace("0.2492", "0.2492 # refined"),
    "comment in quotes": cif(more="_publ_author_name 'Doe, #2'\n"),
    "garbage before": "from the web\n" + cif(),
    "garbage after": cif() + "</html>\n",
    "garbage between": cif(more="hello\n"),
    "truncated row": cif()[:-8],
    "truncated header": cif()[:40],
    "unfinished quote": cif(more="_publ_author_name 'Doe\n"),
    "tag without value": cif(more="_journal_year\n"),
    "tag twice": cif(more="_cell_length_a 5\n"),
    "row too short": cif().replace(" 0.2492", ""),
    "loop without rows": cif(more="loop_\n_atom_type_symbol\n"),
    "no sites": cif(sites=""),
    "no cell length": without("_cell_length_b"),
    "no cell angle": without("_cell_angle_gamma"),
    "cell by its kind only": without("_cell_angle", cif(more="_symmetry_cell_setting hexagonal\n")),
    "unknown cell length": cif().replace("_cell_length_a 4.1", "_cell_length_a ?"),
    "negative cell length": cif().replace("_cell_length_a 4.1", "_cell_length_a -4.1"),
    "no volume": cif().replace("_cell_angle_gamma 120", "_cell_angle_gamma 0"),
    "angles that make no cell": cif().replace("_alpha 90", "_alpha 10").replace("_beta 90", "_beta 20"),
    "flat cell": cif().replace("_cell_length_c 6.7", "_cell_length_c 0.005"),
    "cell that is flat by its angles": cif().replace(" 90", " 60").replace("120", "119.99999999"),
    "NaN for a cell length": cif().replace("_cell_length_c 6.7", "_cell_length_c nan"),
    "NaN for a cell angle": cif().replace("_cell_angle_gamma 120", "_cell_angle_gamma nan"),
    "infinite cell": cif().replace("_cell_length_c 6.7", "_cell_length_c inf"),
    "cell in a loop": cif(P1, cell="").replace("loop_", "loop_\n_cell_length_a\n4\nloop_", 1),
    "no column": without("_atom_site_fract_z").replace(" 0.2492", "").replace("0 0 0", "0 0"),
    "no labels": without("_atom_site_label").replace("Cd1 ", "").replace("I1 ", ""),
    "no type symbols": without("_atom_site_type").replace("Cd1 Cd", "Cd1").replace("I1 I", "I1"),
    "labels that look like other elements": cif(
        sites="loop_\n_atom_site_label\n" + FRACTIONS + "CA1 0 0 0\nOW1 0.5 0 0\n"
    ),
    "one site, no loop": cif(
        sites="_atom_site_label Cd1\n_atom_site_type_symbol Cd\n_atom_site_fract_x 0\n_atom_site_fract_y 0\n"
        "_atom_site_fract_z 0\n"
    ),
    "type symbols in a loop of their own": cif(
        sites="loop_\n_atom_site_label\n" + FRACTIONS + "a 0 0 0\nb 0.5 0 0\nloop_\n_atom_site_type_symbol\nCd\nI\nI\n"
    ),
    "unknown coordinate": cif().replace("0.2492", "?"),
    "coordinate that is no number": cif().replace("0.2492", "1/4"),
    "NaN": cif().replace("0.2492", "nan"),
    "NaN without symmetry": cif(P1).replace("0.2492", "nan"),
    "infinite coordinate": cif().replace("0.2492", "inf"),
    "dummy atom": cif().replace("I1 I", "X1 X"),
    "deuterium": cif().replace("I1 I", "D1 D"),
    "tritium": cif().replace("I1 I", "T1 T"),
    "unknown symbol": cif().replace("I1 I", "Q1 Qq"),
    "question mark for a symbol": cif().replace("I1 I", "I1 ?"),
    "symbols in upper case": cif().replace("Cd1 Cd", "CD1 CD"),
    "symbols in lower case": cif().replace("Cd1 Cd", "cd1 cd"),
    "symbol of a pseudopotential": cif().replace("Cd1 Cd", "Cd1 Cd_pv"),
    "water": cif().replace("I1 I", "O1 OH2"),
    "two elements in a symbol": cif(sites=occupied("Cd1 '0.8Cd + 0.2Zn' 0 0 0 1", "I1 I 0.5 0 0 1")),
    "no electronegativity": cif().replace("Cd1 Cd", "He1 He").replace("I1 I", "Ne1 Ne"),
    "half occupied": cif(sites=occupied("Cd1 Cd 0 0 0 0.5", "I1 I 0.3333 0.6667 0.25 1")),
    "shared site": cif(sites=occupied(*HALVES)),
    "site twice": cif(sites=occupied("Cd1 Cd 0 0 0 1", "Cd2 Cd 0 0 1 1", "I1 I 0.5 0 0 1")),
    "site twice by its image": cif(sites=occupied("Cd1 Cd 0 0 0.1 1", "Cd2 Cd 0 0 0.9 1", "I1 I 0.5 0 0 1")),
    "half a site twice": cif(sites=occupied("Cd1 Cd 0 0 0 0.5", "Cd2 Cd 0 0 0 0.5", "I1 I 0.5 0 0 1")),
    "overfull": cif(sites=occupied("Cd1 Cd 0 0 0 1.2", "I1 I 0.5 0 0 1")),
    "empty site": cif(sites=occupied("Cd1 Cd 0 0 0 1", "I1 I 0.3333 0.6667 0.25 0")),
    "unknown occupancy": cif(sites=occupied("Cd1 Cd 0 0 0 ?", "I1 I 0.3333 0.6667 0.25 1")),
    "occupancy outside of the loop": cif(more="_atom_site_occupancy 1\n"),
    "hydrogens without sites": cif(
        sites=SITES + "_atom_site_attached_hydrogens\nCd1 Cd 0 0 0 0\nO1 O 0.3333 0.6667 0.25 1\n"
    ),
    "magnetic": cif() + "loop_\n_atom_site_moment_label\n_atom_site_moment_crystalaxis_x\n"
    "_atom_site_moment_crystalaxis_y\n_atom_site_moment_crystalaxis_z\nCd1 0 0 1\n",
    "magnetic group": cif(more="_space_group_magn.number_BNS 164.85\n"),
    "no symmetry": cif(""),
    "unknown symmetry": cif("_symmetry_space_group_name_H-M ?\n"),
    "unknown space group": cif("_symmetry_space_group_name_H-M 'P 7'\n"),
    "setting of a space group": cif("_symmetry_space_group_name_H-M 'R -3 m :R'\n", GALLIUM_SITES),
    "Hall symbol": cif("_space_group_name_Hall '-P 3 2='\n"),
    "impossible number": cif("_symmetry_Int_Tables_number 231\n"),
    "one operation, no loop": cif("_symmetry_equiv_pos_as_xyz 'x, y, z'\n"),
    "nonsense for operations": cif("loop_\n_symmetry_equiv_pos_as_xyz\nfoo\n"),
    "division by zero": cif("loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\nx+1/0,y,z\n"),
    "operations without the identity": cif("loop_\n_symmetry_equiv_pos_as_xyz\n-x,-y,-z\n"),
    "operations by another name": cif("loop_\n_space_group_symop.operation_xyz\nx,y,z\n-x,-y,-z\n"),
    "unknown oxidation state": cif(
        more="loop_\n_atom_type_symbol\n_atom_type_oxidation_number\nCd2+ 2\nI1- ?\n",
        sites=SITES + "Cd1 Cd2+ 0 0 0\nI1 I1- 0.3333 0.6667 0.25\n",
    ),
    "formula of something else": cif(more="_chemical_formula_sum 'Cd (O H)2'\n"),
    "atoms too close": cif(P1, SITES + "Cd1 Cd 0 0 0\nI1 I 0.001 0 0\n"),
}
PLAIN_BUT_WRONG = ("atoms too close",)  # what is wrong with it is found by the search for neighbours


def outcome(function, *arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return function(*arguments)
        except Exception as error:
            return error


@pytest.mark.parametrize("name", ODD)
def test_odd_file_is_left_to_pymatgen(tmp_path, name):
    path = write(tmp_path, ODD[name])
    if name not in PLAIN_BUT_WRONG:
        assert outcome(read_cif, path) is None
    expected = outcome(Structure.from_file, path)
    arrays = outcome(crystal_arrays, path, 3)
    checked = outcome(check_structures, [path])
    if isinstance(expected, Exception):
        for result in (arrays, checked):
            assert isinstance(result, InvalidStructureError)
            assert f"cannot read a crystal from {path!r}: {expected}" in str(result)
        assert arrays.index == 3
    else:
        same = outcome(crystal_arrays, expected, 3)
        if isinstance(same, Exception):
            assert (type(arrays), str(arrays)) == (type(same), str(same))
        else:
            assert all(np.array_equal(*pair) for pair in zip(arrays, same, strict=True))
        same = outcome(check_structures, [expected])
        assert (str(checked) == str(same)) if isinstance(same, Exception) else (checked == same)


@pytest.mark.parametrize(
    ("formula", "reason"),
    [
        ("'Cd I2 H2'", "Missing elements H"),
        ("Cd", "Missing elements I"),
        ("'Cd I4'", "Incorrect stoichiometry"),
    ],
)
def test_pymatgen_still_warns_of_what_is_missing(tmp_path, formula, reason):
    path = write(tmp_path, cif(more=f"_chemical_formula_sum {formula}\n"))
    with pytest.warns(UserWarning, match=reason):
        arrays = crystal_arrays(path)
    assert np.array_equal(arrays.lattice, crystal_arrays(write(tmp_path, cif())).lattice)


def test_reason_of_pymatgens_turn_is_given():
    with pytest.raises(NotPlainError, match="a site that is not fully occupied"):
        parse_cif(ODD["half occupied"].encode())
    with pytest.raises(NotPlainError, match="'Cd_pv' is not plainly an element"):
        parse_cif(ODD["symbol of a pseudopotential"].encode())


# ---------------------------------------------------------------------- on the way to graphs


def test_graphs_of_files_are_those_of_structures(prototypes, tmp_path):
    paths = []
    for number, structure in enumerate(prototypes[5::48]):
        paths.append(tmp_path / f"{number}.cif")
        structure.to(str(paths[-1]), symprec=0.01)
    transformer = CrystalGraphTransformer()
    ours = transformer.transform(paths)
    theirs = transformer.transform([pymatgen_reads(path)[0] for path in paths])
    for name in ("atomic_numbers", "neighbors", "images", "atom_offsets", "edge_offsets"):
        assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name
    assert np.abs(ours.distances - theirs.distances).max() < 1e-6
    assert np.array_equal(ours.lattice, theirs.lattice)


@pytest.mark.parametrize("name", ["crystal.cif", "CRYSTAL.CIF", "POSCAR.cif"])
def test_plain_file_does_without_pymatgens_reader(tmp_path, monkeypatch, name):
    path = write(tmp_path, cif(), name)
    expected, _ = pymatgen_reads(path)

    def refuse(*arguments, **parameters):
        raise AssertionError("pymatgen reads the file")

    monkeypatch.setattr(Structure, "from_file", refuse)
    assert crystal_arrays(path).atomic_numbers.tolist() == [48, 53, 53]
    assert check_structures([path]) == [expected]


@pytest.mark.parametrize(("name", "compress"), [("crystal.cif.gz", gzip.compress), ("crystal.cif.bz2", bz2.compress)])
def test_compressed_files_are_read(tmp_path, name, compress):
    path = write(tmp_path, compress(cif().encode()), name)
    plain = crystal_arrays(write(tmp_path, cif()))
    assert all(np.allclose(*pair, atol=1e-12) for pair in zip(crystal_arrays(path), plain, strict=True))
