"""Checkpoint files: safetensors whose metadata hold the rest as JSON, and a hash over both."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from crystalssl import _files
from crystalssl._limits import LIMITS
from crystalssl._tensors import blocks_of, read_header
from crystalssl.exceptions import WeightsError

__all__ = ["read_checkpoint", "write_checkpoint"]

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def write_checkpoint(path: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Replace a checkpoint in one step: an interruption at any moment leaves the last complete one.

    Parameters
    ----------
    path : path
        The file. Its folder is made if need be.
    tensors : dict of Tensor
        On the CPU, contiguous.
    state : dict
        JSON values: what identifies the ``"run"``, its ``"history"``, and the ``"best"`` loss and epoch.

    Raises
    ------
    WeightsError
        If it cannot be written, or could not be read again.
    """
    text = json.dumps(state)
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        _update(digest, name, tensor.dtype, tensor.shape, [tensor.reshape(-1).view(torch.uint8).numpy()])
    content = save(tensors, metadata={"state": text, "sha256": digest.hexdigest()})
    try:
        sizes = {"checkpoint_bytes": len(content), "header_bytes": int.from_bytes(content[:8], "little")}
        for limit, n_bytes in sizes.items():
            if n_bytes > getattr(LIMITS, limit):
                raise OSError(f"its {n_bytes:,} bytes could not be read again; raise crystalssl.LIMITS.{limit}")
        _files.write_atomically(path, content)
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        kept = f"that of epoch {len(state['history']) - 1} is left" if os.path.isfile(path) else "there is none yet"
        raise WeightsError(
            f"the checkpoint {path} could not be written ({error}); {kept}. Choose a place that can be written to"
        ) from error


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return the tensors and the state of a checkpoint, or None if there is no file.

    Raises
    ------
    WeightsError
        If there is something else, or the file was damaged. Nothing is kept in memory before its hash is compared.
    """
    try:
        with _files.open_regular(path, "checkpoint_bytes") as file:
            entries, metadata = read_header(file, os.fstat(file.fileno()).st_size)
            digest = hashlib.sha256(metadata["state"].encode())
            for name in sorted(entries):
                entry = entries[name]
                _update(digest, name, _DTYPES[entry.dtype], entry.shape, blocks_of(file, entry))
            if metadata["sha256"] != digest.hexdigest():
                raise ValueError("its sha256 is not the one it was written with")
            tensors = {}
            for name, entry in entries.items():
                content = bytearray().join(blocks_of(file, entry))
                dtype = _DTYPES[entry.dtype]
                flat = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
                tensors[name] = flat.reshape(entry.shape)
            state = json.loads(metadata["state"])
            if not (isinstance(state, dict) and {"run", "history", "best"} <= state.keys()):
                raise ValueError("its metadata do not describe a run")
            return tensors, state
    except FileNotFoundError:
        return None
    except OSError as error:
        raise WeightsError(f"the checkpoint {path} cannot be read ({error}); name another file") from error
    except (KeyError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is not a checkpoint ({error}); delete it to start anew") from error


def _update(digest: Any, name: str, dtype: torch.dtype, shape: Iterable[int], blocks: Iterable[Any]) -> None:
    digest.update(f"{name} {dtype} {[*shape]}".encode())
    for block in blocks:
        digest.update(block)
