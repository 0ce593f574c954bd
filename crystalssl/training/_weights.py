"""Weights folders: config.json, model.safetensors and a card, checked when they are read."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from crystalssl._suggestions import did_you_mean
from crystalssl._tensors import read_header
from crystalssl.encoders import ENCODERS, Encoder
from crystalssl.exceptions import NotRegisteredError, PluginError, WeightsError
from crystalssl.graphs import N_ELEMENTS, GraphRecipe
from crystalssl.pretext import TASKS
from crystalssl.training._finite import find_fault
from crystalssl.training._folders import WEIGHTS, holds_weights, read_folder, write_folder
from crystalssl.training._precision import usual_torch
from crystalssl.training._seeding import seeded

__all__ = [
    "build_encoder",
    "bundled_folder",
    "bundled_weights",
    "check_sizes",
    "load_encoder",
    "read_weights",
    "reads_recipe",
    "save_encoder",
    "weights_folder",
]

_BUNDLED = Path(__file__).parent.parent / "weights"


def bundled_weights() -> dict[str, Path]:
    """Return the folders of the weights that ship with crystalssl, by method."""
    return {path.parent.name: path.parent for path in sorted(_BUNDLED.glob("*/config.json"))}


def bundled_folder(method: str) -> Path:
    """Return the folder of a method's weights that ship with crystalssl, whatever the working directory holds.

    Raises
    ------
    WeightsError
        If there are none.
    """
    folder = bundled_weights().get(method)
    if folder is None:
        raise _unknown(method)
    return folder


def save_encoder(folder: str | os.PathLike, encoder: Encoder, config: dict[str, Any], card: str = "") -> None:
    """Write a weights folder.

    Parameters
    ----------
    folder : path
        Replaced if it is a weights folder already, with the files that this package wrote and nothing else; anything
        else in its place is an error.
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
        If `folder` exists and is not a weights folder, or holds something else besides. The message says what.
    ValueError
        If the class of the encoder bears the name of another one, which would be loaded in its place.
    WeightsError
        If it cannot be written, for instance because the disk is full. Weights that `folder` held are left.
    """
    fault = find_fault(encoder.state_dict())
    if fault is not None:
        raise WeightsError(f"the weights are not saved to {folder}: {fault}; pretrain again")
    ENCODERS.check(type(encoder))
    # Copies, because layers of other people share weights (PyG's SchNet), which the format refuses.
    state = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in encoder.state_dict().items()}
    weights = save_tensors(state)
    # What rebuilds the encoder comes last: `config` may be that of other weights, which these were loaded from.
    derived = {
        "format": WEIGHTS.format,
        "encoder": encoder.name,
        "encoder_params": encoder.config,
        "recipe": encoder.recipe.to_dict(),
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    config = {**derived, **config, **derived}
    write_folder(Path(folder), WEIGHTS, config, weights, card)


def load_encoder(source: str | os.PathLike) -> tuple[Encoder, dict[str, Any]]:
    """Read a weights folder.

    Parameters
    ----------
    source : str or path
        Name of bundled weights, or a folder. A name that is also a folder of weights in the working directory, as
        ``save_pretrained("barlow")`` makes one, means that folder, with a warning; any other folder of that name is
        overlooked. ``"./barlow"`` and ``Path("barlow")`` always mean the folder.

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
        encoder = build_encoder(encoder_class, config["encoder_params"], state, f"the weights folder {source}")
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
    folder = weights_folder(source)
    config, weights = read_folder(folder, WEIGHTS)
    try:
        try:
            encoder_class = ENCODERS[config["encoder"]]
        except (NotRegisteredError, PluginError) as error:
            raise WeightsError(f"{folder / 'config.json'} names an encoder that cannot be used: {error}") from error
        read_header(io.BytesIO(weights), len(weights))
        tensors = load_tensors(weights)
        _check_config(config, tensors)
        if not reads_recipe(encoder_class.recipe, config["recipe"]):
            raise WeightsError(
                f"{folder} was trained on graphs of recipe {config['recipe']}, now {encoder_class.recipe}"
            )
    except WeightsError:
        raise
    except Exception as error:  # of whatever kind: the config may hold any JSON
        raise WeightsError(f"the weights folder {folder} does not fit its encoder: {error!r}") from error
    return encoder_class, {**config, "encoder_params": encoder_class.current_config(config["encoder_params"])}, tensors


def reads_recipe(recipe: GraphRecipe, trained: dict[str, Any]) -> bool:
    """Whether weights that were trained on graphs of one recipe are good for those of another.

    Shells became wider with version 2; weights of version 1 are as good for them.
    """
    now = recipe.to_dict()
    return trained == now or trained == {"cutoff": now["cutoff"], "max_neighbors": now["max_neighbors"], "version": 1}


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


def weights_folder(source: str | os.PathLike) -> Path:
    """Return the folder that a name or a path stands for. A folder comes before bundled weights of its name."""
    folder, bundled = Path(source), bundled_weights()
    if isinstance(source, str) and source in bundled:
        if not holds_weights(folder):
            return bundled[source]
        warnings.warn(
            f"{source!r} is read from the folder {folder.absolute()}, not from the weights that ship with crystalssl; "
            f"write './{source}' for the folder, or crystalssl.training.bundled_weights()[{source!r}] for the others",
            stacklevel=2,
        )
    try:
        found = stat.S_ISDIR(os.stat(folder).st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        found = False
    except OSError as error:
        raise WeightsError(f"the weights {os.fspath(source)!r} cannot be read: {error}; name another folder") from error
    if not found:
        raise _unknown(source)
    return folder


def _unknown(source: str | os.PathLike) -> WeightsError:
    return WeightsError(
        f"there are no weights {os.fspath(source)!r}: neither a folder nor one of those that ship with crystalssl, "
        f"{sorted(bundled_weights())}.{_hint(source)}"
    )


def _hint(source: str | os.PathLike) -> str:
    name = os.path.normpath(source)
    if name in bundled_weights():
        return f" This is no folder, and the latter go by their name: PretrainedCrystalEmbedder({name!r})."
    if name in TASKS:
        return f" For {name!r}, pretrain on crystals of yours: PretrainedCrystalEmbedder({name!r}, weights=None)."
    folders = (str(config.parent) for config in Path(source).parent.glob("*/config.json"))
    return did_you_mean(name, [*bundled_weights(), "bundled", *folders])


def _check_config(config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    elements = config["elements"]
    if not (isinstance(elements, list) and all(type(z) is int and 0 < z <= N_ELEMENTS for z in elements)):
        raise ValueError(f"elements must be a list of atomic numbers, got {elements!r}")
    check_sizes(config["encoder_params"], tensors)


def check_sizes(params: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """Raise ValueError if a width or depth exceeds the tensors'.

    A wrong digit must not build a network of a billion weights first.
    """
    largest = max([len(tensors), *(size for tensor in tensors.values() for size in tensor.shape)])
    for name, value in params.items():
        if isinstance(value, int) and value > largest:
            raise ValueError(f"{name} = {value} is more than the tensors have")


def state_as_numpy(module: torch.nn.Module) -> dict[str, Any]:
    """Return a module's state as arrays, a form that joblib caches compactly."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in module.state_dict().items()}
