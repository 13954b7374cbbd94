"""Nine words as vectors with the inner products of their GloVe embeddings (300 dimensions, glove.840B).

The embeddings, by Pennington, Socher and Manning of Stanford, are in the public domain (Public Domain
Dedication and License).  Kernels see inner products alone, so the words are held in nine dimensions, by the
Cholesky factor of their Gram matrix.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

WORDS = ("The", "brown", "fox", "jumps", "over", "the", "dog", "quick", "lazy")

_ROWS = """
    0.286456
    0.030075 0.398410
    0.020721 0.150991 0.341369
    -0.000685 0.038410 0.078224 0.335321
    0.077290 0.079649 0.014143 0.080731 0.261262
    0.187690 0.046007 0.017375 0.040068 0.084780 0.165793
    0.065955 0.133975 0.152809 0.078355 0.038395 0.029055 0.332868
    0.068816 0.065887 0.035604 0.085900 0.063745 0.040093 0.031928 0.286828
    0.035041 0.094692 0.066574 0.060408 0.043775 0.038891 0.040784 0.095919 0.331971
"""

ADJECTIVES = ("quick", "brown", "lazy")
EXAMPLES = ("The brown fox jumps over the dog", "The quick brown fox jumps over the lazy dog")


def vectors() -> np.ndarray:
    """The words, (9, 9): x . x' / 9 are the inner products of the embeddings over 300."""
    made = np.zeros((len(WORDS), len(WORDS)))
    made[np.tril_indices(len(WORDS))] = np.array(_ROWS.split(), dtype=np.float64)
    return np.sqrt(len(WORDS)) * made


def sentences() -> tuple[list[str], np.ndarray]:
    """Who jumps over whom, with up to two adjectives each: 200 sentences, and whether it is the fox."""
    single = [(), *((one,) for one in ADJECTIVES), *itertools.permutations(ADJECTIVES, 2)]
    made, fox = [], []
    for first, second in itertools.product(single, single):
        for who, whom in (("fox", "dog"), ("dog", "fox")):
            made.append(" ".join(["The", *first, who, "jumps", "over", "the", *second, whom]))
            fox.append(who == "fox")
    return made, np.array(fox)


def embedded(texts: Sequence[str]) -> np.ndarray:
    """Sentences as arrays (sentences, longest, 9), NaN beyond their ends."""
    split = [text.split() for text in texts]
    found = vectors()
    made = np.full((len(split), max(map(len, split)), len(WORDS)), np.nan)
    for k, words in enumerate(split):
        made[k, : len(words)] = found[[WORDS.index(word) for word in words]]
    return made
