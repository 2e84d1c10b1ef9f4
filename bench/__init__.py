"""The harness: config, trials, packs, training and storage of optimizer benchmarks."""

__version__ = "0.1.0"
