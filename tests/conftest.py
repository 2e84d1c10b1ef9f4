"""Tiny trainings are fastest on one thread, in this process and in those that tests start."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
