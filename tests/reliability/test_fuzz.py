"""Generated crystals and damaged files: each works with finite numbers, or raises an error that names it.

`make test` tries 500, always the same; `make fuzz` tries 10,000 others and writes down the counts.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import math
import os
import re
import shutil

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from ase import Atoms
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from pymatgen.core import DummySpecies, IStructure, Lattice, Species, Structure
from pymatgen.io.cif import CifWriter
from pymatgen.io.vasp import Poscar

from crystalssl import CrystalGraphs, CrystalGraphTransformer, CrystalSSLRegressor, PretrainedCrystalEmbedder
from crystalssl.datasets import read_optimade_parquet
from crystalssl.datasets._fetch import _number
from crystalssl.datasets._split_json import read_split_json
from crystalssl.graphs import check_structures
from crystalssl.graphs._crystal_graphs import _COLUMNS as COLUMNS
from crystalssl.graphs._dicts import structure_from_dict
from crystalssl.training import load_encoder

from ..training.pretraining import pretrain

pytestmark = pytest.mark.filterwarnings("ignore")

NIGHTLY = "CRYSTALSSL_FUZZ" in os.environ
CASES = int(os.environ.get("CRYSTALSSL_FUZZ", "500"))


def share(part):
    """Give a test its part of all cases: the same ones in `make test`, others every night in `make fuzz`."""
    return settings(
        max_examples=math.ceil(part * CASES),
        derandomize=not NIGHTLY,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )


# ------------------------------------------------------------------ crystals

exponents = st.floats(-8, 8)
numbers = st.one_of(st.floats(), st.floats(-20, 20), exponents.map(lambda e: 10**e))
angles = st.one_of(st.floats(0.001, 179.999), st.sampled_from([90.0, 60.0, 120.0, 1e-9, 180.0]))
species = st.one_of(
    st.integers(1, 118),
    st.sampled_from(["Na", "Cl", "Si", "O", "Fe"]),
    st.sampled_from(["Fe", "O", "Po"]).map(lambda symbol: Species(symbol, 2)),
    st.sampled_from(
        [DummySpecies("X"), "D", {"Fe": 0.5, "Ni": 0.5}, {"Fe": 0.9}, {"Fe2+": 0.5, "Fe3+": 0.5}, {"H": 0.4, "D": 0.6}]
    ),
)


@st.composite
def lattices(draw, n_atoms):
    """3 × 3 matrices, from those of real crystals to those of no crystal at all."""
    kind = draw(st.sampled_from(["plausible", "plausible", "parameters", "aspect", "skewed", "any"]))
    if kind == "any":
        return np.array(draw(st.lists(numbers, min_size=9, max_size=9))).reshape(3, 3)
    if kind == "parameters":
        lengths = [10 ** draw(st.floats(-2, 5)) for _ in range(3)]
        try:
            return Lattice.from_parameters(*lengths, *(draw(angles) for _ in range(3))).matrix
        except (ValueError, ZeroDivisionError):
            reject()
    volume = 10 ** draw(st.floats(-3, 5)) * max(n_atoms, 1)
    matrix = np.eye(3) + np.array(draw(st.lists(st.floats(-0.6, 0.6), min_size=9, max_size=9))).reshape(3, 3)
    if kind == "aspect":
        matrix[draw(st.integers(0, 2))] *= 10 ** draw(exponents)
    if kind == "skewed":
        first, second = draw(st.permutations([0, 1, 2]))[:2]
        matrix[first] += round(10 ** draw(st.floats(0, 9))) * matrix[second]
    if draw(st.booleans()):  # the other hand
        matrix = matrix[[1, 0, 2]]
    determinant = abs(np.linalg.det(matrix))
    return matrix * np.cbrt(volume / determinant) if determinant else matrix


@st.composite
def coordinates(draw, n_atoms):
    """Fractional coordinates in the cell, out of it, on each other, or no numbers."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    grid = np.indices([int(np.ceil(np.cbrt(n_atoms)))] * 3).reshape(3, -1).T[:n_atoms]
    found = (grid + 0.5 * rng.random((n_atoms, 3))) / max(np.ceil(np.cbrt(n_atoms)), 1)
    change = draw(st.sampled_from(["none"] * 4 + ["outside", "shifted", "duplicate", "cluster", "value"]))
    if n_atoms == 0 or change == "none":
        return found
    atom = draw(st.integers(0, n_atoms - 1))
    far = 10 ** draw(st.one_of(st.floats(0, 4), st.floats(0, 308)))
    if change == "outside":
        found = found + np.rint(far * rng.standard_normal((n_atoms, 3)))
    elif change == "shifted":
        found = found + np.rint(far)
    elif change == "duplicate":
        found[atom] = found[0] + draw(st.sampled_from([0.0, 1e-12, 1e-6, 1e-3, 1.0, 1e9]))
    elif change == "cluster":
        found *= 10 ** draw(st.floats(-6, 0))
    else:
        found[atom, draw(st.integers(0, 2))] = draw(st.sampled_from([np.nan, np.inf, -np.inf, 1e308, -1e308, 1e18]))
    return found


@st.composite
def crystals(draw):
    """Structures, their dicts, and Atoms."""
    n_atoms = draw(st.one_of(st.integers(1, 12), st.integers(0, 60), st.integers(0, 300)))
    lattice, positions = draw(lattices(n_atoms)), draw(coordinates(n_atoms))
    kinds = draw(st.lists(species, min_size=1, max_size=4))
    kinds = [kinds[i % len(kinds)] for i in range(n_atoms)]
    container = draw(st.sampled_from([Structure, Structure, IStructure, dict, Atoms]))
    if container is Atoms:
        symbols = [kind if isinstance(kind, int) else draw(st.integers(0, 118)) for kind in kinds]
        with np.errstate(all="ignore"):
            atoms = Atoms(symbols, positions=positions @ lattice, cell=lattice, pbc=True)
        if draw(st.booleans()):  # as ase.io.read leaves them
            share = draw(st.sampled_from([1, 0.9999, 0.5, 0, float("nan"), "x"]))
            atoms.info["occupancy"] = draw(st.sampled_from([{"0": {"Na": share, "K": 0.0}}, {0: share}, share]))
        return atoms
    if container is dict:
        return Structure(Lattice(lattice), kinds, positions).as_dict()
    return container(Lattice(lattice), kinds, positions)


@pytest.fixture(scope="module")
def rock_salt():
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.69), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


@pytest.fixture(scope="module")
def regressor(prototypes):
    """One that knows all elements; CPU time goes into the graphs, not into the network."""
    model = CrystalSSLRegressor(None, encoder="gatedgcn", max_epochs=1, head_dim=8, random_state=0)
    return model.fit(prototypes[:20], np.arange(20.0))


@pytest.fixture(scope="module")
def embedder():
    return PretrainedCrystalEmbedder("barlow").fit([])


def check_graphs(graphs):
    """What is stored agrees with itself."""
    assert np.isfinite(graphs.distances).all()
    centers = np.repeat(np.arange(graphs.n_atoms), np.diff(graphs.edge_offsets))
    crystal = np.repeat(np.arange(len(graphs)), np.diff(graphs.atom_offsets))[centers]
    neighbors = graphs.neighbors + graphs.atom_offsets[crystal]
    shifts = np.einsum("ij,ijk->ik", graphs.images.astype(float), graphs.lattice[crystal])
    distances = np.linalg.norm(graphs.positions[neighbors] + shifts - graphs.positions[centers], axis=1)
    np.testing.assert_allclose(distances, graphs.distances, rtol=1e-4, atol=1e-4)


@share(0.5)
@given(crystal=crystals(), encoder=st.sampled_from(["cgcnn", "megnet"]))
def test_generated_crystals(tally, rock_salt, regressor, embedder, crystal, encoder):
    X = [rock_salt, crystal]
    accepted = tally.attempt("check_structures", lambda: check_structures(X), "item 1")
    graphs = tally.attempt("CrystalGraphTransformer", lambda: CrystalGraphTransformer(encoder).transform(X), "item 1")
    vectors = tally.attempt("PretrainedCrystalEmbedder", lambda: embedder.transform(X), "item 1")
    values = tally.attempt("CrystalSSLRegressor", lambda: regressor.predict(X), "item 1")
    if accepted is None:
        assert graphs is vectors is values is None
    if graphs is not None:
        check_graphs(graphs)
    for found in (vectors, values):
        assert found is None or np.isfinite(found).all()


# ------------------------------------------------------------------ files of crystals

TOKEN = re.compile(rb"[^\s,:\[\]{}\"']+")
VALUES = [b"-1", b"0", b"1e308", b"-1e-308", b"nan", b"inf", b"999999999", b"300000000", b"9" * 40, b"x", b"", b"1/0"]
DAMAGES = ["flip", "truncate", "repeat line", "repeat many", "remove line", "swap", "value", "insert"]


@st.composite
def damages(draw):
    """A list of changes to a file; positions are fractions of its length."""
    place = st.floats(0, 1, exclude_max=True)
    kinds = [
        "flip",
        "flip",
        "truncate",
        "repeat line",
        "remove line",
        "swap",
        "value",
        "value",
        "insert",
        "repeat many",
    ]
    return [
        (
            draw(st.sampled_from(kinds)),
            draw(place),
            draw(place),
            draw(st.integers(1, 255)),
            draw(st.sampled_from(VALUES)),
        )
        for _ in range(draw(st.integers(1, 4)))
    ]


def damaged(content, changes):
    for kind, first, second, number, value in changes:
        at, lines, tokens = int(first * len(content)), content.splitlines(True), list(TOKEN.finditer(content))
        if not content or not tokens:
            break
        line, token, other = (int(x * n) for x, n in ((first, len(lines)), (first, len(tokens)), (second, len(tokens))))
        if kind == "flip":
            content = content[:at] + bytes([content[at] ^ number]) + content[at + 1 :]
        elif kind == "truncate":
            content = content[:at]
        elif kind == "repeat line":
            content = b"".join([*lines[:line], lines[line], *lines[line:]])
        elif kind == "repeat many":
            content = b"".join([*lines[:line], *[lines[line][:1000]] * number, *lines[line:]])
        elif kind == "remove line":
            content = b"".join([*lines[:line], *lines[line + 1 :]])
        elif kind == "insert":
            content = content[:at] + bytes([number]) * (number % 7) + content[at:]
        elif kind == "value":
            start, end = tokens[token].span()
            content = content[:start] + value + content[end:]
        elif token != other:
            (a, b), (c, d) = sorted([tokens[token].span(), tokens[other].span()])
            content = content[:a] + content[c:d] + content[b:c] + content[a:b] + content[d:]
    return content


@pytest.fixture(scope="module")
def texts(rock_salt, prototypes):
    """Files of crystals by their names."""
    found = {}
    for name, crystal in {"salt": rock_salt, "prototype": prototypes[7], "larger": prototypes[40]}.items():
        found[f"{name}.cif"] = str(CifWriter(crystal))
        found[f"{name}-symmetry.cif"] = str(CifWriter(crystal, symprec=0.01))
        found[f"{name}-named.cif"] = re.sub(r"loop_\n _symm(.*\n)*?loop_", "loop_", found[f"{name}-symmetry.cif"])
        found[f"{name}.POSCAR"] = Poscar(crystal).get_str()
        found[f"{name}.json"] = json.dumps(crystal.as_dict())
        found[f"{name}.yaml"] = crystal.to(fmt="yaml")
        found[f"{name}.xsf"] = crystal.to(fmt="xsf")
    return {name: text.encode() for name, text in found.items()}


KINDS = [".cif", "-symmetry.cif", "-named.cif", ".POSCAR", ".json", ".yaml", ".xsf"]
COMPRESSIONS = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


@share(0.24)
@given(
    which=st.integers(0, 2),
    kind=st.sampled_from(KINDS),
    compression=st.sampled_from(["", "", "", *COMPRESSIONS]),
    inside=st.booleans(),
    as_text=st.booleans(),
    oversized=st.sampled_from([0, 0, 0, 0, 0, 10**5, 10**7]),
    changes=damages(),
)
def test_damaged_files_of_crystals(
    tally, texts, tmp_path_factory, which, kind, compression, inside, as_text, oversized, changes
):
    name = ["salt", "prototype", "larger"][which] + kind
    content, compress = texts[name], COMPRESSIONS[compression]
    # Damage before or after it is compressed, and ten million bytes that say nothing.
    content = compress(damaged(content, changes) + b"\n" * oversized) if inside else damaged(compress(content), changes)
    target = f"check_structures, {kind.partition('.')[2]} file"
    item = tmp_path_factory.getbasetemp() / (name + compression)
    if as_text and not compression:
        target = f"check_structures, text of a {kind.partition('.')[2]} file"
        item = content.decode(errors="replace") + "\n"
    else:
        item.write_bytes(content)
    accepted = tally.attempt(target, lambda: check_structures([item]), "item 0")
    if accepted is not None:
        check_graphs(CrystalGraphTransformer().transform(accepted))


# ------------------------------------------------------------------ weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory, prototypes, rock_salt):
    folder = tmp_path_factory.mktemp("fuzz") / "weights"
    embedder = PretrainedCrystalEmbedder(weights=None, hidden_dim=8, n_layers=1, max_epochs=1, random_state=0)
    embedder.fit([rock_salt, *prototypes[:12]]).save_pretrained(folder)
    return folder


@share(0.12)
@given(
    file=st.sampled_from(["config.json", "config.json", "model.safetensors"]), rehash=st.booleans(), changes=damages()
)
def test_damaged_weights(tally, weights, rock_salt, file, rehash, changes):
    folder = weights.with_name("damaged weights")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(weights, folder)
    content = (folder / file).read_bytes()
    if file == "model.safetensors" and rehash:  # a header that is wrong, though the file is as it was written
        size = 8 + int.from_bytes(content[:8], "little")
        content = damaged(content[:size], changes) + content[size:]
        config = json.loads((folder / "config.json").read_text())
        config["sha256"] = hashlib.sha256(content).hexdigest()
        (folder / "config.json").write_text(json.dumps(config))
    else:
        content = damaged(content, changes)
    (folder / file).write_bytes(content)
    loaded = tally.attempt("load_encoder", lambda: load_encoder(folder), str(folder))
    if loaded is not None:
        assert all(tensor.isfinite().all() for tensor in loaded[0].state_dict().values())
    embedder = tally.attempt("from_pretrained", lambda: PretrainedCrystalEmbedder.from_pretrained(folder), str(folder))
    if embedder is not None:
        vectors = tally.attempt("from_pretrained, transform", lambda: embedder.transform([rock_salt]), "item 0")
        assert vectors is None or np.isfinite(vectors).all()


@pytest.fixture(scope="module")
def checkpoint(prototypes, tmp_path_factory):
    """A finished run: its settings, its file and its weights."""
    call = {
        "method": "barlow",
        "encoder": "cgcnn",
        "encoder_params": {"hidden_dim": 4, "n_layers": 1, "n_gaussians": 8},
        "encoder_state": None,
        "task_params": {"projection_dim": 4},
        "max_epochs": 2,
        "batch_size": 6,
        "learning_rate": 1e-2,
        "weight_decay": 0.0,
        "gradient_clip": None,
        "precision": "highest",
        "validation_fraction": 0.3,
        "seed": 0,
        "device": "cpu",
    }
    graphs = CrystalGraphTransformer().transform(prototypes[:12])
    path = tmp_path_factory.mktemp("fuzz") / "run.safetensors"
    state, _ = pretrain(graphs, None, **call, checkpoint=str(path))
    return graphs, call, path, state


@share(0.03)
@given(changes=damages())
def test_damaged_checkpoints(tally, checkpoint, changes):
    graphs, call, path, expected = checkpoint
    copy = path.with_name("damaged checkpoint")
    copy.write_bytes(damaged(path.read_bytes(), changes))
    found = tally.attempt("checkpoint", lambda: pretrain(graphs, None, **call, checkpoint=str(copy)), str(copy))
    if found is not None:
        assert all(np.array_equal(found[0][name], array) for name, array in expected.items())


# ------------------------------------------------------------------ graphs and data sets


@pytest.fixture(scope="module")
def saved(prototypes, tmp_path_factory):
    graphs = CrystalGraphTransformer().transform(prototypes[:5])
    folder = tmp_path_factory.mktemp("fuzz") / "graphs"
    graphs.save(folder)
    return graphs, folder


@share(0.05)
@given(file=st.integers(0, 1), rehash=st.booleans(), mmap=st.booleans(), changes=damages())
def test_damaged_graphs(tally, saved, file, rehash, mmap, changes):
    graphs, original = saved
    folder = original.with_name("damaged graphs")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(original, folder)
    path = sorted(folder.iterdir())[file]
    content = path.read_bytes()
    rehash = rehash and path.name == "graphs.safetensors"
    if rehash:  # a header that is wrong, though the file is as it was written
        size = 8 + int.from_bytes(content[:8], "little")
        content = damaged(content[:size], changes) + content[size:]
        meta = json.loads((folder / "graphs.json").read_text())
        recipe = json.dumps(meta["recipe"], sort_keys=True).encode()
        (folder / "graphs.json").write_text(json.dumps(meta | {"sha256": hashlib.sha256(recipe + content).hexdigest()}))
    else:
        content = damaged(content, changes)
    path.write_bytes(content)
    loaded = tally.attempt("CrystalGraphs.load", lambda: CrystalGraphs.load(folder, mmap=mmap), str(folder))
    if loaded is not None:
        assert loaded.recipe == graphs.recipe
        assert rehash or all(np.array_equal(getattr(loaded, name), getattr(graphs, name)) for name in COLUMNS)


@pytest.fixture(scope="module")
def parquet(prototypes, tmp_path_factory):
    table = {
        "immutable_id": [f"id-{i}" for i in range(6)],
        "lattice_vectors": [s.lattice.matrix.tolist() for s in prototypes[:6]],
        "species_at_sites": [[site.specie.symbol for site in s] for s in prototypes[:6]],
        "cartesian_site_positions": [s.cart_coords.tolist() for s in prototypes[:6]],
        "chemical_formula_reduced": [s.reduced_formula for s in prototypes[:6]],
        "band_gap": [0.0, 1.0, 2.0, 3.0, None, 5.0],
    }
    path = tmp_path_factory.mktemp("fuzz") / "crystals.parquet"
    pyarrow.parquet.write_table(pyarrow.table(table), path, compression="none")
    return path


@share(0.03)
@given(changes=damages())
def test_damaged_parquet_files(tally, parquet, changes):
    path = parquet.with_name("damaged.parquet")
    path.write_bytes(damaged(parquet.read_bytes(), changes))
    read = tally.attempt("read_optimade_parquet", lambda: read_optimade_parquet(path), str(path))
    if read is not None:
        tally.attempt("read_optimade_parquet, check_structures", lambda: check_structures(read.data), "item ")


@share(0.03)
@given(text=st.booleans(), changes=damages())
def test_damaged_matbench_files(tally, prototypes, text, changes):
    rows = [[s.as_dict(), float(i)] for i, s in enumerate(prototypes[:3])]
    content = json.dumps({"index": [0, 1, 2], "columns": ["structure", "gap"], "data": rows}, indent=0).encode()
    content = gzip.compress(damaged(content, changes)) if text else damaged(gzip.compress(content), changes)
    converters = {"structure": structure_from_dict, "gap": _number}
    read = tally.attempt("Matbench JSON", lambda: read_split_json(content, converters, "task.json.gz"), "task.json.gz")
    if read is not None:
        tally.attempt("Matbench JSON, check_structures", lambda: check_structures(read["structure"]), "item ")
