"""The examples of docs/data.md run on small files of the names that they use."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from pathlib import Path

import pandas as pd
import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs" / "data.md"
BLOCKS = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
READERS = [block for block in BLOCKS if "crystalssl.io" in block]


@pytest.fixture
def files(tmp_path, cifs, three, texts, monkeypatch):
    ase_io, ase_db = pytest.importorskip("ase.io"), pytest.importorskip("ase.db")
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow as pa
    from ase.calculators.singlepoint import SinglePointCalculator
    from pymatgen.io.ase import AseAtomsAdaptor

    monkeypatch.chdir(tmp_path)
    (cifs / "id_prop.csv").write_text("a,1.5\nb,0.25\nc,7\n")
    shutil.copy(cifs / "a.cif", "quartz.cif")
    frame = pd.DataFrame({"name": list("abc"), "cif": texts["cif"], "gap": [1, 2, 3], "bulk": [4, 5, None]})
    frame.to_csv("crystals.csv", index=False)
    frame.assign(cif=[json.loads(text) for text in texts["json"]]).to_json("crystals.json.gz", orient="split")
    parquet.write_table(pa.table(frame), "crystals.parquet")
    documents = [{"structure": json.loads(text), "output": {"gap": 1}} for text in texts["json"]]
    Path("crystals.jsonl").write_text("\n".join(map(json.dumps, documents)))
    frames = [AseAtomsAdaptor.get_atoms(crystal) for crystal in three]
    for atoms in frames:
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0)
    ase_io.write("frames.xyz", frames, format="extxyz")
    ase_io.write("frames.traj", frames)
    with ase_db.connect("frames.db") as database:
        for atoms in frames:
            database.write(atoms)
    with zipfile.ZipFile("cifs.zip", "w") as archive:
        for path in cifs.iterdir():
            archive.write(path, path.name)


@pytest.mark.parametrize("number", range(len(READERS)))
def test_examples_of_the_readers(files, number):
    names = {}
    exec(READERS[number], names)
    if "n_reported" in names:
        assert (names["n_crystals"], names["n_reported"]) == (3, 0)
    if "crystals" in names:
        assert len(names["crystals"].data) == 3


def test_there_are_examples():
    assert len(READERS) == 4
