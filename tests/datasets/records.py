"""Records as OPTIMADE databases send them: a good one, and what can be wrong with one."""

NAN, HUGE = float("nan"), 10**400

GOOD = {
    "lattice_vectors": [[4.0, 0.0, 0.0], [1.0, 4.0, 0.0], [0.0, 0.5, 5.0]],
    "cartesian_site_positions": [[0.0, 0.0, 0.0], [2.0, 2.0, 2.5]],
    "species_at_sites": ["Cs", "Cl-"],
    "species": [
        {"name": "Cs", "chemical_symbols": ["Cs"], "concentration": [1.0]},
        {"name": "Cl-", "chemical_symbols": ["Cl"], "concentration": [1], "mass": None, "attached": None},
        {"name": "of no site", "chemical_symbols": ["Na", "vacancy"], "concentration": [0.5, 0.5]},
    ],
    "nsites": 2,
    "nperiodic_dimensions": 3,
    "dimension_types": [1, 1, 1],
    "assemblies": None,
    "structure_features": [],
}


def with_species(**changes):
    """The second species changed."""
    first, second, third = GOOD["species"]
    return GOOD | {"species": [first, second | changes, third]}


MIXED = with_species(chemical_symbols=["Cl", "Br"], concentration=[0.25, 0.75])

# By name: the record, and what its reason must say.
BAD = {
    "mixed": (MIXED, "disordered: species 'Cl-' is Cl 0.25, Br 0.75"),
    "partial": (with_species(concentration=[0.9]), "disordered: species 'Cl-' is Cl 0.9"),
    "half-vacant": (with_species(chemical_symbols=["Cl", "vacancy"], concentration=[0.9, 0.1]), "Cl 0.9, vacancy 0.1"),
    "vacancy": (with_species(chemical_symbols=["vacancy"]), "species 'Cl-' is a vacancy"),
    "unknown-element": (with_species(chemical_symbols=["X"]), "species 'Cl-' is an unknown element"),
    "no-element": (with_species(chemical_symbols=["Qq"]), "species 'Cl-': 'Qq' is not an element symbol"),
    "null-element": (with_species(chemical_symbols=[None]), "species 'Cl-': None is not an element symbol"),
    "attached": (with_species(attached=["H"], nattached=[1]), "species 'Cl-' has atoms attached"),
    "no-concentration": (with_species(concentration=None), "species 'Cl-' has no list of chemical_symbols with a"),
    "no-symbols": (with_species(chemical_symbols=[], concentration=[]), "species 'Cl-' is nothing"),
    "undescribed": (GOOD | {"species": GOOD["species"][:1]}, "species does not describe 'Cl-'"),
    "nameless": (GOOD | {"species": [{"chemical_symbols": ["Cs"]}]}, "species is not a list of species with names"),
    "species-text": (GOOD | {"species": "CsCl"}, "species is not a list of species with names"),
    "ion-as-symbol": (GOOD | {"species": None}, "species 'Cl-': 'Cl-' is not an element symbol"),
    "slab": (GOOD | {"dimension_types": [1, 1, 0]}, "not periodic in three dimensions (dimension_types [1, 1, 0])"),
    "chain": (GOOD | {"dimension_types": None, "nperiodic_dimensions": 1}, "(nperiodic_dimensions 1)"),
    "assemblies": (GOOD | {"assemblies": [{"sites_in_groups": [[0], [1]]}]}, "disordered: assemblies"),
    "implicit": (GOOD | {"structure_features": ["implicit_atoms"]}, "(structure_features ['implicit_atoms'])"),
    "no-sites": (GOOD | {"species_at_sites": [], "cartesian_site_positions": []}, "no sites"),
    "null-sites": (GOOD | {"species_at_sites": None}, "no sites"),
    "numbered-sites": (GOOD | {"species_at_sites": [55, 17]}, "species_at_sites is not a list of names"),
    "miscounted": (GOOD | {"nsites": 3}, "nsites is 3, but species_at_sites has 2 entries"),
    "no-lattice": (GOOD | {"lattice_vectors": None}, "lattice_vectors is missing"),
    "two-vectors": (GOOD | {"lattice_vectors": GOOD["lattice_vectors"][:2]}, "lattice_vectors has the shape (2, 3)"),
    "null-vector": (GOOD | {"lattice_vectors": [[4, 0, 0], [0, 4, 0], [None] * 3]}, "lattice_vectors holds null, NaN"),
    "ragged": (GOOD | {"lattice_vectors": [[4, 0, 0], [0, 4], [0, 0, 4]]}, "lattice_vectors is not a list of vectors"),
    "flat": (GOOD | {"lattice_vectors": [[4, 0, 0], [0, 4, 0], [4, 4, 0]]}, "lattice_vectors span no volume"),
    "no-positions": (GOOD | {"cartesian_site_positions": None}, "cartesian_site_positions is missing"),
    "one-position": (GOOD | {"cartesian_site_positions": [[0, 0, 0]]}, "has the shape (1, 3), expected (2, 3)"),
    "text-position": (GOOD | {"cartesian_site_positions": [["a"] * 3] * 2}, "is not a list of vectors"),
}

# What JSON can say, but MongoDB cannot hold.
WORSE = {
    "nan-concentration": (with_species(concentration=[NAN]), "disordered: species 'Cl-' is Cl nan"),
    "nan-position": (GOOD | {"cartesian_site_positions": [[NAN] * 3] * 2}, "positions holds null, NaN or infinite"),
    "huge-position": (GOOD | {"cartesian_site_positions": [[HUGE] * 3] * 2}, "positions is not a list of vectors"),
}
