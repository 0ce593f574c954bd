"""CIF files: the crystal that pymatgen reads where it is right, the right one where it is not, or an error by name."""

from __future__ import annotations

import bz2
import gzip
import lzma
import warnings
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from crystalssl import CrystalGraphTransformer, check_structures
from crystalssl.exceptions import InvalidStructureError
from crystalssl.graphs import LIMITS
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
    """Return what pymatgen makes of the file, without oxidation states."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        structure = Structure.from_file(path)
    structure.remove_oxidation_states()
    return structure


def assert_same_crystal(crystal, expected, tolerance=1e-3):
    """The same cell, and the same atoms within a tolerance in Å."""
    assert np.allclose(Lattice(crystal.lattice).parameters, expected.lattice.parameters, atol=1e-6)
    numbers, fractions = np.array(expected.atomic_numbers), crystal.positions @ np.linalg.inv(crystal.lattice)
    assert sorted(crystal.atomic_numbers.tolist()) == sorted(numbers.tolist())
    for number in set(numbers.tolist()):
        off = fractions[crystal.atomic_numbers == number][:, None] - expected.frac_coords[numbers == number]
        distances = np.linalg.norm((off - np.rint(off)) @ crystal.lattice, axis=2)
        assert distances.min(axis=0).max() < tolerance
        assert distances.min(axis=1).max() < tolerance


def composition(text):
    """Return formula and volume of what a text gives."""
    [structure] = check_structures([text])
    return structure.formula, structure.volume


def shells(text, n):
    """Return the n distances next to each atom."""
    graphs = CrystalGraphTransformer("megnet").transform([text])
    return np.array(
        [np.sort(graphs.distances[a:b])[:n] for a, b in zip(graphs.edge_offsets, graphs.edge_offsets[1:], strict=False)]
    )


# ---------------------------------------------------------------------- what pymatgen writes


@pytest.mark.parametrize("symprec", [None, 0.01, 0.1])
def test_what_pymatgen_writes_is_read_alike(prototypes, crystals, tmp_path, symprec):
    offset = {None: 0, 0.01: 1, 0.1: 2}[symprec]
    path = str(tmp_path / "crystal.cif")
    for structure in [*prototypes[offset::20], *crystals[offset::100]]:
        structure.to(path, **({} if symprec is None else {"symprec": symprec}))
        assert_same_crystal(crystal_arrays(path), pymatgen_reads(path))


def test_oxidation_states_are_dropped(tmp_path):
    magnetite = Structure(
        Lattice.cubic(6), ["O2-", "Fe3+", "Fe2+", "Fe3+"], [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    )
    path = str(tmp_path / "magnetite.cif")
    magnetite.to(path)
    [structure] = check_structures([path])
    assert structure.formula == "Fe3 O1"
    assert all(site.species_string in ("Fe", "O") for site in structure)


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
    "hexagonal axes": cif("_symmetry_space_group_name_H-M 'R -3 m'\n", GALLIUM_SITES),
    "rhombohedral group by number": cif("_symmetry_Int_Tables_number 166\n", GALLIUM_SITES),
}


@pytest.mark.parametrize("text", PLAIN.values(), ids=PLAIN)
def test_plain_file_is_read_as_by_pymatgen(tmp_path, text):
    path = write(tmp_path, text)
    expected = pymatgen_reads(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is wrong with the file
        assert_same_crystal(crystal_arrays(path), expected)


AS_CDI2 = {
    "byte-order mark": b"\xef\xbb\xbf" + cif().encode(),
    "tags in upper case": cif().replace("_atom_site_fract", "_ATOM_SITE_FRACT").replace("_cell", "_Cell"),
    "keywords in upper case": cif(head="DATA_CdI2\n").replace("loop_", "LOOP_"),
    "not ASCII in a value": cif(more="_publ_author_name 'Müller'\n"),
    "text field with keywords": cif(more="_publ_section_title\n;\ndata_7 is\nloop_ it\n;\n"),
    "comment in a line": cif().replace("0.2492", "0.2492 # refined"),
    "block without a crystal first": "data_global\n_journal_year 2001\n" + cif(),
    "symbols in upper case": cif().replace("Cd1 Cd", "CD1 CD"),
    "symbols in lower case": cif().replace("Cd1 Cd", "cd1 cd"),
    "symbol of a pseudopotential": cif().replace("Cd1 Cd", "Cd1 Cd_pv"),
    "no labels": without("_atom_site_label").replace("Cd1 ", "").replace("I1 ", ""),
    "no type symbols": without("_atom_site_type").replace("Cd1 Cd", "Cd1").replace("I1 I", "I1A"),
    "question marks for symbols": cif().replace("Cd1 Cd", "Cd1 ?").replace("I1 I", "I1 ."),
    "dot for an occupancy": cif(sites=occupied("Cd1 Cd 0 0 0 .", "I1 I 0.3333 0.6667 0.2492 1")),
    "question mark for an occupancy": cif(sites=occupied("Cd1 Cd 0 0 0 ?", "I1 I 0.3333 0.6667 0.2492 1")),
    "rounded occupancy": cif(sites=occupied("Cd1 Cd 0 0 0 0.9999", "I1 I 0.3333 0.6667 0.2492 0.999(2)")),
    "empty site": cif(sites=occupied("Cd1 Cd 0 0 0 1", "I1 I 0.3333 0.6667 0.2492 1", "Zn1 Zn 0.1 0.2 0.3 0")),
    "ions of one element": cif(
        sites=occupied("Cd1 Cd1+ 0 0 0 0.5", "Cd2 Cd3+ 0 0 1 0.5", "I1 I 0.3333 0.6667 0.2492 1")
    ),
    "thirds of three rows": cif(
        sites=occupied(*(f"Cd{i} Cd{i}+ 0 0 0 0.333" for i in "123"), "I1 I 0.3333 0.6667 0.2492 1")
    ),
    "ions at images of each other": cif(
        sites=occupied("Cd1 Cd 0 0 0 1", "I1 I0+ 0.3333 0.6667 0.2492 0.5", "I2 I1- 0.6667 0.3333 0.7508 0.5")
    ),
    "operations twice": cif(TRIGONAL + "13 x,y,z\n14 -x,-y,-z+1\n"),
    "quoted operations": cif(TRIGONAL.replace("-y,x-y,z", "'-Y, X - Y, +Z'")),
    "operations in thirds of the coordinates": cif().replace("0.3333 0.6667", "0.333 0.667"),
    "Hall symbol": cif("_space_group_name_Hall '-P 3 2\"'\n"),
    "Hall symbol with an older sign": cif("_symmetry_space_group_name_Hall '-P 3 2='\n"),
    "name with underscores": cif("_symmetry_space_group_name_H-M P_-3_m_1\n"),
    "unknown name, operations listed": cif("_symmetry_space_group_name_H-M 'P 7'\n" + TRIGONAL),
    "unknown oxidation state": cif(more="loop_\n_atom_type_symbol\n_atom_type_oxidation_number\nCd ?\nI -1\n"),
}


@pytest.mark.parametrize("text", AS_CDI2.values(), ids=AS_CDI2)
def test_other_spellings_are_the_same_crystal(tmp_path, text):
    path = write(tmp_path, text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        crystal = crystal_arrays(path)
    expected = crystal_arrays(write(tmp_path, cif(), "plain.cif"))
    assert sorted(crystal.atomic_numbers.tolist()) == [48, 53, 53]
    assert_same_crystal(
        crystal, Structure(expected.lattice, ["Cd", "I", "I"], expected.positions, coords_are_cartesian=True), 0.01
    )


def test_isotopes_of_one_element_are_it():
    sites = occupied("D1 D 0 0 0 0.7", "H1 H 0 0 0 0.3", "F1 F 0.3333 0.6667 0.25 1")
    assert composition(cif(sites=sites))[0] == "H1 F2"
    assert composition(cif(sites=SITES + "T1 T 0 0 0\nF1 F 0.3333 0.6667 0.25\n"))[0] == "H1 F2"


# ---------------------------------------------------------------------- space groups by name


def cell(a, b, c, alpha=90, beta=90, gamma=90):
    values = zip(CELL.split()[::2], (a, b, c, alpha, beta, gamma), strict=True)
    return "".join(f"{tag} {value}\n" for tag, value in values)


def named(name, its_cell, *sites, tag="_symmetry_space_group_name_H-M"):
    return cif(f"{tag} {name!r}\n", SITES + "\n".join(sites) + "\n", its_cell)


RHOMBOHEDRAL, HEXAGONAL = cell(4.7236, 4.7236, 4.7236, 57.35, 57.35, 57.35), cell(4.5332, 4.5332, 11.7967, gamma=120)
BISMUTH = {
    **{
        f"{name}, rhombohedral": (named(name, RHOMBOHEDRAL, "Bi1 Bi 0.234 0.234 0.234"), "Bi2")
        for name in ("R -3 m", "R-3m:R", "R -3 m :R", "R -3 m R")
    },
    **{
        f"{name}, hexagonal": (named(name, HEXAGONAL, "Bi1 Bi 0 0 0.234"), "Bi6")
        for name in ("R -3 m", "R-3m:H", "R -3 m H", "R-3mH", "H -3 m")
    },
}


@pytest.mark.parametrize(("text", "formula"), BISMUTH.values(), ids=BISMUTH)
def test_axes_of_rhombohedral_groups_are_those_of_the_cell(text, formula):
    found, volume = composition(text)
    assert found == formula
    assert volume == pytest.approx(35 * int(formula[2:]), rel=0.01)
    assert shells(text, 3) == pytest.approx(3.062, abs=0.01)


SILICON = {
    **dict.fromkeys(
        ("F d -3 m :1", "Fd-3m:1", "F d -3 m S", "F d -3 m O1", "F d -3 m (origin choice 1)", "F d 3 m :1"), "0 0 0"
    ),
    **dict.fromkeys(("F d -3 m :2", "Fd-3m:2", "F d -3 m Z", "F d -3 m :O2", "Fd3m:2"), "0.125 0.125 0.125"),
}


@pytest.mark.parametrize("name", SILICON)
def test_origin_is_the_named_one(name):
    text = named(name, cell(5.431, 5.431, 5.431), f"Si1 Si {SILICON[name]}")
    assert composition(text) == ("Si8", pytest.approx(5.431**3))
    assert shells(text, 4) == pytest.approx(5.431 * np.sqrt(3) / 4, abs=1e-4)


@pytest.mark.parametrize("said", [("_symmetry_space_group_name_H-M", "'F d -3 m'"), ("_space_group_IT_number", "227")])
@pytest.mark.parametrize("x", [0, 0.125])
def test_origin_that_is_not_decided_is_refused(tmp_path, said, x):
    text = cif(f"{said[0]} {said[1]}\n", SITES + f"Si1 Si {x} {x} {x}\n", cell(5.431, 5.431, 5.431))
    path = write(tmp_path, text)
    reason = r"item 2: cannot.*crystal\.cif.*several settings.*name the setting"
    with pytest.raises(InvalidStructureError, match=reason) as caught:
        crystal_arrays(path, 2)
    assert caught.value.index == 2


def test_origin_that_does_not_matter_is_not_asked_for():
    """A site on which both origins make the same atoms, at 3/8 and 7/8 of the cell's diagonal."""
    text = named(
        "P n -3 n", cell(6, 6, 6), "Po1 Po 0 0 0", "Po2 Po 0.5 0 0", "Po3 Po 0.25 0.25 0.25", "Po4 Po 0.25 0.25 0"
    )
    with pytest.raises(InvalidStructureError, match="several settings"):
        check_structures([text])
    both = [named(f"P m -3 m{end}", cell(4, 4, 4), "Po1 Po 0 0 0") for end in ("", " ")]
    assert composition(both[0]) == composition(both[1]) == ("Po1", pytest.approx(64))


MONOCLINIC = cell(5, 6, 7, beta=105)
SETTINGS = {
    "P 21/c": ("P 1 21/c 1", MONOCLINIC),
    "P21/n": ("P 1 21/n 1", MONOCLINIC),
    "P 2_1/a": ("P 1 21/a 1", MONOCLINIC),
    "P2(1)/c": ("P 1 21/c 1", MONOCLINIC),
    "C 2/c": ("C 1 2/c 1", MONOCLINIC),
    "I 2/a": ("I 1 2/a 1", MONOCLINIC),
    "P 21/b": ("P 1 1 21/b", cell(5, 6, 7, gamma=105)),
    "P 21/n": ("P 1 1 21/n", cell(5, 6, 7, gamma=105)),
    "B 2/b": ("B 1 1 2/b", cell(5, 6, 7, gamma=105)),
    "P 21/c ": ("P 21/c 1 1", cell(5, 6, 7, alpha=105)),
    "Pbnm": ("P b n m", cell(5, 6, 7)),
    "C m c e": ("C m c a", cell(5, 6, 7)),
    "F m 3 m": ("F m -3 m", cell(8, 8, 8)),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_named_setting_has_the_operations_that_gemmi_knows(name):
    import gemmi

    full, its_cell = SETTINGS[name]
    sites = ("Cd1 Cd 0.11 0.23 0.31",)
    group = gemmi.SpaceGroup(full)
    listed = cif(
        "loop_\n_symmetry_equiv_pos_as_xyz\n" + "".join(f"{op.triplet()}\n" for op in group.operations()),
        SITES + sites[0] + "\n",
        its_cell,
    )
    expected = check_structures([listed])[0]
    assert len(expected) == len(group.operations())
    assert_same_crystal(crystal_arrays(named(name, its_cell, *sites)), expected)


def test_number_alone_is_the_standard_setting_and_a_warning(tmp_path):
    path = write(tmp_path, cif("_space_group_IT_number 62\n", SITES + "Cd1 Cd 0.11 0.25 0.31\n", cell(5, 6, 7)))
    with pytest.warns(UserWarning, match=r"item 4, '.*crystal\.cif': it gives space group 62 without its setting"):
        crystal = crystal_arrays(path, 4)
    assert_same_crystal(crystal, check_structures([named("P n m a", cell(5, 6, 7), "Cd1 Cd 0.11 0.25 0.31")])[0])


def test_no_symmetry_at_all_means_all_atoms_and_a_warning(tmp_path):
    path = write(tmp_path, cif(""))
    with pytest.warns(UserWarning, match=r"item 0, '.*crystal\.cif': it says nothing about symmetry"):
        assert crystal_arrays(path).atomic_numbers.tolist() == [48, 53]


# ---------------------------------------------------------------------- special positions


@pytest.mark.parametrize(
    ("third", "half"), [("1/3", "1/2"), ("0.3333", ".5"), ("0.33", "0.50"), ("333/999", "499/999"), ("8/24", "0.499")]
)
def test_rounded_translations_are_the_fractions_that_are_meant(third, half):
    """Of R -3 m, and of a body-centred cell."""
    listed = TRIGONAL + "".join(
        f"{12 * i + j} {','.join(f'{x}{shift}' for x, shift in zip(line.split()[1].split(','), shifts, strict=True))}\n"
        for i, shifts in enumerate([("+2/3", f"+{third}", f"+{third}"), (f"+{third}", "+0.6667", "+2/3")], 1)
        for j, line in enumerate(TRIGONAL.splitlines()[3:], 1)
    )
    assert composition(cif(listed, SITES + "Bi1 Bi 0 0 0.234\n", HEXAGONAL))[0] == "Bi6"
    centred = f"loop_\n_symmetry_equiv_pos_as_xyz\n'x,y,z'\n'x+{half},y+{half},{half}+z'\n"
    [structure] = check_structures([cif(centred, SITES + "Cs1 Cs 0.1 0.2 0.3\n", cell(5, 6, 7))])
    off = structure.frac_coords[1] - structure.frac_coords[0]
    assert off - np.floor(off) == pytest.approx(0.5)


@pytest.mark.parametrize("shift", ["1/5", "0.2", "1/7", "0.31", "3/0"])
def test_other_translations_are_refused(shift):
    with pytest.raises(InvalidStructureError, match="item 0: cannot read"):
        crystal_arrays(cif(f"loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\nx+{shift},y,z\n"))


@pytest.mark.parametrize("digits", [3, 4, 6, 8])
def test_rounded_special_positions_make_one_atom(digits):
    third, sixth = f"{1 / 3:.{digits}f}", f"{1 / 6:.{digits}f}"
    twice = f"{2 * float(sixth):.{digits}f}"
    text = cif(sites=SITES + f"Cd1 Cd {third} {1 - float(third):.{digits}f} 0.25\nI1 I {sixth} {twice} 0.6\n")
    [structure] = check_structures([text])
    assert structure.formula == "Cd2 I6"
    assert sorted(structure.frac_coords[structure.indices_from_symbol("Cd")[0]])[1:] == pytest.approx([1 / 3, 2 / 3])


@pytest.mark.parametrize(
    "x", [0.1234565, 0.7654325, 0.4142135, *np.random.default_rng(0).uniform(0.36, 0.46, 20).round(7)]
)
def test_images_of_sites_on_axes_are_counted_rightly(x):
    """Also for digits that lie on the borders of a grid."""
    for place, n in (
        (f"{x} {2 * x:.7f} 0.3", 6),
        (f"{x} {-x:.7f} 0.3", 6),
        (f"0 0 {x}", 2),
        (f"{x} 0.95 0.7654325", 12),
    ):
        assert len(crystal_arrays(cif(sites=SITES + f"Cd1 Cd {place}\n")).positions) == n


@pytest.mark.parametrize("off", np.linspace(0.02, 0.2, 40))
def test_images_close_to_an_axis_are_one_atom_or_all_or_refused(off):
    """At a distance from the threefold axis that its images are about 0.1 Å apart: 2, 6 or 12 atoms."""
    text = cif(sites=SITES + f"Cd1 Cd {off / 4.1:.6f} {0.3 * off / 4.1:.6f} 0.3\n")
    try:
        n = len(crystal_arrays(text).positions)
    except InvalidStructureError as error:
        assert "images of a site are about 0.1 Å apart" in str(error)  # noqa: PT017
        assert 0.04 < off < 0.16
    else:
        assert n in ((2,) if off < 0.05 else (2, 6, 12) if off < 0.15 else (6, 12))


# ---------------------------------------------------------------------- refused

P1_SITES = SITES + "Cd1 Cd 0 0 0\nI1 I 0.5 0.5 0.5\n"


def disorder(*rows):
    """A file whose sites say in which group of which assembly they are."""
    columns = "_atom_site_disorder_assembly\n_atom_site_disorder_group\n"
    return cif(sites=SITES + columns + "".join(f"{row}\n" for row in rows))


def test_sites_that_do_not_exclude_each_other_are_all_there():
    for others in (("A 1", "A 1"), ("A 1", "B 2"), (". 1", "? .")):
        text = disorder("Cd1 Cd 0 0 0 . .", f"I1 I 0.3333 0.6667 0.2492 {others[0]}", f"I2 I 0 0 0.5 {others[1]}")
        assert composition(text)[0] == "Cd1 I3"


def test_dummy_sites_are_not_there():
    text = cif(sites=SITES + "_atom_site_calc_flag\nCd1 Cd 0 0 0 d\nI1 I 0.3333 0.6667 0.2492 calc\nX1 I 0.1 0 0 dum\n")
    assert composition(text)[0] == "Cd1 I2"


REFUSED = {
    "empty": ("\n\n", "neither its name nor its content|expected block header|no sites"),
    "binary": (bytes(range(256)), ""),
    "UTF-16": (cif().encode("utf-16"), ""),
    "not a CIF": ("Cd I\n1.0\n4 0 0\n0 4 0\n0 0 4\n", "expected block header"),
    "garbage after": (cif() + "</html>\n", ""),
    "truncated row": (cif()[:-8], "number of values"),
    "unfinished quote": (cif(more="_publ_author_name 'Doe\n"), ""),
    "tag twice": (cif(more="_cell_length_a 5\n"), "duplicate tag _cell_length_a"),
    "first structure is unreadable": (
        cif().replace("0.2492", "x") + cif(head="data_other\n"),
        "site I1 has coordinates",
    ),
    "no sites": (cif(sites=""), "no sites with fractional coordinates"),
    "macromolecule": ("data_1ABC\n_cell.length_a 4\nloop_\n_atom_site.id\n_atom_site.Cartn_x\n1 2\n", "no sites with"),
    "no cell length": (without("_cell_length_b"), "lacks a length or an angle"),
    "no cell angle": (without("_cell_angle_gamma"), "lacks a length or an angle"),
    "unknown cell length": (cif().replace("_cell_length_a 4.1", "_cell_length_a ?"), "lacks a length"),
    "no volume": (cif(P1).replace("_cell_angle_gamma 120", "_cell_angle_gamma 0"), "no volume"),
    "angles that make no cell": (
        cif(P1).replace("_alpha 90", "_alpha 10").replace("_beta 90", "_beta 20"),
        "no volume",
    ),
    "infinite cell": (cif(P1).replace("_cell_length_c 6.7", "_cell_length_c inf"), "lacks a length"),
    "no column": (without("_atom_site_fract_z").replace(" 0.2492", "").replace("0 0 0", "0 0"), "lack a column"),
    "sites in two loops": (
        cif(sites="loop_\n_atom_site_label\n" + FRACTIONS + "Cd 0 0 0\nloop_\n_atom_site_type_symbol\nCd\nI\n"),
        "several loops",
    ),
    "unknown coordinate": (cif().replace("0.2492", "?"), "site I1 has coordinates that are no numbers"),
    "coordinate that is no number": (cif().replace("0.2492", "1/4"), "site I1 has coordinates"),
    "NaN": (cif().replace("0.2492", "nan"), "site I1 has coordinates"),
    "dummy atom": (cif().replace("I1 I", "X1 X"), "symbol 'X' names no element"),
    "unknown symbol": (cif().replace("I1 I", "Q1 Qq"), "symbol 'Qq' names no element"),
    "water": (cif().replace("I1 I", "O1 OH2"), "symbol 'OH2' names no element"),
    "hydroxide": (cif().replace("I1 I", "O1 O-H"), "symbol 'O-H' names no element"),
    "nitrate": (cif().replace("I1 I", "N1 NO3"), "symbol 'NO3' names no element"),
    "cyanide": (cif().replace("I1 I", "C1 CN"), "symbol 'CN' names no element"),
    "two elements in a symbol": (cif().replace("I1 I", "I1 '0.8I + 0.2Br'"), "names no element"),
    **{
        f"label {label}": (
            without("_atom_site_type").replace("Cd1 Cd", label).replace("I1 I", "I1"),
            f"label '{label}' names no",
        )
        for label in ("OH", "OW1", "CA1", "M1", "T1", "Wat1", "NaK", "fe1")
    },
    "half occupied": (
        cif(sites=occupied("Cd1 Cd 0 0 0 0.5", "I1 I 0.3333 0.6667 0.25 1")),
        "'Cd1' is partially occupied .Cd1 0.5",
    ),
    "shared site": (
        cif(sites=occupied("Cd1 Cd 0 0 0 0.6", "Zn1 Zn 0 0 0 0.4", "I1 I 0.3333 0.6667 0.25 1")),
        "'Cd1' is partially occupied .Cd1 0.6, Zn1 0.4.; order the structure first",
    ),
    "ions that leave vacancies": (
        cif(sites=occupied("Cd1 Cd1+ 0 0 0 0.5", "Cd2 Cd3+ 0 0 0 0.4", "I1 I 0.5 0 0 1")),
        "'Cd1' is partially occupied",
    ),
    "halves at two places": (
        cif(sites=occupied("Cd1 Cd 0 0 0.1 0.5", "Cd2 Cd 0 0 0.2 0.5", "I1 I 0.5 0 0 1")),
        "'Cd1' is partially occupied",
    ),
    "overfull": (cif(sites=occupied("Cd1 Cd 0 0 0 1.2", "I1 I 0.5 0 0 1")), "site Cd1 has an occupancy that is not"),
    "negative": (cif(sites=occupied("Cd1 Cd 0 0 0 -1", "I1 I 0.5 0 0 1")), "site Cd1 has an occupancy that is not"),
    "occupancy that is no number": (
        cif(sites=occupied("Cd1 Cd 0 0 0 half", "I1 I 0.5 0 0 1")),
        "site Cd1 has an occupancy",
    ),
    "no site is there": (cif(sites=occupied("Cd1 Cd 0 0 0 0")), "no atoms"),
    "hydrogens without sites": (
        cif(sites=SITES + "_atom_site_attached_hydrogens\nCd1 Cd 0 0 0 0\nO1 O 0.3333 0.6667 0.25 1\n"),
        "site O1 has hydrogens without positions",
    ),
    "unknown space group": (cif("_symmetry_space_group_name_H-M 'P 7'\n"), "'P 7' .* is unknown; list its operations"),
    "impossible number": (cif("_symmetry_Int_Tables_number 231\n"), "231. is unknown"),
    "number that is none": (cif("_symmetry_Int_Tables_number many\n"), "many"),
    "name and number of two groups": (
        cif("_space_group_IT_number 1\n_symmetry_space_group_name_H-M 'P -3 m 1'\n"),
        "'P -3 m 1' .number 1. is unknown",
    ),
    "Hall symbol of another group": (
        cif("_space_group_name_Hall '-P 1'\n_symmetry_space_group_name_H-M 'P -3 m 1'\n"),
        "Hall symbol '-P 1' is not of",
    ),
    "nonsense for a Hall symbol": (cif("_space_group_name_Hall nonsense\n"), "centring"),
    "group that does not fit": (
        named("F m -3 m", MONOCLINIC, "Cd1 Cd 0 0 0"),
        "F m -3 m does not fit the lengths and angles",
    ),
    "hexagonal axes for a rhombohedral cell": (named("R -3 m :H", RHOMBOHEDRAL, "Bi1 Bi 0 0 0.2"), "does not fit"),
    "unique axis of another cell": (named("P 1 1 21/b", MONOCLINIC, "Cd1 Cd 0.1 0.2 0.3"), "does not fit"),
    "operations that do not fit": (cif(cell=cell(4, 5, 6)), "the list of symmetry operations does not fit"),
    "nonsense for operations": (cif("loop_\n_symmetry_equiv_pos_as_xyz\nfoo\n"), "foo|comma"),
    "division by zero": (cif("loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\nx+1/0,y,z\n"), "denominator"),
    "operation that changes the volume": (
        cif("loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\nx/2,y,z\n"),
        "Too many elements",
    ),
    "operations without the identity": (
        cif("loop_\n_symmetry_equiv_pos_as_xyz\n-x,-y,-z\n"),
        "no group: some are missing",
    ),
    "incomplete operations": (cif(TRIGONAL.replace("3 -x+y,-x,z\n", "")), "no group: some are missing"),
    "flags in a loop of their own": (cif(more="loop_\n_atom_site_calc_flag\nd\n"), "spread over several loops"),
    "alternatives": (
        disorder("Cd1 Cd 0 0 0 . .", "I1 I 0.3 0.6 0.2 A 1", "I2 I 0.4 0.6 0.2 A 2"),
        "I1 and I2 are alter",
    ),
    "magnetic": (
        cif("loop_\n_space_group_symop_magn_operation.xyz\nx,y,z,+1\n"),
        "not clear from _space_group_symop_magn_operation.xyz",
    ),
    "crystal system alone": (cif("_symmetry_cell_setting trigonal\n"), "not clear from _symmetry_cell_setting"),
    "operations by another name": (cif("loop_\n_space_group_symop.operation_xyz\nx,y,z\n-x,-y,-z\n"), "not clear from"),
}


@pytest.mark.parametrize(("text", "reason"), REFUSED.values(), ids=REFUSED)
def test_file_that_does_not_decide_is_refused_by_name(tmp_path, text, reason):
    path = write(tmp_path, text)
    for read in (lambda: crystal_arrays(path, 3), lambda: check_structures([cif(), cif(), cif(), path])):
        with pytest.raises(InvalidStructureError, match=rf"(?s)item 3.*crystal\.cif.*({reason})") as caught:
            read()
        assert caught.value.index == 3


@pytest.mark.parametrize(
    "sites",
    [
        occupied("Cd1 Cd 0 0 0 1", "Cd2 Cd 0 0 1 1", "I1 I 0.5 0 0 1"),
        occupied("Cd1 Cd 0 0 0.1 1", "Cd2 Cd 0 0 0.9 1", "I1 I 0.5 0 0 1"),
        occupied("Cd1 Cd 0 0 0 1", "Zn1 Zn 0 0 0 1", "I1 I 0.5 0 0 1"),
    ],
)
def test_atoms_that_are_listed_twice_are_refused(sites):
    for read in (
        lambda: check_structures([cif(sites=sites)]),
        lambda: CrystalGraphTransformer().transform([cif(sites=sites)]),
    ):
        with pytest.raises(InvalidStructureError, match=r"item 0: atoms .* are .* Å apart"):
            read()


# ---------------------------------------------------------------------- warnings


def test_other_structures_of_a_file_are_named(tmp_path):
    path = write(
        tmp_path, "data_global\n_journal_year 2001\n" + cif() + cif(head="data_second\n").replace("0.2492", "0.3")
    )
    with pytest.warns(UserWarning, match=r"item 1, '.*crystal\.cif': of several structures 'CdI2' is read, not second"):
        crystal = crystal_arrays(path, 1)
    assert_same_crystal(crystal, check_structures([cif()])[0])


@pytest.mark.parametrize("formula", ["'Cd I2 H2'", "Cd", "'Cd I4'", "'Cd (O H)2'"])
def test_formula_of_something_else_is_told(tmp_path, formula):
    path = write(tmp_path, cif(more=f"_chemical_formula_sum {formula}\n"))
    with pytest.warns(
        UserWarning, match=r"item 5, '.*crystal\.cif': its sites have another composition than its formula"
    ):
        crystal = crystal_arrays(path, 5)
    assert len(crystal.positions) == 3


# ---------------------------------------------------------------------- limits


def test_sites_are_counted_before_and_after_symmetry(monkeypatch):
    monkeypatch.setattr(LIMITS, "sites", 12)
    assert len(crystal_arrays(cif(sites=SITES + "Cd1 Cd 0.4 0.3 0.3\n")).positions) == 12
    for text in (
        cif(sites=SITES + "Cd1 Cd 0.4 0.3 0.3\nI1 I 0 0 0\n"),
        cif(P1, SITES + "".join(f"Cd{i} Cd {i / 13} 0 0\n" for i in range(13))),
    ):
        with pytest.raises(
            InvalidStructureError, match=r"item 0.*it holds 1\d sites, more than the 12 of .*LIMITS.sites"
        ):
            crystal_arrays(text)


def test_more_operations_than_any_group_has_are_refused():
    listed = "".join(f"x+{i}/24,y+{j}/24,z+{k}/24\n" for i in range(8) for j in range(8) for k in range(8))
    with pytest.raises(InvalidStructureError, match="it lists 512 symmetry operations"):
        crystal_arrays(cif("loop_\n_symmetry_equiv_pos_as_xyz\n" + listed))


# ---------------------------------------------------------------------- on the way to graphs


@pytest.mark.parametrize("name", ["crystal.cif", "CRYSTAL.CIF", "POSCAR.cif", "crystal.txt", "crystal"])
def test_files_do_without_pymatgens_reader(tmp_path, monkeypatch, name):
    path = write(tmp_path, cif(), name)

    def refuse(*arguments, **parameters):
        raise AssertionError("pymatgen reads the file")

    monkeypatch.setattr(Structure, "from_file", refuse)
    monkeypatch.setattr(Structure, "from_str", refuse)
    assert crystal_arrays(path).atomic_numbers.tolist() == [48, 53, 53]
    assert check_structures([path])[0].formula == "Cd1 I2"


@pytest.mark.parametrize(
    ("name", "compress"),
    [
        ("crystal.cif.gz", gzip.compress),
        ("crystal.cif.bz2", bz2.compress),
        ("crystal.cif.xz", lzma.compress),
        ("crystal.cif", gzip.compress),
    ],
)
def test_compressed_files_are_read(tmp_path, name, compress):
    plain = crystal_arrays(cif())
    for content in (compress(cif().encode()), compress(cif().encode()[:200]) + compress(cif().encode()[200:])):
        found = crystal_arrays(write(tmp_path, content, name))
        assert all(np.array_equal(*pair) for pair in zip(found, plain, strict=True))
    with pytest.raises(InvalidStructureError, match="ends within its compressed data"):
        crystal_arrays(write(tmp_path, compress(cif().encode())[:-20], name))


CASES = Path(__file__).resolve().parents[2] / ".." / "shared" / "cases"


@pytest.mark.skipif(not CASES.is_dir(), reason="../shared/cases is not there")
def test_cases_that_were_read_wrongly():
    formulas = {
        "bi_rhomb_R3m": "Bi2",
        "bi_rhomb_R3mR": "Bi2",
        "bi_hex_R3mH": "Bi6",
        "si_Fd3m1_0": "Si8",
        "si_Fd3m2_0.125": "Si8",
        "bom": "Na4 Cl4",
        "occ_0.9999": "Na4 Cl4",
    }
    for name, formula in formulas.items():
        assert composition(CASES / f"{name}.cif")[0] == formula
    for name in ("disord", "si_Fd3m_0", "label_OH"):
        with pytest.raises(InvalidStructureError, match=name):
            check_structures([CASES / f"{name}.cif"])
