"""The type of every array of the analysis."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
