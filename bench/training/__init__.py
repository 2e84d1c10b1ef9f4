"""One loop, two learners: training a trial or a pack of them, with checkpoints and a clock."""
