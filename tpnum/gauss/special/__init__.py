"""Gaussian integrals that architectures need beyond pairs of functions of one variable.

| integral | for | module |
|---|---|---|
| P(Z <= upper), P(Z > 0), E prod Phi(a_i z_i), times z_j z_k | gates | orthants, tails |
| E softmax(z) softmax(z')' | attention with random logits | softmax |
| E max, E max u max v, P(argmax u = i, argmax v = j) | max pooling | maxima |
| E phi(BN x) phi(BN y)', and through the Jacobians | batch normalisation | batches |

All take arrays with leading batch axes, return `tpnum.gauss.estimate.Estimate`s with an error, refuse
what is no Gaussian law with InputError, and warn with AccuracyWarning where ``atol`` was not reached.
"""

from tpnum.gauss.special.batch_pairs import batchnorm_pair as batchnorm_pair
from tpnum.gauss.special.batch_pairs import batchnorm_pair_tangent as batchnorm_pair_tangent
from tpnum.gauss.special.batches import batchnorm as batchnorm
from tpnum.gauss.special.batches import batchnorm_gradient as batchnorm_gradient
from tpnum.gauss.special.batches import batchnorm_tangent as batchnorm_tangent
from tpnum.gauss.special.maxima import argmax_joint as argmax_joint
from tpnum.gauss.special.maxima import expected_max as expected_max
from tpnum.gauss.special.maxima import max_second as max_second
from tpnum.gauss.special.maxima import max_square as max_square
from tpnum.gauss.special.orthants import normal_cdf as normal_cdf
from tpnum.gauss.special.orthants import orthant as orthant
from tpnum.gauss.special.orthants import product_of_cdfs as product_of_cdfs
from tpnum.gauss.special.sampled_batches import batchnorm_sampled as batchnorm_sampled
from tpnum.gauss.special.softmax import SoftmaxMoments as SoftmaxMoments
from tpnum.gauss.special.softmax import softmax_moments as softmax_moments
from tpnum.gauss.special.tails import Tail as Tail
from tpnum.gauss.special.tails import cdf_moments as cdf_moments
from tpnum.gauss.special.tails import tail_moments as tail_moments
