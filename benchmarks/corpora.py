"""A corpus out of core: what it costs to build, store, shuffle and train on, against graphs in memory.

    python benchmarks/corpora.py --folder /scratch/corpora                   # everything; 1,000,000 small crystals
    python benchmarks/corpora.py --folder /scratch/corpora --crystals 20000  # a trial
    python benchmarks/corpora.py --report --docs                             # docs/corpora.md from the results

The crystals are those of mp_pretrain.parquet of at most --most-atoms atoms, again and again, each copy with its atoms
displaced by 0.05 Å. Every task runs in a process of its own, on --threads threads; rows are appended to
results/corpora.csv, and a task that is there is not run again.

columns   bytes of each column of stored graphs, as it is mapped and packed, for the crystals as they are
build     from a Parquet file to a corpus for CGCNN, in a stream
open      from the path to the first batch of training
train     an epoch of Barlow Twins with CGCNN on the corpus, and on a tenth of it, in turn with the same in memory
shuffle   losses of validation after the same steps, with buffers of some sizes, of crystals by formula and in no order
screen    from Parquet to Parquet: predictions, deviations and domains, and how the time divides
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from _common import Results, data_file, machine, make_parser
from _corpora.crystals import make_table
from _corpora.report import report
from _corpora.tasks import TASKS
from _documents import write_section

KEYS = ["task", "crystals", "most_atoms", "threads", "figure"]


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--folder", type=Path, default=Path("corpora-benchmark"), help="where corpora are put")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--crystals", type=int, default=1_000_000)
    parser.add_argument("--most-atoms", type=int, default=8, help="of a cell (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: %(default)s)")
    parser.add_argument("--screened", type=int, default=100_000, help="crystals of screen (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of train (default: %(default)s)")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    parser.add_argument("--docs", action="store_true", help="write docs/corpora.md")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    results = Results(options.results / "corpora.csv", KEYS)
    options.encoder = "gatedgcn"
    options.table = options.folder / f"crystals-{options.crystals}-{options.most_atoms}.parquet"
    options.source = options.data / "mp_pretrain.parquet"
    if options.case is not None:
        torch.set_num_threads(options.threads)
        row = TASKS[options.case](options)
        print(json.dumps({**row, "load average": os.getloadavg()[0]}))
        return
    if not options.report:
        options.folder.mkdir(parents=True, exist_ok=True)
        source = data_file(options.data, "mp_pretrain.parquet")
        make_table(source, options.table, options.crystals, options.most_atoms)
        make_table(source, options.folder / "warm-up.parquet", 256, options.most_atoms)
        for task in options.tasks:
            case = {"task": task, **{name: getattr(options, name) for name in KEYS[1:-1]}}
            if results.has({**case, "figure": "load average"}):
                continue
            print(f"{case} …", file=sys.stderr, flush=True)
            done = subprocess.run(
                [sys.executable, *sys.argv, "--case", task], stdout=subprocess.PIPE, text=True, check=False
            )
            if done.returncode:
                sys.exit(f"{case} failed with exit status {done.returncode}")
            for figure, value in json.loads(done.stdout.splitlines()[-1]).items():
                results.append({**case, "figure": figure, "value": value, "machine": machine()})
    text = report(results.read())
    print(text)
    if options.docs:
        write_section("corpora.md", "benchmarks/corpora.py", text)


if __name__ == "__main__":
    main()
