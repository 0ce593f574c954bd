"""What a hostile input may cost, and the count of what became of each."""

from __future__ import annotations

import contextlib
import csv
import datetime
import faulthandler
import os
import resource
import time
from collections import defaultdict
from pathlib import Path

import pytest

import crystalssl
from crystalssl.exceptions import CrystalSSLError

MAX_SECONDS = 5.0  # of processor time, which other programs on the machine do not stretch
MAX_MEMORY = 2**30  # bytes


def _status(name):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return 1024 * int(line.split()[1])
    raise KeyError(name)


@contextlib.contextmanager
def limited(used):
    """Fail if the block takes too long or too much memory; end the process if it does not end at all."""
    on_linux = os.path.exists("/proc/self/clear_refs")
    if on_linux:
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        before, limit = _status("VmRSS"), resource.getrlimit(resource.RLIMIT_AS)
        # Four times what is allowed: address space is not memory. Whoever asks for more gets a MemoryError.
        resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + 4 * MAX_MEMORY, limit[1]))
    faulthandler.dump_traceback_later(120, exit=True)
    started = time.process_time()
    try:
        yield
    finally:
        used["seconds"] = time.process_time() - started
        faulthandler.cancel_dump_traceback_later()
        if on_linux:
            resource.setrlimit(resource.RLIMIT_AS, limit)
            used["bytes"] = _status("VmHWM") - before
    assert used["seconds"] < MAX_SECONDS
    assert used.get("bytes", 0) < MAX_MEMORY


class Tally:
    """Cases by what was tried and what came of it."""

    def __init__(self):
        self.rows = defaultdict(lambda: {"cases": 0, "seconds": 0.0, "bytes": 0})

    def attempt(self, target, call, *names):
        """Return what `call` returns, or None if it raises an error of the package that says all `names`."""
        used = {}
        with limited(used):
            try:
                result, outcome, message = call(), "worked", None
            except CrystalSSLError as error:
                result, outcome, message = None, type(error).__name__, str(error)
        assert message is None or all(name in message for name in names), f"{names} are not all in: {message}"
        row = self.rows[target, outcome]
        row["cases"] += 1
        for key, value in used.items():
            row[key] = max(row[key], value)
        return result

    def write(self, path):
        """Append to a CSV file."""
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if new:
                writer.writerow(["run", "version", "target", "outcome", "cases", "slowest_s", "largest_mib"])
            for (target, outcome), row in sorted(self.rows.items()):
                used = [f"{row['seconds']:.3f}", row["bytes"] // 2**20]
                writer.writerow([now, crystalssl.__version__, target, outcome, row["cases"], *used])


@pytest.fixture(scope="session")
def tally():
    """Counts outcomes; `make fuzz` writes them down at the end."""
    counts = Tally()
    yield counts
    if "CRYSTALSSL_FUZZ_RESULTS" in os.environ:
        counts.write(Path(os.environ["CRYSTALSSL_FUZZ_RESULTS"]))
