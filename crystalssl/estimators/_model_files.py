"""Finetuned models as folders: networks as safetensors, the rest as JSON, and a card."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from skorch.history import History

from crystalssl._suggestions import did_you_mean
from crystalssl._tensors import read_header
from crystalssl._version import __version__
from crystalssl.encoders import ENCODERS, Encoder
from crystalssl.estimators._card import versions, write_card
from crystalssl.estimators._network import PropertyNetwork, release
from crystalssl.estimators._record import TrainingRecord
from crystalssl.estimators._source import NotStored
from crystalssl.exceptions import NotRegisteredError, PluginError, WeightsError
from crystalssl.training import CrystalNet
from crystalssl.training._finite import find_fault
from crystalssl.training._fit import epochs_of
from crystalssl.training._folders import MODEL, WEIGHTS, checksum, kind_of, read_config, read_folder, write_folder
from crystalssl.training._precision import usual_torch
from crystalssl.training._seeding import seeded
from crystalssl.training._weights import check_sizes, reads_recipe

__all__ = ["learnt_of", "load", "load_model", "restore", "save_model"]

_PLAIN = ("n_targets_", "single_target_", "target_names_", "target_units_", "trained_on_")
"""What a fitted model has learnt that is JSON as it is."""


def load(folder: str | os.PathLike) -> Any:
    """Return the fitted estimator that a folder holds.

    Nothing in the folder is executed, and all of it is checked.

    Parameters
    ----------
    folder : path
        A model folder, of ``CrystalSSLRegressor.save`` or ``CrystalSSLClassifier.save``, or a weights folder, of
        ``PretrainedCrystalEmbedder.save_pretrained``.

    Returns
    -------
    CrystalSSLRegressor, CrystalSSLClassifier or PretrainedCrystalEmbedder

    Raises
    ------
    WeightsError
        If there is no such folder, or if a file in it is missing, truncated or altered, or is of a newer version.

    Examples
    --------
    >>> import crystalssl
    >>> crystalssl.load(crystalssl.training.bundled_weights()["barlow"]).encoder_.name
    'cgcnn'
    """
    from crystalssl import estimators

    folder = _check_place(folder)
    if kind_of(folder) is WEIGHTS:
        return estimators.PretrainedCrystalEmbedder.from_pretrained(folder)
    name = read_config(folder, MODEL)["estimator"]
    if name not in ("CrystalSSLRegressor", "CrystalSSLClassifier"):
        raise WeightsError(
            f"{folder} holds a {name}, which crystalssl {__version__} does not have; update crystalssl, or read it "
            "with the `load` of that class"
        )
    return load_model(folder, getattr(estimators, name))


# ------------------------------------------------------------------ writing


def save_model(
    model: Any, folder: str | os.PathLike, cross_validation: Any, command: str | None, card: str | None
) -> None:
    """Write a model folder, as :meth:`crystalssl.CrystalSSLRegressor.save` says."""
    ENCODERS.check(type(model.net_.module_.encoder))
    learnt, tensors = learnt_of(model)
    for member in range(len(model.nets_)):
        fault = find_fault(_part(tensors, "networks", member))
        if fault is not None:
            raise WeightsError(f"the model is not saved to {folder}: {fault}; fit again")
    content = save_tensors(tensors)
    params, left_out = _encode_params(model)
    if left_out:
        warnings.warn(
            f"{', '.join(left_out)} cannot be stored in a model folder, and will be missing when {folder} is loaded; "
            "predictions do not depend on that",
            stacklevel=3,
        )
    config = {
        "format": MODEL.format,
        "estimator": type(model).__name__,
        "version": __version__,
        "versions": versions(),
        "params": params,
        "not_stored": left_out,
        **learnt,
        "cross_validation": _as_text(cross_validation),
        "command": command,
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    config = json.loads(json.dumps(config, allow_nan=False))  # as it will be read, tuples as lists
    config["checksum"] = checksum(config)
    write_folder(Path(folder), MODEL, config, content, write_card(model, config) if card is None else card)


def learnt_of(model: Any) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return what a model has learnt, as JSON values and tensors, from which :func:`restore` has it again."""
    encoder = model.net_.module_.encoder
    tensors: dict[str, torch.Tensor] = {}
    for member, net in enumerate(model.nets_):
        # Copies, because layers of other people share weights, which safetensors refuses.
        state = net.module_.state_dict().items()
        tensors |= {f"networks.{member}.{name}": tensor.detach().cpu().clone().contiguous() for name, tensor in state}
        tensors |= {f"histories.{member}.{name}": column for name, column in _columns(epochs_of(net)).items()}
    network = {
        "encoder": encoder.name,
        "encoder_params": encoder.config,
        "recipe": encoder.recipe.to_dict(),
        "seeds": [net.seed for net in model.nets_],
        **model.net_.module_.config,
    }
    fitted = {
        **{name: getattr(model, name) for name in _PLAIN if hasattr(model, name)},
        "target": model.target_.to_config(),
        "elements": model.elements_.tolist(),
        "trained_elements": getattr(model, "trained_elements_", model.elements_).tolist(),
        "built_with": getattr(model, "_built_with", {}),
        "output": getattr(model, "_sklearn_output_config", {}),
    }
    record = getattr(model, "_record", None)
    if record is not None:
        tensors |= record.to_tensors()
        fitted["scales"] = [scale.to_config() for scale in model._scales if scale is not model.target_]
    if hasattr(model, "oof_score_"):
        fitted["oof_score_"] = model.oof_score_
        tensors["oof.0.predictions"] = torch.from_numpy(model._oof)
    return {"network": network, "fitted": fitted}, tensors


def _columns(epochs: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    names = epochs[0] if epochs else {}
    return {name: torch.tensor([float(epoch[name]) for epoch in epochs], dtype=torch.float64) for name in names}


def _as_text(errors: Any) -> Any:
    """Return errors of cross-validation as JSON values: a text, or texts by name."""
    if errors is None or isinstance(errors, str):
        return errors
    if isinstance(errors, Mapping):
        return {str(name): value if isinstance(value, str) else f"{float(value):.4g}" for name, value in errors.items()}
    raise ValueError(f"cross_validation must be a text, or numbers and texts by name; got {errors!r}")


def _encode_params(model: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the parameters as JSON values, and by name a description of those that have no such form."""
    params, left_out = {}, {}
    for name, value in model.get_params(deep=False).items():
        try:
            params[name] = _encode(value)
        except (TypeError, ValueError):
            left_out[name] = value.description if isinstance(value, NotStored) else " ".join(repr(value).split())[:200]
    return params, left_out


def _encode(value: Any) -> Any:
    """Return a parameter as a JSON value, from which :func:`_decode` makes it again."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, os.PathLike):
        return {"path": os.fsdecode(value)}
    if isinstance(value, Encoder):
        return {"encoder": value.name, "params": value.config}
    if isinstance(value, type) and issubclass(value, Encoder):
        return {"encoder": value.name}
    if isinstance(value, dict):
        return {"dict": [[_encode(key), _encode(item)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        return {type(value).__name__: [_encode(item) for item in value]}
    if value is None or isinstance(value, (bool, int, float, str)):
        json.dumps(value, allow_nan=False)
        return value
    raise TypeError(f"{value!r} has no form in JSON")


# ------------------------------------------------------------------ reading


def load_model(folder: str | os.PathLike, cls: Any) -> Any:
    """Return a fitted model, as :meth:`crystalssl.CrystalSSLRegressor.load` says."""
    folder = _check_place(folder)
    config, content = read_folder(folder, MODEL)
    if config["estimator"] != cls.__name__:
        raise WeightsError(
            f"{folder} holds a {config['estimator']}, not a {cls.__name__}; read it with crystalssl.load, or with "
            f"{config['estimator']}.load"
        )
    try:
        encoder_class = _find_encoder(config, folder)
        if checksum(config) != config["checksum"]:
            raise WeightsError(
                f"{folder / 'config.json'} was altered: its checksum is not the one that it was written with; restore "
                "the file"
            )
        read_header(io.BytesIO(content), len(content))
        model = _unfitted(cls, config, folder)
        if not reads_recipe(encoder_class.recipe, config["network"]["recipe"]):
            raise WeightsError(
                f"{folder} was trained on graphs of recipe {config['network']['recipe']}, now {encoder_class.recipe}"
            )
        return restore(model, config, load_tensors(content))
    except WeightsError:
        raise
    except Exception as error:  # of whatever kind: the config may hold any JSON
        raise WeightsError(f"the model folder {folder} cannot be used: {error!r}; save the model again") from error


def _find_encoder(config: dict[str, Any], folder: Path) -> type[Encoder]:
    try:
        return ENCODERS[config["network"]["encoder"]]
    except (NotRegisteredError, PluginError) as error:
        raise WeightsError(f"{folder / 'config.json'} names an encoder that cannot be used: {error}") from error


def _check_place(folder: str | os.PathLike) -> Path:
    """Return a path that leads to a folder with a config.json."""
    try:
        path = Path(folder)
        is_folder = stat.S_ISDIR(os.stat(path).st_mode)
        has_config = is_folder and os.path.lexists(path / "config.json")
    except (FileNotFoundError, NotADirectoryError) as error:
        near = [str(config.parent) for config in path.parent.glob("*/config.json")]
        raise WeightsError(f"there is no folder {os.fspath(folder)!r}.{did_you_mean(str(path), near)}") from error
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(f"the model folder {folder!r} cannot be read: {error}; name another") from error
    if not is_folder:
        raise WeightsError(f"{path} is a file, not a folder; name the folder that `save` wrote")
    if not has_config:
        raise WeightsError(f"{path} is no model folder: it holds no config.json; name the one that `save` wrote")
    return path


def _unfitted(cls: Any, config: dict[str, Any], folder: Path) -> Any:
    """Return a model with the parameters of a config."""
    params = {name: _decode(value) for name, value in config["params"].items()}
    unknown = sorted(params.keys() - cls().get_params(deep=False).keys())
    if unknown:
        raise WeightsError(
            f"{folder} was written by crystalssl {config['version']}, whose {cls.__name__} has a parameter "
            f"{unknown[0]!r}; this is {__version__}: update crystalssl"
        )
    if "pretrain" in config["not_stored"]:
        built_with = config["fitted"]["built_with"].get("pretrain")
        params["pretrain"] = NotStored(config["not_stored"]["pretrain"], _as_tuples(built_with))
    return cls(**params)


@usual_torch()
def restore(model: Any, learnt: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Any:
    """Return an unfitted model fitted, with what :func:`learnt_of` returned."""
    network, fitted = dict(learnt["network"]), learnt["fitted"]
    encoder_class = ENCODERS[network.pop("encoder")]
    encoder_params, seeds = encoder_class.current_config(network.pop("encoder_params")), network.pop("seeds")
    del network["recipe"]
    check_sizes({**encoder_params, **network, "n_members": len(seeds)}, tensors)
    model.nets_ = []
    for member, seed in enumerate(seeds):
        with seeded(0):  # initial weights must not move torch's global generator
            module = PropertyNetwork.rebuild(encoder_class(**encoder_params), **network)
        state = _part(tensors, "networks", member)
        module.load_state_dict(state, strict=True)
        fault = find_fault(state)
        if fault is not None:
            raise ValueError(fault)
        model.nets_.append(_net(model, module.eval(), _part(tensors, "histories", member), seed))
    if {name.split(".")[1] for name in tensors} != {str(member) for member in range(len(seeds))}:
        raise ValueError(f"there are tensors of other networks than the {len(seeds)} that have seeds")
    model.net_ = model.nets_[0]
    model.history_ = epochs_of(model.net_)
    for name in _PLAIN:
        if name in fitted:
            setattr(model, name, fitted[name])
    model.set_output(**fitted.get("output", {}))  # which checks it; files of earlier versions do not say
    model.elements_ = np.array(fitted["elements"], dtype=int)
    model.trained_elements_ = np.array(fitted["trained_elements"], dtype=int)
    model._built_with = {name: _as_tuples(value) for name, value in fitted["built_with"].items()}
    model._restore_target(fitted["target"])
    model._record = TrainingRecord.from_tensors(tensors)
    model._scales = [type(model.target_).from_config(scale) for scale in fitted.get("scales", [])] or [model.target_]
    if "oof_score_" in fitted:
        model.oof_score_, model._oof = fitted["oof_score_"], tensors["oof.0.predictions"].numpy()
    if model.target_.n_outputs_ != network["n_targets"]:
        raise ValueError(f"the network has {network['n_targets']} outputs, the targets are {model.target_.n_outputs_}")
    return model


def _net(model: Any, module: PropertyNetwork, history: dict[str, torch.Tensor], seed: int) -> CrystalNet:
    """Return a net as training leaves it behind, but for its callbacks."""
    net = CrystalNet(
        module,
        **model._loss(),
        lr=model.learning_rate,
        batch_size=model.batch_size,
        max_epochs=model.max_epochs,
        callbacks__print_log=None,
        train_split=None,
        device="cpu",
        precision=model.precision,
        seed=seed,
        verbose=0,
    ).initialize()
    columns = {name: column.tolist() for name, column in history.items()}
    net.history = History(
        {**dict(zip(columns, values, strict=True)), "epoch": epoch, "batches": []}
        for epoch, values in enumerate(zip(*columns.values(), strict=True), 1)
    )
    return release(net)


def _part(tensors: dict[str, torch.Tensor], kind: str, member: int) -> dict[str, torch.Tensor]:
    """Return the tensors of a member of the ensemble, by their names in it."""
    start = f"{kind}.{member}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def _decode(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content), *more) = value.items()
    if kind == "path":
        return Path(content)
    if kind == "dict":
        return {_decode(key): _decode(item) for key, item in content}
    if kind in ("list", "tuple"):
        return {"list": list, "tuple": tuple}[kind](_decode(item) for item in content)
    if kind == "encoder":
        if not more:
            return ENCODERS[content]
        with seeded(0):
            return ENCODERS[content](**dict(more)["params"])
    raise ValueError(f"there is no parameter of the kind {kind!r}")


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value
