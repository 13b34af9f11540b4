#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Milliseconds per step of PyTorch DistributedDataParallel over gloo on two ranks: the peer of tests/bench/bench_step.cpp.

ddp.py mlp-64: the better of plain DDP and DDP with gradient_as_bucket_view and static_graph, both with SGD(fused=True).
"""
import os
import statistics
import sys
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def model_of(name):
    if name == "mlp":
        return nn.Sequential(nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10))
    # the convnet of configs: conv3x3, activation, max-pool per stage, then a linear layer
    return nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
                         nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 7 * 7, 10))


def worker(rank, world, name, batch, queue):
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[rank]})   # as mpirun --bind-to core does
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world)
    torch.manual_seed(7)
    shape = (784,) if name == "mlp" else (1, 28, 28)
    inputs, targets = torch.randn(2048, *shape), torch.randint(0, 10, (2048,))
    best = None
    for options in ({}, {"gradient_as_bucket_view": True, "static_graph": True}):
        torch.manual_seed(0)
        model = DistributedDataParallel(model_of(name), **options)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=True)
        loss_of = nn.CrossEntropyLoss()
        cursor = 0

        def step():
            nonlocal cursor
            cursor = 0 if cursor + batch > 2048 else cursor
            x, y = inputs[cursor:cursor + batch], targets[cursor:cursor + batch]
            cursor += batch
            optimizer.zero_grad()
            loss = loss_of(model(x), y)
            loss.backward()
            optimizer.step()
            return loss.item()

        blocks = []
        for _ in range(10):
            dist.barrier()
            for _ in range(5):
                step()
            start = time.perf_counter()
            for _ in range(30):
                step()
            slowest = torch.tensor([(time.perf_counter() - start) / 30])
            dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
            blocks.append(1e3 * slowest.item())
        median = statistics.median(blocks)
        best = median if best is None else min(best, median)
    if rank == 0:
        queue.put(best)
    dist.destroy_process_group()


if __name__ == "__main__":
    case_name, batch_size = sys.argv[1].rsplit("-", 1)
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29531")
    result = mp.get_context("spawn").SimpleQueue()
    mp.spawn(worker, args=(2, case_name, int(batch_size), result), nprocs=2)
    print(result.get())
