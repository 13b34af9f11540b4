# SPDX-License-Identifier: Apache-2.0
"""Optuna's journal storage as the peer of the trial store: python store.py FOLDER PROCESSES SECONDS prints trials per second."""
import multiprocessing
import pathlib
import shutil
import sys
import time

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

optuna.logging.set_verbosity(optuna.logging.WARNING)


def study(file, create=False):
    storage = JournalStorage(JournalFileBackend(str(file)))
    sampler = optuna.samplers.RandomSampler(seed=0)
    if create:
        return optuna.create_study(storage=storage, study_name="s", sampler=sampler)
    return optuna.load_study(storage=storage, study_name="s", sampler=sampler)


def serve(file, start, seconds, count):
    mine = study(file)
    start.wait()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        mine.tell(mine.ask(), 0.125)
        with count.get_lock():
            count.value += 1


folder, processes, seconds = pathlib.Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
shutil.rmtree(folder, ignore_errors=True)
folder.mkdir(parents=True)
file = folder / "journal.log"
study(file, create=True)
start, count = multiprocessing.Barrier(processes + 1), multiprocessing.Value("q", 0)
workers = [multiprocessing.Process(target=serve, args=(file, start, seconds, count)) for _ in range(processes)]
for worker in workers:
    worker.start()
start.wait()
began = time.monotonic()
for worker in workers:
    worker.join()
print(count.value / (time.monotonic() - began))
shutil.rmtree(folder)
