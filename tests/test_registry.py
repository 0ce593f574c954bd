"""Classes by name: what is registered, what installed packages declare, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import pytest
from sklearn.utils._param_validation import InvalidParameterError

from crystalssl import CrystalGraphTransformer, CrystalSSLRegressor, PretrainedCrystalEmbedder
from crystalssl.augment import AUGMENTATIONS, AtomMasking, register_augmentation, resolve_view
from crystalssl.encoders import CGCNN, ENCODERS, GIN, GatedGCN, register_encoder, resolve_encoder
from crystalssl.exceptions import CrystalSSLError, NotRegisteredError, PluginError, PluginWarning, WeightsError
from crystalssl.graphs import RECIPES, GraphRecipe
from crystalssl.pretext import TASKS, SimCLR, register_task, resolve_task
from crystalssl.training import load_encoder, save_encoder

pytestmark = pytest.mark.usefixtures("registries")

KINDS = {
    "encoder": (ENCODERS, register_encoder, CGCNN, {"recipe": GraphRecipe(cutoff=4.5)}),
    "task": (TASKS, register_task, SimCLR, {}),
    "augmentation": (AUGMENTATIONS, register_augmentation, AtomMasking, {}),
}
kinds = pytest.mark.parametrize(("registry", "register", "base", "space"), KINDS.values(), ids=KINDS)


def make(base, space, qualname="Mine", name="mine"):
    return type("Mine", (base,), {"name": name, "__module__": "somewhere", "__qualname__": qualname, **space})


@kinds
def test_register_is_a_decorator_with_and_without_arguments(registry, register, base, space):
    cls = make(base, space)
    assert register(cls) is cls
    assert registry["mine"] is cls
    other = make(base, space, "Other", "other")
    assert register()(other) is other
    assert registry["other"] is other
    third = register(name="third")(make(base, space, "Third"))
    assert registry["third"] is third
    assert third.name == "third"
    assert {"mine", "other", "third"} <= set(registry)


@kinds
def test_name_belongs_to_one_class(registry, register, base, space):
    first = register(make(base, space))
    with pytest.raises(ValueError, match=r"'mine' of somewhere\.Other belongs to the .* somewhere\.Mine; set `name`"):
        register(make(base, space, "Other"))
    with pytest.raises(ValueError, match=f"{base.name!r} of somewhere.Mine belongs to"):
        register(make(base, space, name=base.name))
    assert registry["mine"] is first
    # As when the cell of a notebook runs again.
    again = register(make(base, space))
    assert registry["mine"] is again is not first


@kinds
def test_what_is_no_such_class_is_refused(registry, register, base, space):
    for wrong in (int, make(object, space), "mine", 5):
        with pytest.raises(TypeError, match=r"it must be a subclass of crystalssl"):
            register(wrong)
    with pytest.raises(TypeError, match=r"has no name"):
        register(make(base, space, name=""))
    with pytest.raises(TypeError, match=r"has no name"):
        register(make(base, space, name=None))
    assert "mine" not in registry


def test_encoder_needs_a_recipe():
    with pytest.raises(TypeError, match=r"has no recipe: set the class attribute `recipe`"):
        register_encoder(make(CGCNN, {"recipe": None}))
    assert "mine" not in ENCODERS
    assert "mine" not in RECIPES


@kinds
def test_registry_is_read_only_and_names_what_is_near(registry, register, base, space):
    with pytest.raises(TypeError):
        registry["mine"] = base
    with pytest.raises(NotRegisteredError, match=f"there is no .* '{base.name[:-1]}'. Did you mean '{base.name}'"):
        registry[base.name[:-1]]
    for unknown in ("nothing", 5, None, ["mine"]):
        assert unknown not in registry
        assert registry.get(unknown) is None
    with pytest.raises(KeyError):
        registry["nothing"]
    assert issubclass(NotRegisteredError, CrystalSSLError)
    assert len(registry) == len([*registry]) == len(registry.names())
    assert base.name in repr(registry)


def test_graphs_learn_the_recipe(prototypes):
    cls = register_encoder(make(CGCNN, {"recipe": GraphRecipe(cutoff=4.5)}))
    assert RECIPES["mine"] == cls.recipe
    expected = CrystalGraphTransformer(cutoff=4.5).transform(prototypes[:2]).n_edges
    for encoder in ("mine", cls, cls(hidden_dim=4)):
        transformer = CrystalGraphTransformer(encoder).fit()
        assert transformer.recipe_ == cls.recipe
        assert transformer.transform(prototypes[:2]).recipe.cutoff == 4.5
    assert expected != CrystalGraphTransformer("mine").transform(prototypes[:2]).n_edges  # which has no 12 neighbours


def test_transformer_takes_anything_with_a_recipe(prototypes):
    class Reader:
        recipe = GraphRecipe(cutoff=3.5)

    assert CrystalGraphTransformer(Reader()).fit().recipe_ == GraphRecipe(cutoff=3.5)
    assert CrystalGraphTransformer(Reader, cutoff=4.0).fit().recipe_ == GraphRecipe(cutoff=4.0)
    Reader.recipe = 3.5
    with pytest.raises(InvalidParameterError, match="'encoder' parameter of CrystalGraphTransformer must be"):
        CrystalGraphTransformer(Reader).fit()


def test_recipe_of_an_encoder_is_nobodys_own_choice(prototypes):
    cls = make(CGCNN, {"recipe": GraphRecipe(cutoff=4.5)})
    graphs = CrystalGraphTransformer(cls).transform(prototypes[:6])  # which is not registered
    embedder = PretrainedCrystalEmbedder("mask", encoder="gin", weights=None, max_epochs=1).fit(graphs)
    assert embedder.transform(graphs).shape[0] == 6


# ---------------------------------------------------------------------- resolving


def test_resolve_encoder():
    assert resolve_encoder("gin") == (GIN, {})
    assert resolve_encoder(GatedGCN) == (GatedGCN, {})
    # Whoever trains an encoder has a readout in mind, unless the template says otherwise.
    assert resolve_encoder(CGCNN(hidden_dim=4))[1].keys() == {"hidden_dim", "n_layers", "n_gaussians"}
    assert resolve_encoder(CGCNN(readout="attention"))[1]["readout"] == "attention"


@pytest.mark.parametrize("wrong", ["perceiver", "cgcn", 5, int, SimCLR(), pytest.param(object(), id="object")], ids=str)
def test_what_is_no_encoder_is_an_invalid_parameter(wrong, prototypes):
    with pytest.raises(InvalidParameterError, match=r"'encoder' parameter must be a str among {'alignn', .*Got"):
        resolve_encoder(wrong)
    for estimator, y in ((CrystalSSLRegressor(None, encoder=wrong), [1.0] * 4), (PretrainedCrystalEmbedder(), None)):
        with pytest.raises(InvalidParameterError, match=r"'encoder' parameter of"):
            estimator.set_params(encoder=wrong).fit(prototypes[:4], y)


@pytest.mark.parametrize(
    "wrong", ["perceiver", "barlw", 5, int, CGCNN, pytest.param(object(), id="object"), {"name": "barlw"}], ids=str
)
def test_what_is_no_task_is_an_invalid_parameter(wrong, prototypes):
    with pytest.raises(InvalidParameterError, match=r"'method' parameter must be a str among {'barlow', .*Got"):
        resolve_task(wrong)
    with pytest.raises(InvalidParameterError, match=r"'method' parameter"):
        PretrainedCrystalEmbedder(wrong, weights=None).fit(prototypes[:4])


@pytest.mark.parametrize("wrong", ["strian", 5, int, CGCNN, {"name": "strian"}, ["perturb", "strian"]], ids=str)
def test_what_is_no_augmentation_is_an_invalid_parameter(wrong, prototypes):
    with pytest.raises(InvalidParameterError, match=r"'views' parameter must be a str among {'gndn', .*Got"):
        resolve_view(wrong)
    with pytest.raises(InvalidParameterError, match=r"'views' parameter"):
        PretrainedCrystalEmbedder("barlow", weights=None, views=wrong).fit(prototypes[:4])


def test_class_with_the_name_of_another_is_refused(tmp_path, prototypes):
    borrowed = make(CGCNN, {}, name="cgcnn")
    with pytest.raises(ValueError, match=r"'cgcnn' of somewhere.Mine belongs to the encoder .*CGCNN"):
        CrystalSSLRegressor(None, encoder=borrowed).fit(prototypes[:4], [1.0] * 4)
    with pytest.raises(ValueError, match=r"'cgcnn' of somewhere.Mine belongs to"):
        save_encoder(tmp_path / "weights", borrowed(4, 1), {"method": "mask", "elements": [1]})
    with pytest.raises(ValueError, match=r"'simclr' of somewhere.Mine belongs to"):
        resolve_task(make(SimCLR, {}, name="simclr"))


def test_folder_of_an_encoder_that_is_not_registered(tmp_path):
    cls = make(CGCNN, {})
    save_encoder(tmp_path / "weights", cls(4, 1), {"method": "mask", "elements": [1]})
    with pytest.raises(WeightsError, match=r"there is no encoder 'mine'.*Register the class .* or install the package"):
        load_encoder(tmp_path / "weights")
    register_encoder(cls)
    assert type(load_encoder(tmp_path / "weights")[0]) is cls


# ---------------------------------------------------------------------- installed packages

GOOD = """
from crystalssl.augment import AtomMasking
from crystalssl.encoders import CGCNN, register_encoder
from crystalssl.graphs import GraphRecipe
from crystalssl.pretext import SimCLR

@register_encoder
class Theirs(CGCNN):
    name = "theirs"
    recipe = GraphRecipe(cutoff=3.25)

class Task(SimCLR):
    name = "their-task"

class View(AtomMasking):
    name = "their-view"
"""
ENTRY_POINTS = {
    "crystalssl.encoders": {"theirs": "theirs_good:Theirs", "broken": "theirs_broken:Broken", "absent": "no_such:X"},
    "crystalssl.tasks": {"their-task": "theirs_good:Task", "number": "theirs_good:GraphRecipe"},
    "crystalssl.augmentations": {"their-view": "theirs_good:View", "misnamed": "theirs_good:AtomMasking"},
}


def install(folder, name, entry_points):
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [
        line
        for group, entries in entry_points.items()
        for line in (f"[{group}]", *(f"{entry} = {value}" for entry, value in entries.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    """An installed package that declares good and bad classes."""
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("theirs_good", "theirs_broken"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    (tmp_path / "theirs_good.py").write_text(GOOD)
    (tmp_path / "theirs_broken.py").write_text("raise RuntimeError('needs a newer torch')\n")
    install(tmp_path, "their-package", ENTRY_POINTS)
    yield tmp_path
    sys.modules.pop("theirs_good", None)


def run_fresh(code):
    """Run code in another process, which finds what this one finds."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env)


def test_installed_classes_are_found_by_name(plugins, prototypes):
    assert "theirs_good" not in sys.modules
    assert ENCODERS["theirs"].recipe.cutoff == 3.25
    assert "theirs_broken" not in sys.modules
    assert TASKS["their-task"].name == "their-task"
    assert AUGMENTATIONS["their-view"].name == "their-view"
    embedder = PretrainedCrystalEmbedder(
        "their-task", encoder="theirs", views="their-view", weights=None, max_epochs=1, batch_size=4, random_state=0
    )
    assert embedder.fit(prototypes[:8]).encoder_.name == "theirs"
    assert (
        CrystalSSLRegressor(None, encoder="theirs", max_epochs=1).fit(prototypes[:4], [1.0, 2, 3, 4]).elements_.size
        == 0
    )


def test_graphs_of_an_installed_encoder_are_built_by_its_name(plugins, prototypes):
    assert "theirs" not in [*RECIPES]  # listing imports nothing
    assert "theirs_good" not in sys.modules
    assert CrystalGraphTransformer("theirs").transform(prototypes[:2]).recipe.cutoff == 3.25
    with pytest.raises(InvalidParameterError, match=r"Did you mean 'theirs'"):
        CrystalGraphTransformer("thiers").fit()


def test_package_that_cannot_be_imported_is_named_when_it_is_asked_for(plugins, prototypes):
    assert "cgcnn" in ENCODERS
    with pytest.raises(PluginError, match=r"'broken' of the package 'their-package' .* RuntimeError: needs a newer"):
        ENCODERS["broken"]
    with pytest.raises(PluginError, match=r"'their-package'.*no_such"):
        CrystalSSLRegressor(None, encoder="absent").fit(prototypes[:4], [1.0] * 4)
    with pytest.raises(PluginError, match=r"'broken' of the package 'their-package'"):
        CrystalGraphTransformer("broken").fit()
    with pytest.raises(PluginError, match=r"'number' .* must be a subclass of crystalssl.pretext._base.PretextTask"):
        TASKS["number"]
    with pytest.raises(PluginError, match=r"the entry point is named 'misnamed', the class 'mask-atoms'"):
        AUGMENTATIONS["misnamed"]


def test_listing_warns_of_a_package_that_cannot_be_imported(plugins):
    with pytest.warns(PluginWarning) as warned:
        names = [*ENCODERS]
    assert len(warned) == 2
    assert any("'broken' of the package 'their-package'" in str(one.message) for one in warned)
    assert "theirs" in names
    assert not {"broken", "absent"} & set(names)
    assert {"theirs", "broken", "absent"} <= set(ENCODERS.names())


def test_counting_is_silent_and_leaves_the_filters_of_other_threads(plugins, monkeypatch):
    seen = []
    load = ENCODERS._load

    def noting(found):
        seen.append(list(warnings.filters))
        load(found)

    monkeypatch.setattr(ENCODERS, "_load", noting)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        filters = list(warnings.filters)
        n_encoders = len(ENCODERS)
    assert caught == []
    assert seen
    assert all(found == filters for found in seen)
    with pytest.warns(PluginWarning):
        assert len([*ENCODERS]) == n_encoders


def test_installed_class_does_not_take_the_place_of_ours(plugins):
    (plugins / "other").mkdir()
    sys.path.insert(0, str(plugins / "other"))
    try:
        install(plugins / "other", "impostor", {"crystalssl.encoders": {"cgcnn": "theirs_broken:X", "theirs": "a:B"}})
        assert ENCODERS["cgcnn"] is CGCNN
        with pytest.raises(PluginError, match=r"'impostor' and the package 'their-package' .*more than one"):
            ENCODERS["theirs"]
    finally:
        sys.path.remove(str(plugins / "other"))


def test_folder_of_an_installed_encoder_loads(plugins, tmp_path):
    save_encoder(tmp_path / "weights", ENCODERS["theirs"](4, 1), {"method": "mask", "elements": [1]})
    code = f"from crystalssl.training import load_encoder; print(load_encoder({str(tmp_path / 'weights')!r})[0].name)"
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert run.stdout.strip() == "theirs", run.stderr


def test_graphs_need_no_torch():
    code = (
        "import sys; from crystalssl import CrystalGraphTransformer; "
        "CrystalGraphTransformer('megnet').fit(); print('torch' in sys.modules)"
    )
    assert run_fresh(code).stdout.strip() == "False"
