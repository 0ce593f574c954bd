"""How contenders are compared: in turn, in one process, after a check that they compute the same."""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

Contenders = dict[str, Callable[[], Any]]
OURS = "crystalssl"
AT_LEAST, AT_MOST = "at least", "at most"


class Pace(NamedTuple):
    """How long a race may take."""

    rounds: int  # at most
    seconds: float  # after which no further round starts
    least: int = 3  # rounds in any case


class Differs(RuntimeError):
    """Two contenders do not compute the same, so that their times must not be compared."""


def race(contenders: Contenders, pace: Pace, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Return the seconds of each contender in each round; they take turns, and the first round is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    started = None
    for number in range(pace.rounds + 1):
        if started is not None and number > pace.least and time.perf_counter() - started > pace.seconds:
            break
        print(f"\r    {', '.join(contenders)}: round {number} of {pace.rounds}", end="", file=sys.stderr, flush=True)
        for name, contender in contenders.items():
            gc.collect()  # or one contender pays for what another left behind
            before = clock()
            contender()
            if number:
                seconds[name].append(clock() - before)
        started = started or time.perf_counter()
    print(file=sys.stderr)
    return seconds


def ratios(slow: list[float], fast: list[float]) -> dict[str, float]:
    """Return the median and the quartiles, over the rounds, of how many times longer the first one took."""
    low, median, high = np.quantile(np.divide(slow, fast), [0.25, 0.5, 0.75])
    return {"ratio": float(median), "low": float(low), "high": float(high)}


def compare(
    name: str,
    contenders: Contenders,
    *,
    work: int,
    unit: str,
    threads: int,
    pace: Pace,
    checked: str,
    base: str = OURS,
    goals: dict[str, tuple[str, float]] | None = None,
    limit: dict[str, Any] | None = None,
    missing: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Race, and return a row of the results.

    Parameters
    ----------
    name : str
        What is done.
    contenders : dict
        What to call, by name.
    work, unit : int, str
        What a call gets through, such as 128 and "crystals".
    threads : int
        On one, CPU time counts, which others on the machine do not disturb; on more, wall time.
    checked : str
        What was found to be the same before the race.
    base : str
        In whose time the ratios are.
    goals : dict
        "at least" or "at most" and a ratio, by contender.
    limit : dict
        "seconds" that a call would take at the limit of the machine, and "what" that limit is.
    missing : dict
        Why a peer does not take part, by name.
    """
    print(f"  {name}, threads: {threads} ({checked})", file=sys.stderr)
    torch.set_num_threads(threads)
    try:
        seconds = race(contenders, pace, time.process_time if threads == 1 else time.perf_counter)
    finally:
        torch.set_num_threads(1)
    row: dict[str, Any] = {
        "name": name,
        "threads": threads,
        "clock": "CPU" if threads == 1 else "wall",
        "rounds": len(seconds[base]),
        "work": work,
        "unit": unit,
        "base": base,
        "checked": checked,
        "contenders": {
            name: {"per_second": work / statistics.median(times), **ratios(times, seconds[base])}
            for name, times in seconds.items()
        },
        "goals": {peer: list(goal) for peer, goal in (goals or {}).items() if peer in seconds},
        "missing": missing or {},
    }
    if limit is not None:
        ours = base if base == OURS else next(iter(goals or {}))
        row["limit"] = {"what": limit["what"], "share": limit["seconds"] / statistics.median(seconds[ours])}
    return row


def met(row: dict[str, Any], peer: str) -> bool:
    """Return whether a contender's goal is met."""
    kind, goal = row["goals"][peer]
    found = row["contenders"][peer]["ratio"]
    return found >= goal if kind == AT_LEAST else found <= goal


def same_numbers(what: str, found: Any, expected: Any, tolerance: float) -> float:
    """Return the largest difference relative to the largest number, or raise `Differs` if it is beyond `tolerance`."""
    found, expected = (np.asarray(torch.as_tensor(x).detach(), dtype=np.float64) for x in (found, expected))
    if found.shape != expected.shape:
        raise Differs(f"{what}: {found.shape} against {expected.shape}")
    difference = float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-30))
    if not difference <= tolerance:  # NaN differs too
        raise Differs(f"{what}: differ by {difference:.2g} of the largest, more than {tolerance:g}")
    return difference
