from bench import plot as plot
from bench.api import analyse as analyse
from bench.api import load_model as load_model
from bench.api import load_runs as load_runs
from bench.api import plan as plan
from bench.api import train as train

__version__: str
