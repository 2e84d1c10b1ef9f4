"""How much each hyperparameter of a search tells about the loss: permutation importance of a random forest.

A forest learns the ranks of final losses from four fifths of a search's trials. On the trials that it has not seen, the
values of one key after the other are replaced by those of other trials; by how much the squared error grows is the
key's importance, as a share of the variance of the ranks (Breiman 2001, section 10). Ranks, so that a diverged trial is
the worst one and no more.
"""

import numpy as np
import pandas as pd
from scipy import stats

from bench.analysis.arrays import Array
from bench.analysis.bootstrap import generator
from bench.analysis.frames import groups
from bench.analysis.intervals import mean_interval
from bench.analysis.sensitivity import number_of, swept_keys

MIN_TRIALS = 12
MIN_EXPLAINED = 0.3  # below it, forests that learned nothing from so few trials are common
NUM_FOLDS, NUM_TREES, NUM_SHUFFLES = 5, 40, 10
COLUMNS = ["setting", "optimizer", "sweep", "key", "importance", "low", "high", "explained", "num_trials"]


def importances(cells: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """The importance of every swept number in every quasi-random search of `MIN_TRIALS` trials or more.

    Args:
        cells: From `sensitivity.sweep_cells`; all searches of one optimizer count together.
        seed: Of folds, trees and shuffles.

    Returns:
        `COLUMNS`; importance with its 95 % interval over trials (of these forests: another search of as many trials
        may differ by more); explained, the share of the variance that the forests explain on trials that they have not
        seen; below `MIN_EXPLAINED` importances mean nothing.
    """
    parts = []
    for key, group in groups(cells[cells["is_search"].astype(bool)], ["setting", "optimizer", "sweep"]):
        names = swept_keys(group)
        x = np.array([[number_of(values.get(name)) for name in names] for values in group["values"]])
        if len(group) < MIN_TRIALS or not names or np.isnan(x).any():
            continue
        growth, explained = _error_growth(x, stats.rankdata(group["loss"]), generator(seed, "/".join(key)))
        intervals = [mean_interval([column])[:3] for column in growth.T]
        part = pd.DataFrame(intervals, columns=["importance", "low", "high"]).assign(
            key=names, explained=explained, num_trials=len(group)
        )
        parts.append(part.assign(**dict(zip(["setting", "optimizer", "sweep"], key, strict=True))))
    return pd.concat(parts, ignore_index=True)[COLUMNS] if parts else pd.DataFrame(columns=COLUMNS)


def _error_growth(x: Array, y: Array, rng: np.random.Generator) -> tuple[Array, float]:
    """Growth of the squared error `[trials, keys]` in units of the variance of `y`; the share that is explained."""
    from sklearn.ensemble import RandomForestRegressor  # late: half a second that most reports need not wait
    from sklearn.model_selection import KFold

    state = int(rng.integers(2**31))
    errors, growth = np.empty(len(x)), np.empty(x.shape)
    for train, test in KFold(NUM_FOLDS, shuffle=True, random_state=state).split(x):
        forest = RandomForestRegressor(NUM_TREES, random_state=state).fit(x[train], y[train])
        errors[test] = (forest.predict(x[test]) - y[test]) ** 2
        for column in range(x.shape[1]):
            shuffled = np.repeat(x[test], NUM_SHUFFLES, axis=0)
            shuffled[:, column] = rng.choice(x[:, column], len(shuffled))
            wrong = forest.predict(shuffled).reshape(len(test), NUM_SHUFFLES) - y[test, None]
            growth[test, column] = (wrong**2).mean(axis=1) - errors[test]
    variance = max(float(y.var()), np.finfo(float).tiny)
    return growth / variance, 1 - float(errors.mean()) / variance
