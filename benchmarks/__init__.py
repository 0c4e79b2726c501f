"""Workloads, and a driver that runs pybuild and other builders side by side. Start with ``python -m benchmarks.run --help``."""
