# SPDX-License-Identifier: Apache-2.0
"""Learning curves for bench_halving: curve_tables.py DATA FOLDER

Trains a network of one hidden layer on the data sets of configs/data (DATA), once for every configuration of LEVELS, for EPOCHS epochs of
plain SGD, and writes FOLDER/NAME-loss.curves and FOLDER/NAME-error.curves: for each configuration, the last parameter changing fastest,
one little-endian double per epoch, what validation says after it. Needs NumPy; takes some minutes. Trainings that differ in rate,
momentum and decay alone run as one.
"""
import itertools
import os
import sys

import numpy

EPOCHS = 81
WORST = 10.0   # loss of a training that diverged
LEVELS = {"batch_size": (16, 32, 64, 128), "units": (8, 16, 32, 64), "rate": [10 ** (-3 + k / 2) for k in range(8)],
          "momentum": (0.0, 0.5, 0.9), "decay": (0.0, 1e-4, 1e-3, 1e-2)}
TASKS = {"digits.csv.gz": 0, "breast_cancer.csv": 1}   # lines of heading


def load(path, heading, random):
    """Two of three samples to train on: (x, y), (x, y) of the others"""
    table = numpy.loadtxt(path, delimiter=",", skiprows=heading, dtype=str)
    table = table[random.permutation(len(table))]
    x, y = table[:, :-1].astype(numpy.float32), numpy.unique(table[:, -1], return_inverse=True)[1]
    x = (x - x.mean(0)) / (x.std(0) + 1e-6)
    middle = len(x) * 2 // 3
    return (x[:middle], y[:middle]), (x[middle:], y[middle:])


def forward(weights, x):
    """Hidden units [runs, samples, units] and the logarithms of the classes' probabilities"""
    hidden = numpy.maximum(x @ weights[0] + weights[1], 0)
    logits = hidden @ weights[2] + weights[3]
    logits = logits - logits.max(-1, keepdims=True)
    return hidden, logits - numpy.log(numpy.exp(logits).sum(-1, keepdims=True))


def gradients(weights, x, y):
    hidden, log_p = forward(weights, x)
    to_logits = numpy.exp(log_p)
    to_logits[:, numpy.arange(len(y)), y] -= 1
    to_logits /= len(y)
    to_hidden = to_logits @ weights[2].transpose(0, 2, 1) * (hidden > 0)
    return [x.T @ to_hidden, to_hidden.sum(1, keepdims=True), hidden.transpose(0, 2, 1) @ to_logits, to_logits.sum(1, keepdims=True)]


def curves(train, validation, batch, units, settings, seed):
    """Validation losses and errors [2, runs, epochs]"""
    random = numpy.random.default_rng(seed)
    rate, momentum, decay = (numpy.array(each, numpy.float32)[:, None, None] for each in zip(*settings))
    shapes = [(train[0].shape[1], units), (1, units), (units, int(train[1].max()) + 1), (1, int(train[1].max()) + 1)]
    weights = [numpy.repeat(random.normal(0, (2 / shape[0]) ** 0.5 if shape[0] > 1 else 0, (1, *shape)), len(settings), 0)
               .astype(numpy.float32) for shape in shapes]
    moments = [numpy.zeros_like(weight) for weight in weights]
    losses, errors = [], []
    for _ in range(EPOCHS):
        order = random.permutation(len(train[1]))
        for first in range(0, len(order), batch):
            rows = order[first:first + batch]
            for weight, moment, gradient in zip(weights, moments, gradients(weights, train[0][rows], train[1][rows])):
                moment *= momentum
                moment += gradient + decay * weight
                weight -= rate * moment
        log_p = forward(weights, validation[0])[1]
        losses.append(-log_p[:, numpy.arange(len(validation[1])), validation[1]].mean(1))
        errors.append((log_p.argmax(-1) != validation[1]).mean(1))
    losses = numpy.minimum(numpy.nan_to_num(numpy.array(losses), nan=WORST, posinf=WORST), WORST)
    return numpy.stack([losses.T, numpy.array(errors).T]).astype("<f8")


def main(data, folder):
    numpy.seterr(all="ignore")   # some diverge
    os.makedirs(folder, exist_ok=True)
    settings = list(itertools.product(LEVELS["rate"], LEVELS["momentum"], LEVELS["decay"]))
    for task, heading in TASKS.items():
        train, validation = load(os.path.join(data, task), heading, numpy.random.default_rng(0))
        table = [curves(train, validation, batch, units, settings, seed=batch + units)
                 for batch, units in itertools.product(LEVELS["batch_size"], LEVELS["units"])]
        for metric, column in zip(("loss", "error"), numpy.concatenate(table, axis=1)):
            path = os.path.join(folder, f"{task.split('.')[0]}-{metric}.curves")
            column.tofile(path + ".tmp")
            os.rename(path + ".tmp", path)


if __name__ == "__main__":
    main(*sys.argv[1:])
