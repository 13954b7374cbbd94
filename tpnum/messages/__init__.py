"""Approximate message passing as a program: its limit is state evolution, its simulation the algorithm."""

from __future__ import annotations

from tpnum.messages.amp import Amp, amp
from tpnum.messages.denoisers import Bayes, Denoiser, Elementwise, Soft, bayes, soft
from tpnum.messages.evolution import Evolution, l1_transition, minimax_threshold, state_evolution
from tpnum.messages.recovery import Recovery, recovery

__all__ = [
    "Amp",
    "Bayes",
    "Denoiser",
    "Elementwise",
    "Evolution",
    "Recovery",
    "Soft",
    "amp",
    "bayes",
    "l1_transition",
    "minimax_threshold",
    "recovery",
    "soft",
    "state_evolution",
]
