"""Estimators, transformers and a kernel for scikit-learn (1.6 or later).

`TPRegressor`, `TPClassifier`, `TPKernel`; for linear models behind them `TPRandomFeatures`, `TPNystroem`.

    from tpnum.interop.sklearn import MLP, TPClassifier
    model = make_pipeline(StandardScaler(), TPClassifier(MLP(depth=3, activation="relu"), kernel="ntk"))
    GridSearchCV(model, {"tpclassifier__net__W_std": [1.0, 1.4], "tpclassifier__noise": [1e-3, 1e-2]})

`TPKernel` is a kernel for every estimator that takes a function: ``SVC(kernel=TPKernel(MLP(3), get="ntk"))``
is the classifier of Arora et al. (2020), and ``kernel__net__depth`` a parameter of its grid.

Images are flat rows with ``input_shape=(height, width, channels)``.
"""

from __future__ import annotations

try:
    import sklearn.utils.validation as _validation

    if not hasattr(_validation, "validate_data"):
        raise ImportError("scikit-learn is too old")
except ImportError as missing:
    raise ImportError(
        "tpnum.interop.sklearn needs scikit-learn 1.6 or later: pip install 'tpnum[sklearn]'"
    ) from missing

from tpnum.interop.sklearn.classifier import TPClassifier
from tpnum.interop.sklearn.kernel import TPKernel
from tpnum.interop.sklearn.networks import MLP
from tpnum.interop.sklearn.regressor import TPRegressor
from tpnum.interop.sklearn.transformers import TPNystroem, TPRandomFeatures

__all__ = ["MLP", "TPClassifier", "TPKernel", "TPNystroem", "TPRandomFeatures", "TPRegressor"]
