"""Conformance checks that any `torch.optim.Optimizer` can be put through: `python -m bench.check optimizer=NAME`."""
