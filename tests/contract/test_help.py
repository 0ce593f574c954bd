"""What users see: representations, documentation, and errors that say what was meant."""

from __future__ import annotations

import ast
import inspect
import warnings

import pytest
from numpydoc.docscrape import ClassDoc, FunctionDoc
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

import crystalssl
from crystalssl import CrystalGraphTransformer, CrystalSSLClassifier, CrystalSSLRegressor, PretrainedCrystalEmbedder
from crystalssl.exceptions import WeightsError

from .cases import ESTIMATORS

# ---------------------------------------------------------------------- representation


@pytest.mark.parametrize("cls", ESTIMATORS, ids=lambda cls: cls.__name__)
def test_representation_shows_what_differs_from_the_defaults(cls):
    assert repr(cls()) == f"{cls.__name__}()"
    assert repr(cls(n_jobs=2)) == f"{cls.__name__}(n_jobs=2)"
    assert eval(repr(cls(n_jobs=2)), {cls.__name__: cls}).n_jobs == 2


@pytest.mark.parametrize("cls", ESTIMATORS, ids=lambda cls: cls.__name__)
def test_html_diagram(cls):
    last = [] if cls in (CrystalSSLRegressor, CrystalSSLClassifier) else [Ridge()]
    first = [] if cls is CrystalGraphTransformer else [CrystalGraphTransformer()]
    changed = cls(n_jobs=2)  # scikit-learn 1.6 shows what differs from the defaults, later ones everything
    for shown in (changed, make_pipeline(*first, changed, *last), GridSearchCV(changed, {"verbose": [1]})):
        html = shown._repr_html_()
        assert cls.__name__ in html
        assert "sk-estimator" in html
        assert "n_jobs" in html


def test_html_diagram_of_a_fitted_pipeline(regressor, X, numbers):
    model = make_pipeline(CrystalGraphTransformer(), regressor)
    assert "Not fitted" in model._repr_html_()
    assert "<span>Fitted</span>" in model.fit(X, numbers)._repr_html_()


# ---------------------------------------------------------------------- documentation


def documented():
    """Public classes and functions of all modules, and the methods of those that users import from the top."""
    modules = [crystalssl, *(getattr(crystalssl, name) for name in crystalssl.__all__)]
    found = {}
    for module in filter(inspect.ismodule, modules):
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isclass(value) or inspect.isfunction(value):
                found[f"{value.__module__}.{value.__qualname__}"] = value
    for name in crystalssl._DEFINED_IN:
        cls = getattr(crystalssl, name)
        for method, value in inspect.getmembers(cls) if inspect.isclass(cls) else ():
            value = getattr(value, "__func__", value)  # of a class method
            if inspect.isfunction(value) and not method.startswith("_") and value.__module__.startswith("crystalssl"):
                found[f"{value.__module__}.{value.__qualname__}"] = value
    return found


DOCUMENTED = documented()


def parameters_of(value):
    """Parameters of the signature with their defaults, without `self`, and of the docstring as it describes them."""
    if inspect.isclass(value):
        signature = inspect.signature(value).parameters
        sections = ClassDoc(value, config={"show_class_members": False})
    else:
        signature, sections = inspect.signature(value).parameters, FunctionDoc(value)
    actual = {
        str(parameter.replace(default=inspect.Parameter.empty, annotation=inspect.Parameter.empty)): parameter.default
        for name, parameter in signature.items()
        if name not in ("self", "cls")
    }
    described = {}
    for entry in sections["Parameters"]:
        for name in entry.name.split(", "):
            described[name.replace("\\", "")] = entry.type
    return actual, described


@pytest.mark.parametrize("value", DOCUMENTED.values(), ids=DOCUMENTED)
def test_parameters_are_documented_as_they_are(value):
    assert inspect.getdoc(value)
    own = {"__init__", "__new__"} & vars(value).keys()
    if inspect.isclass(value) and not own and "\nParameters\n" not in inspect.getdoc(value):
        return  # the class that it derives from says them
    actual, described = parameters_of(value)
    assert list(described) == list(actual)
    for name, kind in described.items():
        stated = kind.partition("default=")[2]
        if not kind or kind == "ignored":
            continue  # "as in ..."
        if actual[name] is inspect.Parameter.empty:
            assert not stated, name
        elif "default" in kind:
            default = actual[name]
            if inspect.isclass(default):
                assert stated.endswith(f".{default.__name__}"), name
            else:
                assert ast.literal_eval(stated) == default, name
        else:
            pytest.fail(f"{name} has a default, which its documentation does not say")


# ---------------------------------------------------------------------- did you mean

MISSPELT = {
    "encoder of the graphs": (lambda X: CrystalGraphTransformer("gatedgnc").fit(X), "gatedgcn"),
    "encoder of an embedder": (lambda X: PretrainedCrystalEmbedder(encoder="cgcn").fit(X), "cgcnn"),
    "encoder of a regressor": (lambda X: CrystalSSLRegressor(None, encoder="gatedgnc").fit(X, [1.0] * 24), "gatedgcn"),
    "method": (lambda X: PretrainedCrystalEmbedder("barlw").fit(X), "barlow"),
    "beginning of a method": (lambda X: PretrainedCrystalEmbedder("spmat").fit(X), "spmat-barlow"),
    "readout": (lambda X: CrystalSSLRegressor(readout="set2sets").fit(X, [1.0] * 24), "set2set"),
    "weights of a regressor": (lambda X: CrystalSSLRegressor("barlw").fit(X, [1.0] * 24), "barlow"),
    "weights of a classifier": (lambda X: CrystalSSLClassifier("simsim").fit(X, [0, 1] * 12), "simsiam"),
    "bundled": (lambda X: PretrainedCrystalEmbedder(weights="bundeld").fit(X), "bundled"),
    "parameter": (lambda X: CrystalSSLRegressor().set_params(lerning_rate=1), "learning_rate"),
    "parameter of a step": (
        lambda X: make_pipeline(PretrainedCrystalEmbedder()).set_params(pretrainedcrystalembedder__max_epoch=1),
        "max_epochs",
    ),
    "parameter of a method": (
        lambda X: PretrainedCrystalEmbedder("cdssl", weights=None, task_params={"sgima": 1}).fit(X),
        "sigma",
    ),
    "parameter of an encoder": (
        lambda X: PretrainedCrystalEmbedder(weights=None, encoder_params={"n_layer": 1}).fit(X),
        "n_layers",
    ),
}


@pytest.mark.parametrize(("call", "meant"), MISSPELT.values(), ids=MISSPELT)
def test_misspelt_names(call, meant, X):
    with pytest.raises((ValueError, WeightsError), match=f"Did you mean '{meant}'\\?"):
        call(X)


def test_misspelt_folder_of_weights(tiny_weights, X):
    with pytest.raises(WeightsError, match=f"Did you mean '{tiny_weights}'\\?"):
        PretrainedCrystalEmbedder(weights=tiny_weights[:-1]).fit(X)


def test_name_like_no_other_gets_no_suggestion(X):
    for call in (
        lambda: PretrainedCrystalEmbedder("perceiver").fit(X),
        lambda: CrystalSSLRegressor(loss="mae").fit(X, [1.0] * 24),
        lambda: CrystalSSLRegressor(n_jobs="many").fit(X, [1.0] * 24),
        lambda: CrystalSSLRegressor().set_params(**{"": 1}),
    ):
        with pytest.raises(ValueError, match="parameter") as caught:
            call()
        assert "Did you mean" not in str(caught.value)


def test_method_without_bundled_weights_says_how_to_get_them(X):
    with pytest.raises(WeightsError, match=r"pretrain on .*PretrainedCrystalEmbedder\('composite', weights=None\)"):
        CrystalSSLRegressor("composite").fit(X, [1.0] * 24)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PretrainedCrystalEmbedder("composite")  # nothing happens before fit
