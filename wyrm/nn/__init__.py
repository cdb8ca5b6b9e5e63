"""Layers, initial values and losses, all of them written with the public node API.

* :mod:`.init`: initial values from seeds;
* :mod:`.module`: what all layers have in common;
* :mod:`.linear`: :class:`Linear`, :class:`Embedding`, :class:`EmbeddingBag`;
* :mod:`.recurrent`: what layers over sequences have in common, and the simplest, :class:`EWMA`;
* :mod:`.lstm`, :mod:`.gru`: gated layers;
* :mod:`.losses`.
"""

from wyrm.nn import gru, losses, lstm
from wyrm.nn.init import uniform, xavier_normal
from wyrm.nn.linear import Embedding, EmbeddingBag, Linear
from wyrm.nn.module import Module, ModuleList
from wyrm.nn.recurrent import EWMA

__all__ = [
    "EWMA",
    "Embedding",
    "EmbeddingBag",
    "Linear",
    "Module",
    "ModuleList",
    "gru",
    "losses",
    "lstm",
    "uniform",
    "xavier_normal",
]
