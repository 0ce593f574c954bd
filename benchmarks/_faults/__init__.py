"""The parts of benchmarks/faults.py: processes that can be killed, the work they do, the faults."""
