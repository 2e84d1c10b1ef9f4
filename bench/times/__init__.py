"""`python -m bench.times`: what a step of each optimizer costs, in interleaved rounds on this machine."""
