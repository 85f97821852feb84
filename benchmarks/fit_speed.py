"""Times a full Chinchilla fit: 4,500 starts, 250 points, 1,000 bootstraps, and the checks `triarch fit` adds.

python benchmarks/fit_speed.py
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from triarch.scaling.checks.diagnosis import diagnose
from triarch.scaling.fitting.options import FitOptions
from triarch.scaling.laws.chinchilla import fit_chinchilla

EPOCH = {"E": 1.8169, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=250)
    parser.add_argument("--bootstraps", type=int, default=1000)
    args = parser.parse_args()
    rng = np.random.default_rng(1)
    flops, ratio = 10 ** rng.uniform(18, 22, args.points), 10 ** rng.uniform(-0.7, 0.7, args.points)
    params = np.sqrt(flops / 120) * ratio
    tokens = flops / 6 / params
    loss = EPOCH["E"] + EPOCH["A"] / params ** EPOCH["alpha"] + EPOCH["B"] / tokens ** EPOCH["beta"]
    loss *= np.exp(0.005 * rng.standard_t(4, args.points))
    print(f"{args.points} points, 4500 starts, {args.bootstraps} bootstraps")
    print(f"{'':<32}{'seconds':>10}{'CPU seconds':>14}")
    fit = _timed("grid alone", lambda: fit_chinchilla(params, tokens, loss, FitOptions(bootstraps=0)))
    fit = _timed(
        "grid and bootstraps", lambda: fit_chinchilla(params, tokens, loss, FitOptions(bootstraps=args.bootstraps))
    )
    _timed("profiles, influence, held out", lambda: diagnose(fit))
    for name, (low, high) in fit.intervals.items():
        print(f"  {name:<6}{fit.parameters[name]:<10.4g} [{low:.4g}, {high:.4g}], true {EPOCH[name]:g}")


def _timed(name, work):
    wall, used = time.perf_counter(), time.process_time()
    result = work()
    print(f"{name:<32}{time.perf_counter() - wall:>10.1f}{time.process_time() - used:>14.1f}", flush=True)
    return result


if __name__ == "__main__":
    main()
