"""Frames in, frames out: from run folders to numbers that one can defend.

One data contract for every module here. `load.load` turns run folders into

`runs`, one row per run, index `run` (0, 1, ...):
    run_id, path, label (of its folder, "" without), status, seed, task, task_target, optimizer, optimizer_target, sweep
    ("" without one), stage ("tuning", "choosing" or "fresh"), replicate (number of the search, 0 without one),
    objective (the metric of validation that its search goes by), sweep_keys (tuple),
    steps, batch_size, eval_every, loss_scale, relevant, target_metric, target_value, target_mode, precision, device,
    stop_at_target, device_name, num_threads, torch, python, platform, git, bench_version, time, data_fingerprint,
    code_fingerprint, task_options (canonical JSON), hyperparameters (dict of dotted keys), search_space (dict key ->
    (low, high)), options (dict of the dotted keys outside of optimizer, task and schedule),
    eps_convention, paper, num_parameters, state_bytes, samples_per_step, pack_size, shared_timing,
    message, context (tokens per sample, NaN without), and of the summary: initial_val_loss, best_val_loss,
    final_val_loss and every other `final_<metric>`, train_seconds, step_seconds, alone_step_seconds (a pack's
    calibration), optimizer_share.
`metrics`, one row per run and evaluation, ordered by run:
    run, step, train_loss, val_loss, full_val_loss, lr, train_seconds, ..., other metrics; NaN where a run has no such
    column.
`problems`, one row per folder that could not be used: path, problem.

`comparability.prepare` adds to `runs`:
    setting   label of everything that must agree before two runs may be compared (task, data, budget, precision,
    device, ...) cell      canonical JSON of the hyperparameters without the seed
    loss      final validation loss of the whole split, of the weights that `objective` names: what tuning goes by; inf
              where the run diverged (kept in every median)
    finite_loss  the same with the loss of the untrained model in place of inf
    judged_loss  final loss of the same weights on the test split, or on validation where some run of the setting has no
              test loss (`split` says which); inf where the run failed
    score     what verdicts compare: the natural logarithm of judged_loss, or judged_loss itself where a setting has
              losses below zero (`scale` says which: "log" or "linear")
    relevant  the least difference of scores that matters, the smallest that a run of the setting names; NaN without

Times are seconds, sizes bytes, differences `optimizer - baseline`: for a loss, below zero is better. inf stands for
"never reached".
"""
