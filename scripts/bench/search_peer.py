# SPDX-License-Identifier: Apache-2.0
"""Optuna's samplers on the tasks of bench_search: search_peer.py BENCH_SEARCH CACHE SAMPLER TRIALS FIRST_SEED SEEDS TASK...

A sampler is tpe, gp or random, with its defaults; tpe-8 has eight asynchronous workers, as `bench_search --workers 8` has them. Every run
is a file CACHE/optuna-VERSION/SAMPLER/TASK/SEED-TRIALS.json; those that are there are not made again. The tasks themselves, the first
points of each run and how long its trials take come from `bench_search --serve`.
"""
import heapq
import json
import os
import subprocess
import sys
import time

import optuna

SAMPLERS = {"tpe": optuna.samplers.TPESampler, "gp": optuna.samplers.GPSampler, "random": optuna.samplers.RandomSampler}


class Task:
    def __init__(self, program, name):
        self.server = subprocess.Popen([program, "--serve", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.about = json.loads(self.server.stdout.readline())
        self.dimensions = self.about["dimensions"]

    def ask(self, **question):
        self.server.stdin.write(json.dumps(question) + "\n")
        return json.loads(self.server.stdout.readline())

    def objective(self, trial):
        point = [None] * len(self.dimensions)
        for index, dimension in enumerate(self.dimensions):
            if not dimension["conditional"] or self.ask(active=index, point=point):
                point[index] = suggest(trial, dimension)
        return self.ask(value=point)


def suggest(trial, dimension):
    key, kind, low, high = (dimension[name] for name in ("key", "kind", "low", "high"))
    if kind == "choice":
        return trial.suggest_categorical(key, list(range(int(high) + 1)))
    if kind == "real":
        return trial.suggest_float(key, low, high, log=dimension["log"])
    return trial.suggest_int(key, int(low), int(high), log=dimension["log"])


def typed(dimension, value):
    return value if dimension["kind"] == "real" else int(value)


def run(task, sampler, trials, seed):
    name, _, workers = sampler.partition("-")
    study = optuna.create_study(sampler=SAMPLERS[name](seed=seed))
    first = task.ask(seed=seed)
    for point in first:
        study.enqueue_trial({d["key"]: typed(d, v) for d, v in zip(task.dimensions, point) if v is not None})
    running, now = [], 0   # running: (end, number, trial, value), the first to end on top
    for number in range(trials):
        if number == len(first):
            before = time.perf_counter()
        if len(running) == int(workers or 1):
            now, _, trial, value = heapq.heappop(running)
            study.tell(trial, value)
        trial = study.ask()
        heapq.heappush(running, (now + task.ask(duration=number, of=seed), number, trial, task.objective(trial)))
    for _, _, trial, value in sorted(running, key=lambda each: each[:2]):
        study.tell(trial, value)
    seconds = time.perf_counter() - before
    return {"task": task.about["name"], "sampler": sampler, "seed": seed, "values": [t.value for t in study.trials],
            "trial_us": seconds / (trials - len(first)) * 1e6}


def main(program, cache, sampler, trials, first_seed, seeds, *names):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    trials, first_seed, seeds = int(trials), int(first_seed), int(seeds)
    for name in names:
        task = Task(program, name)
        folder = os.path.join(cache, f"optuna-{optuna.__version__}", sampler, name)
        os.makedirs(folder, exist_ok=True)
        for seed in range(first_seed, first_seed + seeds):
            path = os.path.join(folder, f"{seed}-{trials}.json")
            if os.path.exists(path):
                continue
            with open(path + ".tmp", "w") as file:
                json.dump(run(task, sampler, trials, seed), file)
            os.rename(path + ".tmp", path)


if __name__ == "__main__":
    main(*sys.argv[1:])
