"""The parts of benchmarks/corpora.py."""
