import csv
import subprocess
import sys
from pathlib import Path

import pytest

from crystalssl.datasets._registry import check_name, load_registry

MATBENCH = [
    "matbench_dielectric",
    "matbench_jdft2d",
    "matbench_phonons",
    "matbench_log_gvrh",
    "matbench_log_kvrh",
    "matbench_perovskites",
    "matbench_mp_gap",
    "matbench_mp_e_form",
    "matbench_mp_is_metal",
]


def test_registry_has_the_nine_structure_tasks():
    assert [entry.name for entry in load_registry().values() if entry.is_matbench] == MATBENCH


def test_registry_agrees_with_the_published_table(reference):
    with open(reference / "datasets.csv", encoding="utf-8", newline="") as file:
        published = {row["name"]: row for row in csv.DictReader(file)}
    assert published.keys() == load_registry().keys()
    for name, row in published.items():
        entry = load_registry()[name]
        for column, value in row.items():
            assert str(getattr(entry, column)) == value, (name, column)


def test_entries_are_complete():
    for entry in load_registry().values():
        assert entry.summary
        assert entry.doi.startswith("10.")
        assert entry.unit
        assert entry.url.startswith("https://")
        for sha256 in (entry.sha256, *(copy.sha256 for copy in entry.rebuilt)):
            assert len(sha256) == 64
            assert int(sha256, 16)


def test_only_jdft2d_has_a_rebuilt_copy():
    rebuilt = {name: [copy.filename for copy in entry.rebuilt] for name, entry in load_registry().items()}
    assert {name: files for name, files in rebuilt.items() if files} == {
        "matbench_jdft2d": ["matbench_jdft2d.rebuilt.json.gz"]
    }


@pytest.mark.parametrize(
    ("wrong", "hint"), [("matbench_phonon", "matbench_phonons"), ("jdft2d", "matbench_jdft2d"), ("PHONONS", None)]
)
def test_unknown_name_suggests_the_closest(wrong, hint):
    with pytest.raises(ValueError, match="Unknown Matbench task") as caught:
        check_name(wrong, MATBENCH, "Matbench task")
    assert ("Did you mean" in str(caught.value)) == (hint is not None)
    if hint is not None:
        assert f"Did you mean {hint!r}" in str(caught.value)


def test_composition_tasks_are_named_as_such():
    with pytest.raises(ValueError, match="compositions, not structures"):
        check_name("matbench_steels", MATBENCH, "Matbench task")


def test_import_is_cheap():
    code = (
        "import sys, crystalssl.datasets; "
        "print([m for m in ('pymatgen', 'pandas', 'pyarrow', 'pooch', 'sklearn') if m in sys.modules])"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"
