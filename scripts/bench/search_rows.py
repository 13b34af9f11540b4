# SPDX-License-Identifier: Apache-2.0
"""Rows for scripts/bench.sh out of raw results: search_rows.py OURS CACHE TRIALS

OURS has METHOD-WORKERS.jsonl and cost.jsonl, as bench_search printed them, halving-TASK.jsonl as bench_halving did, and
halving-TASK-peer.jsonl; CACHE is what search_peer.py wrote. Regrets are floored, tasks
and seeds that only one side has are left out. A loss is significant where a one-sided Mann-Whitney test over seeds says p < 0.05.
"""
import glob
import json
import math
import os
import statistics
import sys

from scipy.stats import mannwhitneyu

ours_folder, cache, trials = sys.argv[1], sys.argv[2], int(sys.argv[3])
SMOOTH = ("branin", "hartmann6", "rosenbrock4", "levy8")


def lines(name):
    path = os.path.join(ours_folder, name)
    return [json.loads(line) for line in open(path)] if os.path.exists(path) else []


def ours(method, workers=1):
    """{task: {seed: regret}}"""
    table = {}
    for line in lines(f"{method}-{workers}.jsonl"):
        table.setdefault(line["task"], {})[line["seed"]] = line["regret_curve"][-1]
    return table


ABOUT = {line["task"]: (line["best"], line["floor"]) for line in lines("tpe-1.jsonl")}


def peer(sampler):
    table = {}
    for task, (best, floor) in ABOUT.items():
        for path in glob.glob(os.path.join(cache, "optuna-*", sampler, task, f"*-{trials}.json")):
            run = json.load(open(path))
            table.setdefault(task, {})[run["seed"]] = max(min(run["values"]) - best, floor)
    return table


def row(case, value, unit, goal, against, spread=None, better="lower"):
    low, high = spread or (value, value)
    print(json.dumps({"bench": "search", "case": case, "value": value, "p10": low, "p90": high, "unit": unit, "better": better,
                      "peer": against, "goal": goal}))


def geometric(values):
    return math.exp(statistics.fmean(math.log(value) for value in values))


def pairs(mine, theirs):
    """(task, regrets of ours, of the peer) over the seeds that both have"""
    for task in mine:
        seeds = sorted(set(mine[task]) & set(theirs.get(task, {})))
        if len(seeds) > 1:
            yield task, [mine[task][seed] for seed in seeds], [theirs[task][seed] for seed in seeds]


def worse(a, b):
    return mannwhitneyu(a, b, alternative="greater").pvalue < 0.05


def compare(case, mine, theirs, against, goal, losses):
    found = list(pairs(mine, theirs))
    if not found:
        return
    ratios = sorted(geometric(a) / geometric(b) for _, a, b in found)
    row(f"{case}, {len(found)} tasks: regret", geometric(ratios), "x", goal, against, (ratios[0], ratios[-1]))
    lost = [task for task, a, b in found if worse(a, b)]
    row(f"{case}: significant losses {' '.join(lost)}".strip(), len(lost), " ", losses, against)
    for task, a, b in found:
        print(f"search: {case}: {task}: {geometric(a):.3g} against {geometric(b):.3g}, {geometric(a) / geometric(b):.2f}", file=sys.stderr)


def compare_auto(auto, peers):
    """Against whichever sampler of the peer has the least regret on the task, which is hard on us: it was chosen with these very seeds."""
    lost, won, count = [], 0, 0
    for task in auto:
        tables = [table[task] for table in peers if task in table]
        if not tables:
            continue
        best = min(tables, key=lambda table: geometric(table.values()))
        for _, a, b in pairs({task: auto[task]}, {task: best}):
            count += 1
            lost += [task] if worse(a, b) else []
            won += worse(b, a)
    if count:
        row(f"auto, {count} tasks: significant losses {' '.join(lost)}".strip(), len(lost), " ", 0, "best of Optuna's TPE, GP, random")
        row("auto: significantly better, share of tasks", won / count, " ", 0.4, "best of Optuna's TPE, GP, random", better="higher")


def ratio(many, one, tasks=None):
    """Geometric mean over tasks, and the spread, of one table's regrets over another's"""
    ratios = sorted(geometric(a) / geometric(b) for task, a, b in pairs(many, one) if tasks is None or task in tasks)
    return (geometric(ratios), (ratios[0], ratios[-1])) if ratios else None


def compare_workers(method, table, peers):
    many = ours(method, 8)
    functions = [task for task in many if "-" not in task]   # tables have names with one
    for case, tasks in (("", None), (", functions alone (tables end at the optimum, where the floor counts)", functions)):
        found, theirs = ratio(many, table, tasks), ratio(peers["tpe-8"], peers["tpe"], tasks)
        if found:
            against = f"Optuna 5 TPE: {theirs[0]:.2f}" if theirs else ""
            row(f"{method}: 8 workers / 1, regret{case}", found[0], "x", None if tasks else 1.25, against, found[1])


def halving_shares(path):
    """Runs; epochs of each, of those of the random search that it is compared with: all where its value was not reached; how often so"""
    runs = [json.loads(line) for line in open(path)]
    shares = sorted(run["epochs"] / run["full_epochs"] if run["reached"] else 1 for run in runs)
    return runs, shares, sum(not run["reached"] for run in runs)


def compare_halving():
    repeated = []
    for path in sorted(glob.glob(os.path.join(ours_folder, "halving-*.jsonl"))):
        if path.endswith("-peer.jsonl"):
            continue
        runs, shares, missed = halving_shares(path)
        _, theirs, they_missed = halving_shares(path[:-len(".jsonl")] + "-peer.jsonl")
        repeated += [run["repeated"] for run in runs]
        row(f"asha: {runs[0]['task']}, a whole trial like the best of 100 random ones: epochs of theirs, {missed} of {len(runs)} never",
            statistics.median(shares), "x", 0.125, f"Optuna 5 halving: {statistics.median(theirs):.2f}, {they_missed} never",
            (shares[len(shares) // 10], shares[len(shares) * 9 // 10]))
    if repeated:
        row("asha: epochs that were repeated", sum(repeated), " ", 0, "")


def main():
    tpe, gp, auto = ours("tpe"), ours("gp"), ours("auto")
    peers = {sampler: peer(sampler) for sampler in ("tpe", "tpe-8", "gp", "random")}
    compare("tpe", tpe, peers["tpe"], "Optuna 5 TPE", 0.9, 2)
    compare("gp, smooth", {task: gp[task] for task in SMOOTH if task in gp}, peers["gp"], "Optuna 5 GP", 0.8, 1)
    compare("tpe, 8 workers", ours("tpe", 8), peers["tpe-8"], "Optuna 5 TPE with 8", 0.9, 2)
    compare_auto(auto, [peers[sampler] for sampler in ("tpe", "gp", "random")])
    for method, table in (("tpe", tpe), ("auto", auto)):
        if "jenatton" in table:
            median = statistics.median(table["jenatton"].values())
            row(f"{method}: jenatton, median regret times 10^4", 1e4 * median, " ", 5, "Optuna 5: TPE 43")
        for task, goal, peer_has in (("nasbench201-cifar100", 0.2, "GP 0.21"), ("nasbench201-imagenet", 0.13, "GP 0.14")):
            if task in table:
                row(f"{method}: {task}, mean regret", statistics.fmean(table[task].values()), " ", goal, "Optuna 5: " + peer_has)
        compare_workers(method, table, peers)
    compare_halving()
    goals = {("random", 100): 20, ("tpe", 100): 400, ("tpe", 1000): 2000}
    for line in lines("cost.jsonl"):
        goal = goals.get((line["method"], line["trials"]))
        row(f"{line['method']}: a suggestion after {line['trials']} trials, us", line["suggest_us"], " ", goal, "")
    theirs = {line["seed"]: line["trial_us"] for line in lines("gp-cost-peer.jsonl")}
    ratios = sorted(line["suggest_us"] / theirs[line["seed"]] for line in lines("gp-cost.jsonl"))
    if ratios:
        row("gp: seconds of 90 suggestions on hartmann6", statistics.median(ratios), "x", 0.25, "Optuna 5 GP, in turn", (ratios[0], ratios[-1]))


main()
