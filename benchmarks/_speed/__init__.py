"""The parts of benchmarks/speed.py: what is timed, how two contenders are compared, how results are kept and shown."""
