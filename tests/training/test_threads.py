"""Fits in threads and processes have the bits of the serial ones, and what is global is left as it was."""

from __future__ import annotations

import os
import random
import sys
import threading
import warnings

import numpy as np
import pytest
import torch
from joblib import Parallel, delayed, parallel_config
from sklearn.base import clone
from skorch.callbacks import Callback
from skorch.helper import predefined_split
from torch import nn

from crystalssl import CrystalGraphTransformer, CrystalSSLClassifier, CrystalSSLRegressor, PretrainedCrystalEmbedder
from crystalssl.encoders import Encoder
from crystalssl.training import CrystalNet
from crystalssl.training._callbacks import FinalWeights
from crystalssl.training._net import train
from crystalssl.training._precision import matmul_precision

# A few crystals hold elements that others do not.
pytestmark = pytest.mark.filterwarnings("ignore::crystalssl.exceptions.UnseenElementsWarning")


@pytest.fixture(autouse=True)
def threads_that_take_turns_often():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.fixture(scope="module")
def X(real_crystals):
    return CrystalGraphTransformer("cgcnn").transform(real_crystals[0][:14])


@pytest.fixture(scope="module")
def y(real_crystals):
    return np.asarray(real_crystals[1][:14])


def models():
    """Eight models with all that is random between them: initial weights, orders, dropout, splits, views."""
    short = {"max_epochs": 2, "batch_size": 5}
    regressor = CrystalSSLRegressor(None, encoder="cgcnn", dropout=0.2, head_dim=16, **short)
    embedder = PretrainedCrystalEmbedder("barlow", weights=None, hidden_dim=8, validation_fraction=0.2, **short)
    classifier = CrystalSSLClassifier(embedder, dropout=0.2, head_dim=16, **short)
    chosen = [
        clone(regressor).set_params(ensemble_size=2),
        clone(regressor).set_params(early_stopping=True, validation_fraction=0.3),
        clone(regressor).set_params(encoder="megnet", precision="medium"),
        clone(regressor).set_params(precision="medium", readout="attention"),
        embedder,
        clone(embedder).set_params(method="simsiam", precision="medium"),
        PretrainedCrystalEmbedder("barlow"),
        classifier,
    ]
    return [model.set_params(random_state=seed) for seed, model in enumerate(chosen)]


def outcome(model, X, y):
    """What a model makes of the crystals that it was fitted on."""
    model, labels, method = task(model, y)
    return getattr(model.fit(X, labels), method)(X)


def task(model, y):
    """A model, its labels, and the method that tells what it has learnt."""
    labels = y > np.median(y) if isinstance(model, CrystalSSLClassifier) else y
    return model, labels, next(name for name in ("predict_proba", "predict", "transform") if hasattr(model, name))


@pytest.fixture(scope="module")
def serial(X, y):
    return [outcome(model, X, y) for model in models()]


def in_joblib(backend, **params):
    def run(function, arguments):
        with parallel_config(backend, n_jobs=4 if backend == "threading" else 2, **params):
            return Parallel()(delayed(function)(*one) for one in arguments)

    return run


def in_dask(function, arguments):
    dask = pytest.importorskip("dask")
    tasks = [dask.delayed(function)(*one) for one in arguments]
    return dask.compute(*tasks, scheduler="threads", num_workers=4)


RUNS = {
    "threading": in_joblib("threading"),
    "loky": in_joblib("loky", inner_max_num_threads=torch.get_num_threads()),
    "dask": in_dask,
}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_same_bits_as_one_after_the_other(run, X, y, serial):
    # Defined here, so that processes get it by value; they cannot import a test.
    def fit(model, labels, method):
        return getattr(model.fit(X, labels), method)(X)

    arguments = [task(model, y) for model in models()]
    before = global_state()
    found = run(fit, arguments)
    assert global_state() == before
    assert [rows.tobytes() for rows in found] == [rows.tobytes() for rows in serial]


def test_a_search_of_optuna_in_threads(X, y):
    optuna = pytest.importorskip("optuna")
    OptunaSearchCV = pytest.importorskip("optuna_integration").OptunaSearchCV
    spaces = {"dropout": [0.1, 0.3], "batch_size": [3, 4, 7]}

    def values(n_jobs):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the search is experimental
            search = OptunaSearchCV(
                CrystalSSLRegressor(None, encoder="cgcnn", max_epochs=2, random_state=0),
                {name: optuna.distributions.CategoricalDistribution(choices) for name, choices in spaces.items()},
                study=optuna.create_study(sampler=optuna.samplers.BruteForceSampler(seed=0), direction="maximize"),
                cv=2,
                n_trials=6,
                n_jobs=n_jobs,
                random_state=0,
            )
            trials = search.fit(X, y).study_.trials
        return {(trial.params["dropout"], trial.params["batch_size"]): trial.value for trial in trials}

    one_by_one = values(1)
    assert len(set(one_by_one.values())) == 6
    in_threads = values(2)  # two threads may try the same, and then not all are tried
    assert len(in_threads) > 2
    assert in_threads.items() <= one_by_one.items()


def test_one_model_predicts_in_many_threads(X, y):
    model = CrystalSSLRegressor(None, encoder="cgcnn", max_epochs=1, random_state=0).fit(X, y)
    expected = model.predict(X)
    for found in Parallel(4, backend="threading")(delayed(model.predict)(X) for _ in range(12)):
        assert found.tobytes() == expected.tobytes()


def test_what_others_draw_meanwhile_is_their_own(X, y):
    """Neither do models disturb a thread that draws from torch's global generator, nor does it disturb them."""
    done = threading.Event()
    drawn = []

    def draw():
        while not done.is_set():
            drawn.append(torch.rand(1))

    chosen = [models()[number] for number in (0, 4, 7)]
    expected = [outcome(clone(model), X, y) for model in chosen]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        thread = threading.Thread(target=draw)
        thread.start()
        try:
            found = [outcome(clone(model), X, y) for model in chosen]
        finally:
            done.set()
            thread.join()
    assert [rows.tobytes() for rows in found] == [rows.tobytes() for rows in expected]
    assert torch.equal(torch.cat(drawn), torch.rand(len(drawn), generator=torch.Generator().manual_seed(0)))


# ------------------------------------------------------------------ modules that know the global generator only


class Averager(nn.Module):
    """Batch statistics and torch's own dropout."""

    def __init__(self):
        super().__init__()
        self.atoms = nn.Embedding(119, 6)
        self.norm = nn.BatchNorm1d(6)
        self.drop = nn.Dropout(0.3)
        self.out = nn.Linear(6, 1)

    def forward(self, batch):
        return self.out(self.drop(self.norm(sums(self.atoms(batch.z), batch))))


class Noisy(nn.Module):
    """Draws as foreign code does, forwards, and backwards where a checkpoint runs it again."""

    def __init__(self):
        super().__init__()
        self.atoms = nn.Embedding(119, 6)
        self.out = nn.Linear(6, 1)

    def hidden(self, x):
        return nn.functional.dropout(x, 0.3, self.training) + 0.1 * torch.randn_like(x)

    def forward(self, batch):
        x = self.atoms(batch.z)
        x = torch.utils.checkpoint.checkpoint(self.hidden, x, use_reentrant=False) if self.training else x
        return self.out(sums(x, batch))


def sums(x, batch):
    return torch.zeros(batch.num_graphs, x.shape[1]).index_add(0, batch.batch, x)


def new_net(module, seed, valid):
    return CrystalNet(
        module,
        lr=0.05,
        batch_size=5,
        max_epochs=4,
        seed=seed,
        train_split=predefined_split(valid),
        callbacks=[("final_weights", FinalWeights())],
        callbacks__print_log=None,
        verbose=0,
    ).initialize()


@pytest.mark.parametrize("module_class", [Averager, Noisy])
def test_modules_that_draw_globally_train_in_threads(dataset, valid, module_class):
    def new_nets():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            modules = [module_class() for _ in range(6)]
        return [new_net(module, seed, valid) for seed, module in enumerate(modules)]

    def weights(net):
        return [parameter.detach().numpy().tobytes() for parameter in train(net, dataset).module_.parameters()]

    expected = [weights(net) for net in new_nets()]
    before = global_state()
    found = Parallel(4, backend="threading")(delayed(weights)(net) for net in new_nets())
    assert global_state() == before
    assert found == expected
    with torch.random.fork_rng():
        torch.manual_seed(99)
        assert [weights(net) for net in new_nets()] == expected
    again = [weights(net.set_params(seed=7)) for net in new_nets()]
    assert all(a != b for a, b in zip(again, expected, strict=True))


# ------------------------------------------------------------------ what is global


def global_state():
    """All that is global and that training could change."""
    _, keys, *rest = np.random.get_state()  # noqa: NPY002  (the global state is the point)
    backends = torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn
    backends += torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv, torch.backends.mkldnn.rnn, torch.backends
    return {
        "torch": torch.get_rng_state().tolist(),
        "numpy": (keys.tolist(), rest),
        "python": random.getstate(),
        "precision": [backend.fp32_precision for backend in backends],
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "deterministic": (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic),
        "modes": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")),
        "warnings": list(warnings.filters),
        "errors": np.geterr(),
        "environment": dict(os.environ),
    }


@pytest.fixture
def restored_backends():
    backends = torch.backends.mkldnn.matmul, torch.backends.cuda.matmul
    before = [backend.fp32_precision for backend in backends]
    yield backends
    for backend, value in zip(backends, before, strict=True):
        backend.fp32_precision = value


@pytest.mark.parametrize("set_by_user", ["nothing", "everything"])
def test_public_calls_leave_what_is_global(real_crystals, y, tmp_path, set_by_user, restored_backends, monkeypatch):
    crystals = real_crystals[0][:14]
    PretrainedCrystalEmbedder("barlow").fit_transform(crystals)  # what is imported first may add filters of its own
    if set_by_user == "everything":
        restored_backends[0].fp32_precision, restored_backends[1].fp32_precision = "bf16", "tf32"
        monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    before = global_state()

    def unchanged(value):
        assert global_state() == before
        return value

    for model in models():
        model, labels, method = task(model, y)
        unchanged(model.fit(crystals, labels))
        unchanged(getattr(model, method)(crystals))
        if hasattr(model, "score"):
            unchanged(model.score(crystals, labels))
        unchanged(clone(model))
    embedder = unchanged(PretrainedCrystalEmbedder("cdssl").fit([]))
    unchanged(embedder.save_pretrained(tmp_path / "weights"))
    unchanged(PretrainedCrystalEmbedder.from_pretrained(tmp_path / "weights"))
    unchanged(CrystalGraphTransformer().fit_transform(crystals))


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("number", [0, 1, 2, 3, 4, 5, 7])  # the other one is not trained
def test_calls_that_break_off_leave_what_is_global(X, y, number, error, monkeypatch):
    model = models()[number]
    calls = []
    forward = Encoder.forward

    def breaking(self, batch):
        calls.append(self.training)
        if calls.count(True) == 3:
            raise error
        return forward(self, batch)

    monkeypatch.setattr(Encoder, "forward", breaking)
    before = global_state()
    with pytest.raises(error):
        outcome(model, X, y)
    assert global_state() == before
    with matmul_precision("high"):  # nobody is left inside
        assert torch.backends.mkldnn.matmul.fp32_precision == "tf32"
    assert global_state() == before


def test_precision_of_other_threads(X, y):
    """Each multiplies with its own, and none keeps another from going on."""
    seen = {"highest": set(), "medium": set()}

    class Spy(Callback):
        def __init__(self, precision):
            self.precision = precision

        def on_grad_computed(self, net, **kwargs):
            seen[self.precision].add(torch.backends.mkldnn.matmul.fp32_precision)

    def fit(precision):
        model = CrystalSSLRegressor(
            None, encoder="cgcnn", max_epochs=2, random_state=0, precision=precision, callbacks=[Spy(precision)]
        )
        return model.fit(X, y).predict(X)

    expected = {precision: fit(precision) for precision in seen}
    order = [*seen] * 4
    found = Parallel(4, backend="threading")(delayed(fit)(precision) for precision in order)
    assert seen == {"highest": {"ieee"}, "medium": {"bf16"}}
    for precision, rows in zip(order, found, strict=True):
        assert rows.tobytes() == expected[precision].tobytes()
