"""Weights folders: config.json, model.safetensors and a card, checked when they are read."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from crystalssl._suggestions import did_you_mean
from crystalssl.encoders import ENCODERS, Encoder
from crystalssl.exceptions import WeightsError
from crystalssl.graphs import N_ELEMENTS
from crystalssl.pretext import TASKS
from crystalssl.training._finite import find_fault
from crystalssl.training._precision import usual_torch
from crystalssl.training._seeding import seeded

__all__ = ["build_encoder", "bundled_weights", "load_encoder", "read_weights", "save_encoder"]

_BUNDLED = Path(__file__).parent.parent / "weights"
_FORMAT = 1
_KEYS = {"elements", "encoder", "encoder_params", "format", "method", "recipe", "sha256"}


def bundled_weights() -> dict[str, Path]:
    """Return the folders of the weights that ship with crystalssl, by method."""
    return {path.parent.name: path.parent for path in sorted(_BUNDLED.glob("*/config.json"))}


def save_encoder(folder: str | os.PathLike, encoder: Encoder, config: dict[str, Any], card: str = "") -> None:
    """Write a weights folder.

    Parameters
    ----------
    folder : path
        Replaced if it is a weights folder already; anything else in its place is an error.
    encoder : Encoder
        What to save.
    config : dict
        JSON values to store beside what rebuilds the encoder: method and elements, which `load_encoder` asks for,
        settings of the training, …
    card : str, default=""
        Text of README.md.

    Raises
    ------
    FileExistsError
        If `folder` exists and is not a weights folder.
    WeightsError
        If it cannot be written, for instance because the disk is full. Weights that `folder` held are left.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / "config.json").is_file():
        raise FileExistsError(f"{folder} exists and is not a weights folder; choose another name")
    fault = find_fault(encoder.state_dict())
    if fault is not None:
        raise WeightsError(f"the weights are not saved to {folder}: {fault}; pretrain again")
    weights = save_tensors({name: tensor.detach().cpu().contiguous() for name, tensor in encoder.state_dict().items()})
    # What rebuilds the encoder comes last: `config` may be that of other weights, which these were loaded from.
    derived = {
        "format": _FORMAT,
        "encoder": encoder.name,
        "encoder_params": encoder.config,
        "recipe": encoder.recipe.to_dict(),
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    config = {**derived, **config, **derived}
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        new = partial / "new"
        new.mkdir()
        (new / "model.safetensors").write_bytes(weights)
        (new / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        (new / "README.md").write_text(card)
        if folder.exists():  # put aside in one piece: a folder that is being deleted is neither the old nor the new
            folder.rename(partial / "old")
        new.rename(folder)
    except OSError as error:
        raise WeightsError(f"the weights could not be written to {folder}: {error}") from error
    finally:
        if not folder.exists() and (partial / "old").exists():
            (partial / "old").rename(folder)
        shutil.rmtree(partial, ignore_errors=True)


def load_encoder(source: str | os.PathLike, **changes: Any) -> tuple[Encoder, dict[str, Any]]:
    """Read a weights folder.

    Parameters
    ----------
    source : str or path
        Name of bundled weights, or a folder.
    **changes
        `readout` or `layers`, where they are to differ from those of pretraining. A readout that pretraining has not
        trained starts from random weights.

    Returns
    -------
    encoder : Encoder
        In evaluation mode, on the CPU.
    config : dict
        The folder's config.json.

    Raises
    ------
    WeightsError
        If there is no such folder, a file is missing, truncated or altered, or the weights do not fit the encoder.
    """
    encoder_class, config, state = read_weights(source)
    with seeded(0):  # initial weights must not move torch's global generator
        encoder = build_encoder(
            encoder_class, {**config["encoder_params"], **changes}, state, f"the weights folder {source}"
        )
    return encoder.eval(), config


def read_weights(source: str | os.PathLike) -> tuple[type[Encoder], dict[str, Any], dict[str, torch.Tensor]]:
    """Return the class of the encoder, config.json and tensors of a weights folder; no encoder is built.

    Parameters
    ----------
    source : str or path
        As of `load_encoder`.

    Raises
    ------
    WeightsError
        If there is no such folder, or a file is missing, truncated or altered.
    """
    folder = bundled_weights().get(str(source), Path(source))
    if not folder.is_dir():
        raise WeightsError(
            f"there are no weights {str(source)!r}: neither a folder nor one of those that ship with crystalssl, "
            f"{sorted(bundled_weights())}.{_hint(source)}"
        )
    try:
        config = json.loads((folder / "config.json").read_text())
        weights = (folder / "model.safetensors").read_bytes()
    except FileNotFoundError as error:
        raise WeightsError(f"the weights folder {folder} has no {Path(error.filename).name}; restore it") from None
    except OSError as error:
        raise WeightsError(f"the weights folder {folder} cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{folder / 'config.json'} is not valid JSON ({error}); restore it") from error
    missing = sorted(_KEYS - config.keys()) if isinstance(config, dict) else sorted(_KEYS)
    if missing:
        raise WeightsError(f"{folder / 'config.json'} does not say {', '.join(missing)}; restore it")
    try:
        if config["format"] != _FORMAT:
            raise WeightsError(f"{folder} has format {config['format']}, this version reads format {_FORMAT}; update")
        found = hashlib.sha256(weights).hexdigest()
        if found != config["sha256"]:
            raise WeightsError(
                f"{folder / 'model.safetensors'} was altered or truncated: its sha256 is {found}, config.json says "
                f"{config['sha256']}; restore the file"
            )
        if config["encoder"] not in ENCODERS:
            raise WeightsError(
                f"{folder / 'config.json'} names the encoder {config['encoder']!r}, this version knows "
                f"{sorted(ENCODERS)}; update"
            )
        tensors = load_tensors(weights)
        _check_config(config, tensors)
        encoder_class = ENCODERS[config["encoder"]]
        if encoder_class.recipe.to_dict() != config["recipe"]:
            raise WeightsError(
                f"{folder} was trained on graphs of recipe {config['recipe']}, now {encoder_class.recipe}"
            )
    except WeightsError:
        raise
    except Exception as error:  # of whatever kind: the config may hold any JSON
        raise WeightsError(f"the weights folder {folder} does not fit its encoder: {error!r}") from error
    return encoder_class, config, tensors


@usual_torch()
def build_encoder(
    encoder_class: type[Encoder], params: dict[str, Any], state: dict[str, torch.Tensor] | None, origin: str
) -> Encoder:
    """Return an encoder with the weights of `state`, or random ones where that is None.

    Raises
    ------
    WeightsError
        If weights, which `origin` names, do not fit, or are no numbers to compute with.
    """
    if state is None:
        return encoder_class(**params)
    try:
        encoder = encoder_class(**params)
        encoder.load_pretrained(state)
    except Exception as error:  # constructors raise whatever torch raises
        raise WeightsError(f"{origin} does not fit its encoder: {error!r}") from error
    fault = find_fault(encoder.state_dict())
    if fault is not None:
        raise WeightsError(f"{origin} cannot be used: {fault}; pretrain again, or restore the weights")
    return encoder


def _hint(source: str | os.PathLike) -> str:
    name = str(source)
    if name in TASKS:
        return f" For {name!r}, pretrain on crystals of yours: PretrainedCrystalEmbedder({name!r}, weights=None)."
    folders = (str(config.parent) for config in Path(source).parent.glob("*/config.json"))
    return did_you_mean(name, [*bundled_weights(), "bundled", *folders])


def _check_config(config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    elements = config["elements"]
    if not (isinstance(elements, list) and all(type(z) is int and 0 < z <= N_ELEMENTS for z in elements)):
        raise ValueError(f"elements must be a list of atomic numbers, got {elements!r}")
    # No width or depth exceeds the tensors': a wrong digit must not build an encoder of a billion weights first.
    largest = max([len(tensors), *(size for tensor in tensors.values() for size in tensor.shape)])
    for name, value in config["encoder_params"].items():
        if isinstance(value, int) and value > largest:
            raise ValueError(f"{name} = {value} is more than the tensors have")


def state_as_numpy(module: torch.nn.Module) -> dict[str, Any]:
    """Return a module's state as arrays, a form that joblib caches compactly."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in module.state_dict().items()}
