"""Fits published tables again and sets what comes out beside what was published.

    python experiments/published_scaling_laws/reproduce.py FOLDER

FOLDER holds `muennighoff_data_constrained/`, `porian/` and `steplaw/` with the authors' tables (see README.md).
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np

from triarch.scaling.checks.profile import profiles
from triarch.scaling.fitting.options import FitOptions
from triarch.scaling.laws.log_linear import fit_log_linear
from triarch.scaling.laws.optima.hyperparameters import fit_hyperparameters
from triarch.scaling.laws.optima.isoflop import fit_isoflop
from triarch.scaling.laws.published.data_constrained import fit_data_constrained

PORIAN_KEYS = ("file", "dataset", "hparams", "warmup", "decay", "param_count", "val")
C4_LAW = {
    "E": float(np.exp(0.6254804)), "A": float(np.exp(6.255414)), "B": float(np.exp(7.3049974)), "alpha": 0.3526596,
    "beta": 0.3526596,
}  # fmt: skip
PUBLISHED_REPEATS = {"R_D": 15.387756, "R_N": 5.309743}
PUBLISHED_OBJECTIVE = 0.01582594
SEQUENCE = 2048


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def numbers(rows: list[dict[str, str]], *columns: str) -> list[np.ndarray]:
    return [np.array([float(row[column]) for row in rows]) for column in columns]


def muennighoff(folder: Path) -> None:
    rows = read(folder / "muennighoff_data_constrained" / "c4_repeat_182.csv")
    columns = numbers(rows, "N", "D_tokens", "U_unique_tokens", "loss")
    there = fit_data_constrained(*columns, FitOptions(fixed=C4_LAW | PUBLISHED_REPEATS, bootstraps=0))
    print("Muennighoff et al. 2023, repeated data: 182 runs, the law of C4 held")
    print(f"  objective at the published R_D, R_N: {there.objective:.8f} (published {PUBLISHED_OBJECTIVE})")
    fit = fit_data_constrained(*columns, FitOptions(fixed=C4_LAW))
    print(f"  least objective: {fit.objective:.8f} at R_D {fit.parameters['R_D']:.4g}, R_N {fit.parameters['R_N']:.4g}")
    for profile in profiles(fit):
        low, high = ("open" if end is None else f"{end:.4g}" for end in profile.interval)
        print(f"    {profile.name}: 95 % bootstrap {show(fit.intervals[profile.name])}, likelihood [{low}, {high}]")


def porian(folder: Path) -> None:
    configurations = defaultdict(list)
    for row in read(folder / "porian" / "optimal_points.csv"):
        configurations[tuple(row[key] for key in PORIAN_KEYS)].append(row)
    published = {
        tuple(row[key] for key in PORIAN_KEYS): float(row["n_exponent"])
        for row in read(folder / "porian" / "published_fits.csv")
        if row["fit"] == "basic"
    }
    points = defaultdict(list)
    for row in read(folder / "porian" / "isoflop_points.csv"):
        points[tuple(row[key] for key in PORIAN_KEYS)].append(row)
    print("\nPorian et al. 2024, exponent of N: published, from the published optima, from the runs by parabolas")
    agreed = 0
    for key, rows in configurations.items():
        flops, best = numbers(rows, "flops", "N_opt")
        fit = fit_log_linear([flops], best, inputs=("C",), output="N")
        exponent = fit.parameters["exponent"]
        agreed += abs(exponent - published[key]) < 5e-5
        raw = numbers(points[key], "N", "D_tokens", "loss", "flops")
        parabolas = fit_isoflop(*raw, window=8.0)
        print(
            f"  {' '.join(key[1:]):<48} {published[key]:.4f}  {exponent:.4f} {show(fit.intervals['exponent'])}"
            f"  {parabolas.parameters['a']:.3f} {show(parabolas.intervals['a'])}"
        )
    print(f"  {agreed} of {len(configurations)} agree to four decimals")


def step_law(folder: Path) -> None:
    rows = read(folder / "steplaw" / "dense_lr_bs_loss.csv")
    params, tokens, rate, batch, loss = numbers(rows, "N", "D", "lr", "bs", "smooth loss")
    published = read(folder / "steplaw" / "1004_fitted_lr_bs_scaling_model_parameters.csv")
    names = {
        "learning_rate_exponent_N": "lr_coefN", "learning_rate_exponent_D": "lr_coefD", "batch_exponent": "bs_coefD",
    }  # fmt: skip
    print("\nStep Law (Li et al. 2025): exponents, published 95 % spread, and fits to the published table")
    for tolerance in (0.0, 0.0005, 0.0025):
        fit = fit_hyperparameters(params, tokens, rate, batch * SEQUENCE, loss, tolerance=tolerance).to_json()
        print(f"  runs within {tolerance:.2%} of their cell's least loss:")
        for name, column in names.items():
            (spread,) = numbers(published, column)
            low, high = np.percentile(spread, [2.5, 97.5])
            value, interval = fit["parameters"][name], fit["intervals"][name]
            inside = "inside" if low <= value <= high else "outside"
            holds = "holds" if interval[0] <= spread.mean() <= interval[1] else "misses"
            print(
                f"    {name:<26} {value:+.3f} {show(interval)} {inside} the published {spread.mean():+.3f}"
                f" {show((low, high))}; our interval {holds} the published mean"
            )


def show(interval) -> str:
    return f"[{interval[0]:.4g}, {interval[1]:.4g}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    muennighoff(folder)
    porian(folder)
    step_law(folder)


if __name__ == "__main__":
    main()
