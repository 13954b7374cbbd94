"""What `__init__.py` loads on first use, as type checkers and editors see it."""

from tpnum import errors as errors, functions as functions, nn as nn, predict as predict, spectra as spectra
from tpnum.finite.compare import compare as compare
from tpnum.finite.simulations import simulations as simulations
from tpnum.functions import Function
from tpnum.gauss.dual import dual as dual
from tpnum.gauss.expect import expect as expect
from tpnum.limits.limit import limit as limit
from tpnum.limits.ntk import ntk as ntk
from tpnum.messages.amp import amp as amp
from tpnum.program import Program as Program, apply as apply, mean as mean, simulate as simulate
from tpnum.propagation.critical import critical as critical
from tpnum.propagation.initialise import initialise as initialise
from tpnum.propagation.phases import phases as phases
from tpnum.propagation.signals import signals as signals
from tpnum.spectra.lanczos import spectrum as spectrum
from tpnum.tiles.conditional import conditional as conditional
from tpnum.tiles.costs.planning import plan as plan
from tpnum.tiles.driver import kernel as kernel
from tpnum.tiles.factor import factor as factor
from tpnum.tiles.features import random_features as random_features
from tpnum.tiles.products import operator as operator
from tpnum.tiles.stores.stored import open as open

__version__: str
__all__: list[str]

abs: Function
arctan: Function
cbrt: Function
cos: Function
elu: Function
erf: Function
exp: Function
gabor: Function
gaussian: Function
gelu: Function
hard_tanh: Function
identity: Function
log: Function
maximum: Function
minimum: Function
mish: Function
normal_cdf: Function
rbf: Function
reciprocal: Function
relu: Function
selu: Function
sigmoid: Function
sigmoid_like: Function
sign: Function
silu: Function
sin: Function
softplus: Function
softsign: Function
sqrt: Function
square: Function
step: Function
tanh: Function
