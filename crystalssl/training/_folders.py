"""Folders of weights and of models on the disk: what may be replaced, and how they are written and read."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from crystalssl import _files
from crystalssl._limits import LIMITS
from crystalssl.exceptions import WeightsError

__all__ = [
    "MODEL",
    "WEIGHTS",
    "Kind",
    "check_free",
    "checksum",
    "holds_weights",
    "kind_of",
    "read_config",
    "read_folder",
    "write_folder",
]

_CONFIG, _WEIGHTS, _CARD = "config.json", "model.safetensors", "README.md"


class Kind(NamedTuple):
    """What a folder is of."""

    noun: str
    format: int
    keys: frozenset[str]
    """What its config.json has to say."""
    instead: str
    """What to do with it where the other kind is asked for."""


WEIGHTS = Kind(
    "weights folder",
    1,
    frozenset({"elements", "encoder", "encoder_params", "format", "method", "recipe", "sha256"}),
    "holds the weights of an encoder, not a model; finetune them, with CrystalSSLRegressor(pretrain=folder), or read "
    "them with crystalssl.load(folder) or PretrainedCrystalEmbedder.from_pretrained(folder)",
)
MODEL = Kind(
    "model folder",
    1,
    frozenset({"checksum", "estimator", "fitted", "format", "network", "params", "sha256"}),
    "holds a finetuned model, not the weights of an encoder; read it with crystalssl.load(folder), and name a weights "
    "folder here",
)


def holds_weights(folder: Path) -> bool:
    """Whether there is a folder that is meant as one of weights, damaged ones included."""
    return os.path.lexists(folder / _CONFIG) and os.path.lexists(folder / _WEIGHTS)


def checksum(config: dict[str, Any]) -> str:
    """Return a hash of all that a config says, but for itself."""
    said = {key: value for key, value in config.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def read_folder(folder: Path, kind: Kind) -> tuple[dict[str, Any], bytes]:
    """Return the config and the content of model.safetensors, whose hash is the one in the config.

    Raises
    ------
    WeightsError
        If the folder is of another kind, or if a file is missing, no file, too large, or damaged.
    """
    config = read_config(folder, kind)
    try:
        with _files.open_regular(folder / _WEIGHTS, "weights_bytes") as file:
            found = _files.sha256_of(file)
            # Only now: what is refused costs no memory.
            content = file.read() if found == config["sha256"] else b""
    except OSError as error:
        raise _unreadable(folder, kind, error) from error
    if found != config["sha256"]:
        raise WeightsError(
            f"{folder / _WEIGHTS} was altered or truncated: its sha256 is {found}, {_CONFIG} says "
            f"{config['sha256']}; restore the file"
        )
    return config, content


def kind_of(folder: Path) -> Kind:
    """Return what a folder is of, or seems to be of; errors as of :func:`read_folder`."""
    config = _read_json(folder, MODEL)
    return MODEL if isinstance(config, dict) and "estimator" in config else WEIGHTS


def _read_json(folder: Path, kind: Kind) -> Any:
    try:
        return json.loads(_files.read_bounded(folder / _CONFIG, "json_bytes"))
    except OSError as error:
        raise _unreadable(folder, kind, error) from error
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{folder / _CONFIG} is not valid JSON ({error}); restore it") from error


def read_config(folder: Path, kind: Kind) -> dict[str, Any]:
    """Return the config of a folder; errors as of :func:`read_folder`."""
    config = _read_json(folder, kind)
    said = config.keys() if isinstance(config, dict) else set()
    missing = sorted(kind.keys - said)
    for other in (WEIGHTS, MODEL):
        if other is not kind and missing and {"estimator", "method"} & other.keys <= said:
            raise WeightsError(f"{folder} {other.instead}")
    if "format" in said and config["format"] != kind.format:  # which may well say other things
        raise WeightsError(
            f"{folder} has format {config['format']}, this version reads format {kind.format}; update crystalssl"
        )
    if missing:
        raise WeightsError(f"{folder / _CONFIG} does not say {', '.join(missing)}; restore it")
    return config


def _unreadable(folder: Path, kind: Kind, error: OSError) -> WeightsError:
    if isinstance(error, FileNotFoundError):
        return WeightsError(f"the {kind.noun} {folder} has no {Path(error.filename).name}; restore it")
    return WeightsError(f"the {kind.noun} {folder} cannot be read: {error}; restore it, or name another")


def write_folder(folder: Path, kind: Kind, config: dict[str, Any], weights: bytes, card: str) -> None:
    """Write a folder, as :func:`crystalssl.training.save_encoder` says; of the same kind, it is replaced."""
    contents = {_CONFIG: (json.dumps(config, indent=2) + "\n").encode(), _WEIGHTS: weights, _CARD: card.encode()}
    for name, limit in ((_CONFIG, "json_bytes"), (_WEIGHTS, "weights_bytes")):
        if len(contents[name]) > getattr(LIMITS, limit):
            raise WeightsError(
                f"the {name} of {folder} would have {len(contents[name]):,} bytes and could not be read again; raise "
                f"crystalssl.LIMITS.{limit}, which is {getattr(LIMITS, limit):,}"
            )
    try:
        in_the_way = _foreign(folder, kind)
        if not in_the_way:
            with _files.staging(folder) as staged:
                in_the_way = _write(folder, staged, kind, contents)
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        what = "weights" if kind is WEIGHTS else "model"
        raise WeightsError(
            f"the {what} could not be written to {folder}: {error}; choose a place that can be written to"
        ) from error
    if in_the_way:
        raise _occupied(folder, kind, in_the_way)


def check_free(folder: Path, kind: Kind) -> None:
    """Raise FileExistsError if something is in the place of a folder that may not be replaced by one of a kind."""
    in_the_way = _foreign(folder, kind)
    if in_the_way:
        raise _occupied(folder, kind, in_the_way)


def _occupied(folder: Path, kind: Kind, in_the_way: str) -> FileExistsError:
    return FileExistsError(f"{folder} exists and is not a {kind.noun}: {in_the_way}; choose another name")


def _write(folder: Path, staged: Path, kind: Kind, contents: dict[str, bytes]) -> str:
    """Write a folder beside its place and move it there, unless something is in the way: return what."""
    new, old = staged / "new", staged / "old"
    new.mkdir()
    for name, content in contents.items():
        with (new / name).open("xb") as file:
            file.write(content)
    replaced = False
    try:
        if os.path.lexists(folder):  # put aside in one piece: one that is being deleted is neither the old nor the new
            folder.rename(old)
            # Once more, now that nobody reaches it by its name: something may have been put into it meanwhile.
            in_the_way = _foreign(old, kind)
            if in_the_way:
                return in_the_way
        new.rename(folder)
        replaced = True
    finally:
        if os.path.lexists(old):
            if replaced:
                _delete(old)
            elif not os.path.lexists(folder):
                old.rename(folder)
            else:
                warnings.warn(f"something else took the place of {folder}; what was there is {old}", stacklevel=2)
    return ""


def _foreign(folder: Path, kind: Kind) -> str:
    """Return what a place holds that is no folder of this kind, of this package's own files; "" if nothing."""
    if not os.path.lexists(folder):
        return ""
    if folder.is_symlink() or not folder.is_dir():
        return "it is a symbolic link" if folder.is_symlink() else "it is a file"
    found = {entry.name: entry for entry in os.scandir(folder)}
    names = {_CONFIG, _WEIGHTS, _CARD}
    others = sorted(found.keys() - names)
    plain = {name for name, entry in found.items() if entry.is_file(follow_symlinks=False)}
    others += [f"a {name} that is no file" for name in sorted(names & found.keys() - plain)]
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        return f"it holds {', '.join(others[:3])}{more}"
    missing = sorted(names - found.keys())
    if missing:
        return f"it has no {', '.join(missing)}"
    try:
        expected = read_config(folder, kind)["sha256"]
    except WeightsError:
        other = MODEL if kind is WEIGHTS else WEIGHTS
        with contextlib.suppress(WeightsError):
            read_config(folder, other)
            return f"it is a {other.noun}"
        return f"its {_CONFIG} is not one that crystalssl wrote"
    with _files.open_regular(folder / _WEIGHTS, "weights_bytes") as file:
        written = _files.sha256_of(file) == expected
    return "" if written else f"its {_WEIGHTS} is not the one that its {_CONFIG} was written with"


def _delete(folder: Path) -> None:
    """Delete former weights file by file, so that nothing else is, whatever it may be."""
    try:
        for name in (_CARD, _CONFIG, _WEIGHTS):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
    except OSError as error:
        warnings.warn(f"the former weights were not all deleted ({error}); what is left is {folder}", stacklevel=2)
