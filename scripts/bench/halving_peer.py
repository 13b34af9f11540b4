# SPDX-License-Identifier: Apache-2.0
"""Optuna's successive halving on the curves of bench_halving: halving_peer.py CURVES OURS

OURS is what bench_halving printed for CURVES; for each of its lines a study of random points runs under SuccessiveHalvingPruner, one
trial after another, until a trial has come to the last epoch with the line's target or less. Prints lines like bench_halving's.
"""
import array
import json
import math
import os
import sys

import optuna

from curve_tables import EPOCHS, LEVELS

MOST_TRIALS = 1000


def search(curves, seed, target):
    """Epochs, and whether the target was reached"""
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed), pruner=pruner)
    epochs = 0
    for _ in range(MOST_TRIALS):
        trial, row = study.ask(), 0
        for key, levels in LEVELS.items():
            row = row * len(levels) + trial.suggest_int(key, 0, len(levels) - 1)
        for epoch in range(1, EPOCHS + 1):
            epochs += 1
            value = curves[row * EPOCHS + epoch - 1]
            trial.report(value, epoch)
            if epoch < EPOCHS and trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, value)
            if value <= target:
                return epochs, True
    return epochs, False


def main(path, ours):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    curves = array.array("d")
    with open(path, "rb") as file:
        curves.fromfile(file, os.path.getsize(path) // curves.itemsize)
    assert len(curves) == EPOCHS * math.prod(map(len, LEVELS.values())), f"{path} is of another space"
    if sys.byteorder == "big":
        curves.byteswap()
    for line in map(json.loads, open(ours)):
        epochs, reached = search(curves, line["seed"], line["target"])
        print(json.dumps({**line, "epochs": epochs, "reached": reached}))


if __name__ == "__main__":
    main(*sys.argv[1:])
