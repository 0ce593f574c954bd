from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from skorch.callbacks import Callback

from crystalssl import CrystalSSLRegressor, PretrainedCrystalEmbedder
from crystalssl.training import BatchIterator
from crystalssl.training._callbacks import FinalWeights, Progress, WarmupCosine
from crystalssl.training._net import train

from .pretraining import pretrain

# A few crystals hold elements that others do not.
pytestmark = pytest.mark.filterwarnings("ignore::crystalssl.exceptions.UnseenElementsWarning")


class Spy(Callback):
    """Keeps the weights after every step and epoch, and the learning rates of every step."""

    def on_train_begin(self, net, **kwargs):
        self.steps, self.epochs, self.rates = [], [], []

    def on_batch_end(self, net, training=False, **kwargs):
        if training:
            self.steps.append(copy.deepcopy(net.module_.state_dict()))
            self.rates.append([group["lr"] for group in net.optimizer_.param_groups])

    def on_epoch_end(self, net, **kwargs):
        self.epochs.append(copy.deepcopy(net.module_.state_dict()))


class Script(Callback):
    """Records losses as if they had been measured."""

    def __init__(self, losses):
        self.losses = losses

    def on_epoch_end(self, net, **kwargs):
        net.history.record("scripted_loss", self.losses[len(net.history) - 1])


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


# ------------------------------------------------------------------ WarmupCosine


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5])
@pytest.mark.parametrize(("n_batches", "n_epochs"), [(10, 10), (1, 30), (7, 3)])
def test_rate_rises_linearly_then_falls_to_zero(n_batches, n_epochs, warmup):
    schedule = WarmupCosine(n_batches, n_epochs, warmup)
    factors = np.array([schedule.factor(step) for step in range(n_batches * n_epochs)])
    assert (factors >= 0).all()
    assert (factors <= 1).all()
    peak = int(factors.argmax())
    assert factors[peak] > 0.95
    assert abs(peak + 1 - warmup * len(factors)) <= 1
    rising = np.diff(factors[:peak])
    np.testing.assert_allclose(rising, 1 / (warmup * len(factors)) if warmup else 0, atol=1e-12)
    assert (np.diff(factors[peak:]) < 0).all()
    assert factors[-1] == pytest.approx(0, abs=1e-12)
    # A cosine: half-way down the rate is half the peak, and there it falls fastest.
    middle = schedule.factor(round((warmup + 1) / 2 * len(factors)) - 1)
    assert middle == pytest.approx(0.5, abs=2 / len(factors))


def test_rates_of_all_groups_follow_the_schedule(make_net, dataset):
    spy = Spy()
    schedule = WarmupCosine(3, 4)
    groups = [("atoms.*", {"lr": 0.002})]
    net = make_net([("schedule", schedule), ("spy", spy)], optimizer__param_groups=groups)
    train(net, dataset)
    factors = np.array([schedule.factor(step) for step in range(12)])
    np.testing.assert_allclose(spy.rates, factors[:, None] * [0.002, 0.05])
    np.testing.assert_allclose(net.history[:, "learning_rate"], 0.05 * factors[2::3])


def test_rate_of_zero_changes_no_weights(make_net, dataset):
    net = make_net([("schedule", WarmupCosine(3, 4)), ("spy", Spy())], optimizer__weight_decay=0.5)
    train(net, dataset)
    before, after = (dict(net.callbacks_)["spy"].steps[step] for step in (10, 11))
    assert torch.equal(before["out.weight"], after["out.weight"])


# ------------------------------------------------------------------ FinalWeights


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_average_equals_one_by_hand(make_net, dataset, decay):
    net = make_net([("spy", Spy())], ema_decay=decay)
    train(net, dataset)
    first, *steps = dict(net.callbacks_)["spy"].steps
    expected = dict(first)
    for n, current in enumerate(steps, start=1):
        d = min(decay, (1 + n) / (10 + n))
        for name, tensor in current.items():
            floating = tensor.is_floating_point()
            expected[name] = d * expected[name] + (1 - d) * tensor if floating else tensor
    found = net.module_.state_dict()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(found["out.weight"], steps[-1]["out.weight"])
    assert found["norm.num_batches_tracked"] == 12


def test_without_average_the_last_weights_stay(make_net, dataset):
    net = make_net([("spy", Spy())])
    train(net, dataset)
    assert_equal(net.module_.state_dict(), dict(net.callbacks_)["spy"].epochs[-1])
    assert not net.module_.training


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_validation_measures_the_weights_that_training_leaves_behind(make_net, dataset, valid, ema_decay):
    net = make_net(valid=valid, ema_decay=ema_decay)
    train(net, dataset)
    with torch.no_grad():
        [(batch, y)] = BatchIterator(valid, 100)
        loss = (net.module_(batch) - y).abs().mean()
    assert net.history[-1, "valid_loss"] == pytest.approx(float(loss), rel=1e-5)


@pytest.mark.parametrize(
    ("losses", "best"), [([3, 1, 2, 2], 1), ([1, 1, 1, 1], 0), ([4, 3, 2, 1], 3), ([float("nan"), 2, 1, 3], 2)]
)
def test_best_epoch_is_restored(make_net, dataset, losses, best):
    spy, final = Spy(), FinalWeights(monitor="scripted_loss")
    net = make_net([("script", Script(losses)), ("final_weights", final), ("spy", spy)])
    train(net, dataset)
    assert len(net.history) == 4
    assert_equal(net.module_.state_dict(), spy.epochs[best])
    assert final.best_epoch_ == best + 1


def test_best_epoch_of_the_average_is_restored(make_net, dataset):
    averages = []

    class KeepAverage(Callback):
        def on_epoch_end(self, net, **kwargs):
            averages.append(copy.deepcopy(dict(net.callbacks_)["final_weights"].average_.module.state_dict()))

    final = FinalWeights(0.9, monitor="scripted_loss")
    callbacks = [("script", Script([3, 1, 2, 2])), ("final_weights", final), ("keep", KeepAverage())]
    net = make_net(callbacks)
    train(net, dataset)
    assert_equal(net.module_.state_dict(), averages[1])
    assert not torch.equal(averages[1]["out.weight"], averages[3]["out.weight"])


@pytest.mark.parametrize(
    ("losses", "patience", "n_epochs", "best"),
    [
        ([3, 2, 2, 2, 1, 0], 2, 4, 1),
        ([3, 2, 2, 2, 1, 0], 3, 6, 5),
        ([1, 2, 0, 2, 2, 2], 1, 2, 0),
        ([1, 2, 0, 2, 2, 2], None, 6, 2),
    ],
)
def test_patience_stops_and_restores_the_best(make_net, dataset, losses, patience, n_epochs, best):
    spy, final = Spy(), FinalWeights(monitor="scripted_loss", patience=patience)
    net = make_net([("spy", spy), ("script", Script(losses)), ("final_weights", final)], max_epochs=6)
    train(net, dataset)
    assert len(net.history) == n_epochs
    assert_equal(net.module_.state_dict(), spy.epochs[best])
    assert not net.module_.training


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_divergence_is_an_error_that_names_the_epoch(make_net, dataset, monkeypatch, loss):
    net = make_net()
    criterion = net.criterion_.forward

    def diverging(*args):
        return criterion(*args) * (loss if len(net.history) == 3 else 1)

    monkeypatch.setattr(net.criterion_, "forward", diverging)
    with pytest.raises(FloatingPointError, match=r"diverged: the loss of epoch 3 is (nan|inf); lower learning_rate"):
        train(net, dataset)


# ------------------------------------------------------------------ clipping


@pytest.mark.parametrize("clip", [None, 1e-3, 0.1])
def test_pretraining_clips_the_gradient(real_graphs, tiny_settings, gradient_norms, clip):
    pretrain(real_graphs[:12], None, **{**tiny_settings, "gradient_clip": clip})
    assert len(gradient_norms) == 8
    if clip is None:
        assert min(gradient_norms) > 0.1
    else:
        np.testing.assert_allclose(gradient_norms, clip, rtol=1e-3)


# ------------------------------------------------------------------ history


def test_losses_of_an_epoch_are_means_over_crystals(make_net, dataset, valid):
    net = make_net(valid=valid)
    train(net, dataset)
    sizes = {"train": [5, 5, 2], "valid": [5, 2]}
    assert len(net.history) == 4
    for epoch in net.history:
        for name, weights in sizes.items():
            losses = [batch[f"{name}_loss"] for batch in epoch["batches"] if f"{name}_loss" in batch]
            assert [b[f"{name}_batch_size"] for b in epoch["batches"] if f"{name}_loss" in b] == weights
            assert epoch[f"{name}_loss"] == pytest.approx(np.average(losses, weights=weights), rel=1e-9)
            assert epoch[f"{name}_loss"] != pytest.approx(np.mean(losses), rel=1e-5)


@pytest.mark.parametrize("fraction", [0, 0.2])
def test_history_has_one_entry_per_epoch(real_graphs, tiny_settings, fraction):
    _, history = pretrain(real_graphs[:12], None, **{**tiny_settings, "validation_fraction": fraction})
    assert [epoch["epoch"] for epoch in history] == [1, 2, 3, 4]
    for epoch in history:
        assert np.isfinite(epoch["train_loss"])
        assert ("valid_loss" in epoch) == bool(fraction)
        assert np.isfinite(epoch.get("valid_loss", 0))
        assert set(epoch) <= {"epoch", "train_loss", "valid_loss", "learning_rate", "dur", "device"}
        assert epoch["device"] == "cpu"


# ------------------------------------------------------------------ Progress


def test_progress_is_one_line_with_the_losses(make_net, dataset, valid, capfd):
    net = make_net([("progress", Progress(3, 4, "learning"))], valid=valid)
    train(net, dataset)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.endswith("\n")
    last = err.rstrip().split("\r")[-1]
    for part in ("learning", "12/12", "epoch=4/4", "train=", "valid="):
        assert part in last
    assert not hasattr(dict(net.callbacks_)["progress"], "bar_")


@pytest.mark.parametrize("verbose", [0, 1])
def test_pretraining_says_nothing_unless_asked(real_graphs, tiny_settings, capfd, verbose):
    pretrain(real_graphs[:12], None, **tiny_settings, verbose=verbose)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == verbose
    assert ("pretraining (barlow)" in err) == bool(verbose)


# ------------------------------------------------------------------ copies


class Writer:
    """Stands for what is one of its kind: a log that is being written, a trial of a study."""

    def __init__(self, error=TypeError):
        self.error = error
        self.lines = []

    def __deepcopy__(self, memo):
        raise self.error("one of its kind")


class Log(Callback):
    """Like TensorBoard's: the parameter is kept under its name, and cannot be copied."""

    def __init__(self, writer):
        self.writer = writer

    def on_train_begin(self, net, **kwargs):
        self.epochs_ = 0

    def on_epoch_end(self, net, **kwargs):
        self.epochs_ += 1
        self.writer.lines.append(net.history[-1, "train_loss"])


class Pruning(Callback):
    """Like that of optuna: the parameter is kept under another name, which scikit-learn cannot clone."""

    def __init__(self, trial):
        self._trial = trial

    def on_epoch_end(self, net, **kwargs):
        self._trial.lines.append(net.history[-1, "train_loss"])


@pytest.mark.parametrize("error", [TypeError, RuntimeError, NotImplementedError])
@pytest.mark.parametrize("callback_class", [Log, Pruning])
def test_callbacks_that_cannot_be_cloned_are_copied_without_what_they_hold(real_graphs, callback_class, error):
    writer = Writer(error)
    callback = callback_class(writer)
    model = CrystalSSLRegressor(
        None, encoder="cgcnn", max_epochs=2, ensemble_size=2, random_state=0, callbacks=[callback, ("named", callback)]
    )
    copied = clone(model)
    for one, other in zip(model.callbacks, copied.callbacks, strict=True):
        one, other = (item[1] if isinstance(item, tuple) else item for item in (one, other))
        assert one is not other
        assert vars(one) == vars(other) != {}
    y = np.arange(8.0)
    copied.fit(real_graphs[:8], y)
    assert len(writer.lines) == 2 * 2 * 2  # callbacks, networks, epochs
    assert "epochs_" not in vars(callback)
    plain = clone(model).set_params(callbacks=None).fit(real_graphs[:8], y)
    assert np.array_equal(copied.predict(real_graphs[:8]), plain.predict(real_graphs[:8]))
    scores = cross_val_score(model, real_graphs[:8], y, cv=2, error_score="raise")
    assert np.isfinite(scores).all()


def test_callbacks_that_can_be_cloned_are_copied_with_all_they_hold(real_graphs):
    held = []

    class Keeper(Callback):
        def __init__(self, held):
            self.held = held

        def on_epoch_end(self, net, **kwargs):
            self.held.append(len(net.history))

    model = CrystalSSLRegressor(
        None, encoder="cgcnn", max_epochs=2, ensemble_size=2, random_state=0, callbacks=(Keeper(held),)
    )
    assert isinstance(clone(model).callbacks, tuple)
    model.fit(real_graphs[:8], np.arange(8.0))
    assert held == []
    assert [dict(net.callbacks_)["Keeper"].held for net in model.nets_] == [[1, 2], [1, 2]]


def test_a_clone_keeps_what_else_scikit_learn_clones():
    model = CrystalSSLRegressor(PretrainedCrystalEmbedder("cdssl"), callbacks=[Pruning(Writer())], dropout=0.3)
    with config_context(enable_metadata_routing=True):
        model.set_fit_request(sample_weight=True)
        copied = clone(model)
        assert copied.get_metadata_routing().fit.requests == model.get_metadata_routing().fit.requests
    assert copied.dropout == 0.3
    assert copied.pretrain is not model.pretrain
    assert copied.pretrain.method == "cdssl"


@pytest.mark.parametrize("storage", [None, "sqlite"])
def test_trials_of_optuna_are_pruned(real_graphs, tmp_path, storage):
    optuna = pytest.importorskip("optuna")
    SkorchPruningCallback = pytest.importorskip("optuna_integration").SkorchPruningCallback
    study = optuna.create_study(
        storage=storage and f"sqlite:///{tmp_path}/trials",
        pruner=optuna.pruners.ThresholdPruner(upper=0, n_warmup_steps=1),
    )

    def objective(trial):
        model = CrystalSSLRegressor(
            None, encoder="cgcnn", max_epochs=4, random_state=0, callbacks=[SkorchPruningCallback(trial, "train_loss")]
        )
        clone(model).fit(real_graphs[:8], np.arange(8.0))
        return 0.0

    study.optimize(objective, n_trials=2)
    for trial in study.trials:
        assert trial.state == optuna.trial.TrialState.PRUNED
        assert [*trial.intermediate_values] == [0, 1]
