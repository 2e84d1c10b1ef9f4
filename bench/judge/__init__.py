"""`python -m bench.judge`: whether an optimizer is better than a baseline, each tuned by the same search."""
