"""The file of results, and what is said about it in Markdown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from _common import markdown

from .race import met

Rows = list[dict[str, Any]]

_BUSY = 2.5
"""Load average beyond which more than our own two threads were computing."""


def load(path: Path) -> dict[str, Any]:
    """Return the parts measured so far."""
    return json.loads(path.read_text()) if path.exists() else {"parts": {}}


def merge(path: Path, part: str, measured: dict[str, Any]) -> dict[str, Any]:
    """Put what was measured of one part in the place of what the file has of it, leave the others, and return all."""
    results = load(path)
    results["parts"][part] = measured
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(results, indent=1, default=float) + "\n")
    partial.replace(path)
    return results


def by_name(rows: Rows) -> dict[str, Rows]:
    """Return rows that differ by the number of threads only together."""
    groups: dict[str, Rows] = {}
    for row in rows:
        groups.setdefault(row["name"], []).append(row)
    return groups


def all_groups(results: dict[str, Any], parts: list[str]) -> dict[str, Rows]:
    """Return the rows of all parts, in the order of `parts`."""
    groups: dict[str, Rows] = {}
    for part in parts:
        groups |= by_name(results["parts"].get(part, {}).get("rows", []))
    return groups


def goals_of(rows: Rows) -> dict[str, tuple[str, float]]:
    return {peer: tuple(goal) for row in rows for peer, goal in row["goals"].items()}


def verdict(rows: Rows, peer: str) -> str:
    """Return whether a goal is met on every number of threads."""
    where = [row["threads"] for row in rows if met(row, peer)]
    if len(where) == len(rows):
        return "yes"
    return f"on {where[0]} thread{'s' if where[0] > 1 else ''} only" if where else "no"


def _ratio(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.1f}" if number >= 10 else f"{number:.2f}"


def _threads(row: dict[str, Any]) -> str:
    return f"{row['threads']} thread{'s' if row['threads'] > 1 else ''}"


def table_of(name: str, rows: Rows) -> str:
    """Return one comparison as a table, and what was checked and what limits it below."""
    header = [name]
    for row in rows:
        header += [f"{row['unit']}/s, {_threads(row)}", f"{row['clock']} time"]
    goals = goals_of(rows)
    lines = []
    for peer in rows[0]["contenders"]:
        line = [peer]
        for row in rows:
            found = row["contenders"][peer]
            spread = "" if peer == row["base"] else f" ({_ratio(found['low'])}-{_ratio(found['high'])})"
            speed = found["per_second"]
            line += [f"{speed:,.0f}" if speed >= 10 else f"{speed:.1f}", f"{_ratio(found['ratio'])}{spread}"]
        line.append("{} {:g}: {}".format(*goals[peer], verdict(rows, peer)) if peer in goals else "")
        lines.append(line)
    first = rows[0]
    notes = [f"{first['work']:,} {first['unit']}; checked before: {first['checked']}."]
    limits = [
        f"{row['limit']['share']:.0%} of {row['limit']['what']} ({_threads(row)})" for row in rows if "limit" in row
    ]
    if limits:
        notes.append(f"Share of the limit: {'; '.join(limits)}.")
    notes += [f"{peer}: {why}." for peer, why in first["missing"].items()]
    return markdown([*header, "goal"], lines) + "\n\n" + " ".join(notes)


def summary(groups: dict[str, Rows]) -> str:
    """Return all goals as one table."""
    lines = []
    for name, rows in groups.items():
        for peer, (kind, goal) in goals_of(rows).items():
            found = ", ".join(f"{_ratio(row['contenders'][peer]['ratio'])} ({row['clock']})" for row in rows)
            quotient = f"{peer} / {rows[0]['base']}"
            lines.append([name, quotient, f"{kind} {goal:g}", found, verdict(rows, peer)])
    return markdown(["what", "times of", "goal", "found", "met"], lines)


def jobs_table(rows: Rows) -> str:
    """Return whole jobs in Markdown."""
    lines = [
        [
            row["name"],
            f"{row['work']:,} {row['unit']}, {row['threads']} thread{'s' if row['threads'] > 1 else ''}",
            f"{row['seconds']:.1f} s ({row['clock']})",
            f"{row['work'] / row['seconds']:,.0f}",
            f"at most {row['goal']:g} s: {'yes' if row['seconds'] <= row['goal'] else 'no'}",
            ", ".join(f"{part} {seconds / row['seconds']:.0%}" for part, seconds in row["parts"].items()),
            row["checked"],
        ]
        for row in rows
    ]
    return markdown(["job", "work", "time", "per second", "goal", "of which", "checked"], lines)


def gpu_table(part: dict[str, Any]) -> str:
    """Return the graphics card's part, or why there is none."""
    if "skipped" in part:
        return part["skipped"]
    lines = [
        [row["name"], f"{row['training']:,.0f}", f"{row['forward']:,.0f}", f"{row['waits']:.0%}"]
        for row in part["rows"]
    ]
    return f"{part['device']}\n\n" + markdown(
        ["encoder", "training, graphs/s", "forward, graphs/s", "GPU waits"], lines
    )


def report(results: dict[str, Any], parts: list[str]) -> str:
    """Return everything, in Markdown."""
    groups = all_groups(results, parts)
    blocks = [summary(groups)]
    blocks.append(circumstances(results))
    limits = results["parts"].get("limits")
    if limits:
        blocks.append(limits_table(limits["limits"]))
    blocks += [table_of(name, rows) for name, rows in groups.items()]
    if "jobs" in results["parts"]:
        blocks.append(jobs_table(results["parts"]["jobs"]["jobs"]))
    if "gpu" in results["parts"]:
        blocks.append(gpu_table(results["parts"]["gpu"]))
    return "\n\n".join(blocks)


def circumstances(results: dict[str, Any]) -> str:
    """Return on which machine each part was measured, and what else it was doing."""
    machines: dict[str, list[str]] = {}
    for part, measured in results["parts"].items():
        machines.setdefault(measured["machine"], []).append(f"{part} {measured['load_average']:.1f}")
    lines = [f"{name}. Load averages: {', '.join(parts)}." for name, parts in machines.items()]
    if any(measured["load_average"] > _BUSY for measured in results["parts"].values()):
        lines.append("**Others were computing at the same time: a preliminary measurement.**")
    return "\n".join(lines)


def limits_table(limits: dict[str, float]) -> str:
    rows = [
        [what, *(f"{limits[f'{key}_{threads}']:.0f} {unit}" for threads in (1, 2))]
        for what, key, unit in (
            ("fp32 matrix product", "gemm_gflops", "GFLOP/s"),
            ("copy in memory, read and write", "copy_gbytes", "GB/s"),
        )
    ]
    return markdown(["limit of the machine", "1 thread", "2 threads"], rows)
