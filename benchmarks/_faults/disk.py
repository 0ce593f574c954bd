"""A disk that is full."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from _faults.processes import run
from _faults.work import Work, check, weights_of
from crystalssl import PretrainedCrystalEmbedder
from crystalssl.exceptions import CrystalSSLError

__all__ = ["fill_disk"]


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[bool]:
    """Mount a file system of some bytes at a folder; False where that is not allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "crystalssl", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


def limited(size: int, function: Callable, *args: Any) -> Any:
    """Call a function in a process whose files may not grow beyond a size."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    return function(*args)


def error_of(function: Callable, *args: Any) -> str:
    """Return the package's error that a function raises."""
    try:
        function(*args)
    except CrystalSSLError as error:
        return f"{type(error).__name__}: {error}"
    raise AssertionError("no error")


def fill_disk(work: Work, folder: Path, share: float, mount: bool = True) -> str:
    """Run out of space while checkpoints, weights, graphs and the cache are written."""
    weights = work.embedder(1, max_epochs=1).fit(work.graphs)
    weights.save_pretrained(folder / "reference")
    work.graphs.save(folder / "graphs")
    run(work.pretrain_with, folder / "run")
    needed = {name: _size(folder / name) for name in ("run", "reference", "graphs")}
    other = work.embedder(max_epochs=1).fit(work.graphs)

    def attempt(name: str, first: Callable, second: Callable, disk_size: int, file_size: int) -> tuple[Path, str]:
        """Write once, then again with too little space."""
        place = folder / f"{name} disk"
        stack.enter_context(small_disk(place, disk_size)) if mount else place.mkdir()
        first(place)
        mounted = os.path.ismount(place)
        message = run(error_of, second, place) if mounted else run(limited, file_size, error_of, second, place)
        check(any(reason in message for reason in ("No space left", "File too large")), message)
        check(str(place) in message, message)
        return place, message

    with contextlib.ExitStack() as stack:
        # A checkpoint fits, a second one beside it does not.
        place, _ = attempt(
            "run",
            lambda place: None,
            lambda place: work.pretrain_with(place / "run"),
            int((1 + 0.85 * share) * needed["run"]),
            int(share * needed["run"]),
        )
        check(not list(place.glob(".*")), "a part is left")
        kept = (place / "run").exists()
        if kept:
            shutil.copy(place / "run", folder / "rescued")
            check(run(work.pretrain_with, folder / "rescued") == work.expected, "the last checkpoint is not good")
        place, _ = attempt(
            "weights",
            lambda place: weights.save_pretrained(place / "weights"),
            lambda place: other.save_pretrained(place / "weights"),
            int((1 + 0.85 * share) * needed["reference"]),
            int(share * (folder / "reference" / "model.safetensors").stat().st_size),
        )
        loaded = PretrainedCrystalEmbedder.from_pretrained(place / "weights")
        check(weights_of(loaded) == weights_of(weights), "the old weights are not left")
        check([path.name for path in place.iterdir()] == ["weights"], "a part is left")
        place, _ = attempt(
            "graphs",
            lambda place: None,
            lambda place: work.graphs.save(place / "graphs"),
            int(0.9 * share * needed["graphs"]) + 4096,
            int(share * (folder / "graphs" / "graphs.safetensors").stat().st_size),
        )
        check(not list(place.iterdir()), "a part is left")
        # The cache is not worth an error: joblib warns, and the result is returned.
        with small_disk(folder / "cache disk", 16384) if mount else contextlib.nullcontext(False) as mounted:
            memory = folder / "cache disk" if mounted else folder / "cache"
            args = (work.pretrain_cached, memory, 2)
            found = run(*args) if mounted else run(limited, 8000, *args)
        check(found == run(work.pretrain_cached, folder / "good cache", 2), "other weights without a cache")
    where = "of a small disk" if mounted else "of RLIMIT_FSIZE"
    return f"errors name the place {where}; the last good files are left" + ("" if kept else ", no checkpoint yet")


def _size(path: Path) -> int:
    files = [path] if path.is_file() else list(path.iterdir())
    return sum(-(-file.stat().st_size // 4096) * 4096 for file in files)
