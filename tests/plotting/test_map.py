"""The page that shows crystals as points: what is written, and what it does in a browser."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from crystalssl import CrystalCorpus, CrystalGraphTransformer
from crystalssl.io import write_corpus
from crystalssl.plotting import write_map

HALITE = [[0, 0, 0], [0.5, 0.5, 0.5]]
PAIRS = [("Na", "Cl"), ("K", "Cl"), ("Mg", "O"), ("Ca", "O"), ("Fe", "O"), ("Li", "F")]
ENERGY = np.array([-1.5, np.nan, 0.5, 1.25, 2.0, 3.0])
KINDS = ["halide", "halide", "oxide", "oxide", "oxide", "halide"]
IDS = ["first", "</script><script>bad()</script>", "third", "fourth", "fifth", "sixth"]
POINTS = np.array([[-3, -2], [-3, 2], [0, 0], [1, 1], [2, -1], [3, 0.5]])
SPINEL = Structure.from_spacegroup(
    "Fd-3m", Lattice.cubic(8.08), ["Mg", "Al", "O"], [[0.125] * 3, [0.5] * 3, [0.2625] * 3]
)


@pytest.fixture(scope="module")
def salts():
    return [Structure.from_spacegroup("Fm-3m", Lattice.cubic(5), pair, HALITE) for pair in PAIRS]


@pytest.fixture(scope="module")
def written(salts, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "map.html"
    columns = {"energy (eV)": ENERGY, "kind": KINDS}
    write_map(path, salts, POINTS, columns=columns, ids=IDS, title="Salts & <b>more</b>")
    return path


def data_of(path):
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(), re.DOTALL)[1]
    return json.loads(text)


def unpack(text, dtype):
    return np.frombuffer(base64.b64decode(text), dtype)


def test_data_of_the_page(written, salts):
    data = data_of(written)
    assert data["ids"] == IDS
    assert data["formulas"] == [salt.composition.reduced_formula for salt in salts]
    # The larger extent, six, becomes two.
    np.testing.assert_allclose(unpack(data["points"], "<f4").reshape(-1, 2), POINTS / 3, atol=1e-6)
    energy, kind = data["columns"]
    np.testing.assert_array_equal(unpack(energy["numbers"], "<f4"), ENERGY.astype("f4"))
    assert [kind["classes"][code] for code in unpack(kind["codes"], "<u2")] == KINDS
    np.testing.assert_array_equal(unpack(data["sizes"], "<u4"), [8] * 6)
    np.testing.assert_array_equal(unpack(data["atoms"], "u1"), [z for salt in salts for z in salt.atomic_numbers])
    places = unpack(data["places"], "<u2").reshape(-1, 3) / 65535
    inside = np.concatenate([salt.frac_coords for salt in salts])
    assert np.abs((places - inside + 0.5) % 1 - 0.5).max() < 1e-4
    np.testing.assert_allclose(
        unpack(data["lattices"], "<f4").reshape(-1, 3, 3), [salt.lattice.matrix for salt in salts]
    )


def test_page_is_of_one_file_and_what_is_in_it_is_not_run(written):
    text = written.read_text()
    assert "<title>Salts &amp; &lt;b&gt;more&lt;/b&gt;</title>" in text
    assert text.count("bad()") == 1
    assert "<script>bad()" not in text
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=", text)
    assert "default-src 'none'" in text


def test_graphs_give_the_same_page(written, salts, tmp_path):
    graphs = CrystalGraphTransformer("cgcnn").transform(salts)
    write_map(tmp_path / "map.html", graphs, POINTS, columns={"energy (eV)": ENERGY, "kind": KINDS}, ids=IDS)
    assert data_of(tmp_path / "map.html") == data_of(written)


def test_a_corpus_gives_the_same_page(written, salts, tmp_path):
    write_corpus(salts, tmp_path / "corpus", shard_size=4, verbose=0)
    columns = {"energy (eV)": ENERGY, "kind": KINDS}
    for source in (tmp_path / "corpus", CrystalCorpus.load(tmp_path / "corpus")):
        write_map(tmp_path / "map.html", source, POINTS, columns=columns, ids=IDS)
        found, expected = data_of(tmp_path / "map.html"), data_of(written)
        assert found["formulas"] == expected["formulas"]
        assert found["sizes"] == expected["sizes"]


def test_points_alone(salts, tmp_path):
    write_map(tmp_path / "map.html", salts, np.zeros((6, 2)))
    data = data_of(tmp_path / "map.html")
    assert data["ids"] == [*"012345"]
    assert data["columns"] == []
    np.testing.assert_array_equal(unpack(data["points"], "<f4"), 0)


@pytest.mark.parametrize(
    ("points", "options", "message"),
    [
        (np.zeros((5, 2)), {}, r"points have shape \(5, 2\); expected \(6, 2\)"),
        (np.full((6, 2), np.nan), {}, "a point is not finite"),
        (POINTS, {"ids": ["a"]}, "1 ids for 6 crystals"),
        (POINTS, {"columns": {"gap": [1.0]}}, r"column 'gap' has shape \(1,\)"),
    ],
)
def test_wrong_arguments(salts, tmp_path, points, options, message):
    with pytest.raises(ValueError, match=message):
        write_map(tmp_path / "map.html", salts, points, **options)
    assert not list(tmp_path.iterdir())


def test_no_crystals(tmp_path):
    with pytest.raises(ValueError, match="there are no crystals"):
        write_map(tmp_path / "map.html", [], np.zeros((0, 2)))


# ---------------------------------------------------------------- in a browser

_spec = importlib.util.spec_from_file_location("browser", Path(__file__).parents[1] / "browser.py")
browser = sys.modules["browser"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(browser)


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    with browser.open_page(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(window, written):
    window.events.clear()
    window.open(written)
    window.wait_for("window.crystalMap")
    yield window
    assert window.complaints() == []
    assert window.requests() == [written.resolve().as_uri()]


def place(page, crystal):
    found = page.run(f"crystalMap.locate({crystal})")
    return found["x"], found["y"]


def count(page):
    return page.run("document.getElementById('count').value")


def marked(page):
    return page.run("crystalMap.marked()")


def test_hover_tells_of_the_crystal(page):
    page.mouse("mouseMoved", *place(page, 2))
    assert page.run("document.getElementById('tip').innerText").split("\n") == [
        "MgO",
        "third",
        "energy (eV): 0.5",
        "kind: oxide",
    ]
    page.mouse("mouseMoved", *place(page, 1))
    assert page.run("document.getElementById('tip').innerText").split("\n")[1:3] == [IDS[1], "energy (eV): unknown"]
    x, y = place(page, 1)
    page.mouse("mouseMoved", x + 60, y)
    assert page.run("document.getElementById('tip').hidden")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("O", [2, 3, 4]),
        ("Cl K", [1]),
        ("K-Cl", [1]),
        ("ClNa", [0]),
        ("Mg2O2", [2]),
        ("NaCl2", []),
        ("SIX", [5]),
        ("", [0, 1, 2, 3, 4, 5]),
    ],
)
def test_search(page, text, found):
    page.write("#search", "F")
    page.write("#search", text)
    assert marked(page) == [IDS[i] for i in found]
    assert count(page) == (f"{len(found)} of 6 crystals" if text else "6 crystals")


def test_lasso_and_export(page, tmp_path):
    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    page.press("#lasso")
    (x0, y0), (x1, y1) = place(page, 2), place(page, 4)
    page.drag([(x0 - 30, y0 - 150), (x1 + 20, y0 - 150), (x1 + 20, y1 + 30), (x0 - 30, y1 + 30)])
    assert marked(page) == ["third", "fourth", "fifth"]
    page.write("#search", "Fe")
    assert marked(page) == ["fifth"]
    page.write("#search", "")
    page.press("#export")
    path = tmp_path / "ids.txt"
    for _ in range(100):
        page.wait_for("true")  # a tenth of a second
        if path.exists():
            break
    assert path.read_text() == "third\nfourth\nfifth\n"
    page.press("#clear")
    assert count(page) == "6 crystals"
    page.press("#pan")
    page.run("document.getElementById('search').blur()")


def test_dragging_moves_and_the_wheel_zooms(page):
    before = [place(page, i) for i in (0, 5)]
    page.drag([(300, 300), (320, 310), (350, 340)])
    np.testing.assert_allclose([place(page, i) for i in (0, 5)], np.add(before, [50, 40]), atol=1e-3)
    x, y = place(page, 2)
    page.mouse("mouseWheel", x, y, deltaX=0, deltaY=-300)
    page.wait_for(f"Math.abs(crystalMap.locate(5).x - {before[1][0] + 50}) > 1")
    np.testing.assert_allclose(place(page, 2), [x, y], atol=1e-3)  # what is under the pointer stays there
    grown = np.subtract(place(page, 5), place(page, 0)) / np.subtract(before[1], before[0])
    np.testing.assert_allclose(grown, np.exp(0.45), rtol=1e-3)
    for kind in ("mousePressed", "mouseReleased") * 2:
        page.mouse(kind, x, y, button="left", clickCount=2)
    page.wait_for(f"Math.abs(crystalMap.locate(5).x - {before[1][0]}) < 1")


def test_colours(page):
    numbers = [page.run(f"crystalMap.colorOf({i})") for i in range(6)]
    assert numbers[1] == "rgb(204, 204, 204)"
    assert len(set(numbers)) == 6
    page.run("const s = document.getElementById('color'); s.value = '1'; s.dispatchEvent(new Event('change'))")
    classes = [page.run(f"crystalMap.colorOf({i})") for i in range(6)]
    assert len(set(classes)) == 2
    assert [color == classes[0] for color in classes] == [kind == "halide" for kind in KINDS]
    entries = page.run("[...document.querySelectorAll('#legend .class')].map((entry) => entry.innerText)")
    assert entries == ["halide", "oxide"]


def test_points_are_drawn_in_their_colours(page):
    color = page.run(
        "(() => { const c = document.getElementById('points'), b = c.getBoundingClientRect(), p = crystalMap.locate(4);"
        " const k = c.width / b.width;"
        " const [r, g, b2] = c.getContext('2d').getImageData((p.x - b.x) * k, (p.y - b.y) * k, 1, 1).data;"
        " return `rgb(${r}, ${g}, ${b2})`; })()"
    )
    assert color == page.run("crystalMap.colorOf(4)")


def test_a_click_shows_the_cell(page):
    page.click(*place(page, 0))
    # A face-centred lattice has fourteen atoms on a cube, and thirteen between them.
    page.wait_for("crystalMap.atomsInView() === 27")
    details = page.run("document.getElementById('details').innerText")
    assert details.startswith("NaCl")
    assert "5.00, 5.00, 5.00" in details
    assert page.run("document.querySelector('#viewer canvas') !== null")


def test_large_cell(window, tmp_path):
    write_map(tmp_path / "map.html", [SPINEL] * 3, [[0, 0], [1, 0], [0, 1]])
    window.open(tmp_path / "map.html")
    window.wait_for("window.crystalMap")
    window.click(*place(window, 0))
    window.wait_for("crystalMap.atomsInView() >= 56")
    assert window.complaints() == []
