"""What the tables and figures of README and docs are made of; benchmarks/tables.py writes them."""
