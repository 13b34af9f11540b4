#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""PyTorch DistributedDataParallel, the peer of tests/bench/bench_step.cpp and bench_all_reduce.cpp: over gloo on two ranks of the CPU.

ddp.py mlp-64: milliseconds per step, the better of plain DDP and DDP with gradient_as_bucket_view and static_graph, both with
SGD(fused=True). ddp.py mlp-64 GROUP GROUP...: as many ranks, each in one of these control groups, by its file cgroup.procs.
ddp.py --own mlp-64 GROUP GROUP...: samples per second of DDP, the better of both, over the sum of what the ranks do alone, all at once, in turn:
median and the lowest and highest tenth.
ddp.py --cuda RANKS mlp-64: the same over NCCL, a GPU for each rank, batches from pinned memory.
Started by mpirun, one process per host and each a rank (MASTER_ADDR names the first's): fewer steps, for a slow link.
ddp.py all-reduce BYTES: microseconds of gloo's all-reduce, each time of fresh data, of which every rank then reads all.
"""
import copy
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


CUDA = len(sys.argv) > 2 and sys.argv[1] == "--cuda"   # in the ranks' processes too
OWN = len(sys.argv) > 2 and sys.argv[1] == "--own"
WORDS = sys.argv[3:] if CUDA else sys.argv[2:] if OWN else sys.argv[1:]
GROUPS = WORDS[1:] if not CUDA and WORDS[0] != "all-reduce" else []
RANKS = int(sys.argv[2]) if CUDA else len(GROUPS) or 2
MPI_RANK = os.environ.get("OMPI_COMM_WORLD_RANK")   # one of two hosts; None: this process starts both ranks
BLOCKS, WARM_UP, STEPS = (3, 2, 6) if MPI_RANK else (20, 2, 8) if OWN else (10, 5, 30)
SEQUENCE, VOCABULARY, WIDTH, HEADS, LAYERS = 64, 65, 128, 4, 4


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)])
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.feed_in, self.feed_out = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        q, k, v = self.qkv(self.norms[0](x)).unflatten(-1, (3, HEADS, WIDTH // HEADS)).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + self.out(nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        return x + self.feed_out(torch.relu(self.feed_in(self.norms[1](x))))


class Transformer(nn.Module):
    """The pre-norm decoder of configs/shakespeare.yaml, tied."""

    def __init__(self):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(SEQUENCE, WIDTH)
        self.blocks = nn.Sequential(*[Block() for _ in range(LAYERS)])
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, tokens):
        x = self.norm(self.blocks(self.tokens(tokens) + self.positions.weight))
        return nn.functional.linear(x, self.tokens.weight).flatten(0, 1)


def data_of(name):
    if name == "transformer":
        tokens = torch.randint(VOCABULARY, (2048, SEQUENCE))
        data = tokens, tokens.roll(-1, 1)
    else:
        data = torch.randn(2048, *((784,) if name == "mlp" else (1, 28, 28))), torch.randint(0, 10, (2048,))
    return [part.pin_memory() for part in data] if CUDA else data


def set_up(rank, world):
    if CUDA:
        torch.cuda.set_device(rank)
        dist.init_process_group("nccl", rank=rank, world_size=world)
        torch.manual_seed(7)
        return
    if GROUPS:
        with open(GROUPS[rank], "w") as group:
            group.write(str(os.getpid()))
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) >= world:
        os.sched_setaffinity(0, {cores[rank]})   # as mpirun --bind-to core does
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world)
    torch.manual_seed(7)


def all_reduce_worker(rank, world, size, queue):
    set_up(rank, world)
    data = torch.zeros(size // 4)
    times = []
    for call in range(205 if size <= 65536 else 35):
        data.fill_(rank + 1 + call % 7)
        dist.barrier()
        begin = time.perf_counter()
        dist.all_reduce(data)
        total = data.sum().item()
        elapsed = torch.tensor([time.perf_counter() - begin], dtype=torch.float64)
        assert abs(total - data.numel() * (3 + 2 * (call % 7))) < 1e-3 * total
        dist.all_reduce(elapsed, op=dist.ReduceOp.MAX)
        times.append(1e6 * elapsed.item())
    if rank == 0:
        queue.put(statistics.median(times[5:]))
    dist.destroy_process_group()


def worker(rank, world, name, batch, queue):
    set_up(rank, world)
    inputs, targets = data_of(name)
    device = torch.device("cuda", rank) if CUDA else torch.device("cpu")
    best = None
    for options in ({}, {"gradient_as_bucket_view": True, "static_graph": True}):
        torch.manual_seed(0)
        loss_of = nn.CrossEntropyLoss()

        def steps_of(model):
            optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=True)
            cursor = 0

            def step():
                nonlocal cursor
                cursor = 0 if cursor + batch > 2048 else cursor
                x, y = (part[cursor:cursor + batch].to(device, non_blocking=True) for part in (inputs, targets))
                cursor += batch
                optimizer.zero_grad()
                loss = loss_of(model(x), y.flatten())
                loss.backward()
                optimizer.step()
                return loss.item()
            return step

        model = (Transformer() if name == "transformer" else model_of(name)).to(device)
        alone = steps_of(copy.deepcopy(model))
        step = steps_of(DistributedDataParallel(model, **options))

        def own_rate():
            """Sum over the ranks of samples per second, each for itself for as long as a block of steps takes."""
            dist.barrier()
            alone()
            done, start = 0, time.perf_counter()
            while time.perf_counter() < start + block_seconds:
                alone()
                done += batch
            rate = torch.tensor([done / (time.perf_counter() - start)], dtype=torch.float64)
            dist.all_reduce(rate)
            return rate.item()

        blocks, ratios, block_seconds = [], [], 1.0
        before = own_rate() if OWN else None
        for _ in range(BLOCKS):
            dist.barrier()
            for _ in range(WARM_UP):
                step()
            start = time.perf_counter()
            for _ in range(STEPS):
                step()
            slowest = torch.tensor([(time.perf_counter() - start) / STEPS], device=device)
            dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
            blocks.append(1e3 * slowest.item())
            if OWN:
                block_seconds = STEPS * slowest.item()
                after = own_rate()
                ratios.append(world * batch / slowest.item() / ((before + after) / 2))
                before = after
        median = -statistics.median(ratios) if OWN else statistics.median(blocks)
        result = median, sorted(ratios)
        best = result if best is None else min(best, result)
    if rank == 0:
        median, ratios = best
        queue.put(f"{-median} {ratios[len(ratios) // 10]} {ratios[-1 - len(ratios) // 10]}" if OWN else median)
    dist.destroy_process_group()


if __name__ == "__main__":
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29531")
    if CUDA and torch.cuda.device_count() < RANKS:
        sys.exit(f"no device for each of {RANKS} ranks: PyTorch {torch.__version__} sees {torch.cuda.device_count()}")
    result = mp.get_context("spawn").SimpleQueue()
    if WORDS[0] == "all-reduce":
        mp.spawn(all_reduce_worker, args=(RANKS, int(WORDS[1]), result), nprocs=RANKS)
    else:
        case_name, batch_size = WORDS[0].rsplit("-", 1)
        if MPI_RANK is None:
            mp.spawn(worker, args=(RANKS, case_name, int(batch_size), result), nprocs=RANKS)
        else:
            worker(int(MPI_RANK), RANKS, case_name, int(batch_size), result)
            if MPI_RANK != "0":
                sys.exit()
    print(result.get())
