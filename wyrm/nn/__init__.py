"""Layers, initial values and losses, all of them written with the public node API.

* :mod:`.init`: initial values from seeds;
* :mod:`.module`: what all layers have in common;
* :mod:`.linear`: :class:`Linear`, :class:`Embedding`, :class:`EmbeddingBag`;
* :mod:`.recurrent`: what layers over sequences have in common, and the simplest, :class:`EWMA`;
* :mod:`.lstm`, :mod:`.gru`: gated layers, :class:`LSTM` and :class:`GRU`;
* :mod:`.losses`.
"""

from wyrm.nn import losses, lstm
from wyrm.nn.gru import GRU
from wyrm.nn.init import uniform, xavier_normal
from wyrm.nn.linear import Embedding, EmbeddingBag, Linear
from wyrm.nn.lstm import LSTM
from wyrm.nn.module import Module, ModuleList
from wyrm.nn.recurrent import EWMA

__all__ = [
    "EWMA",
    "GRU",
    "LSTM",
    "Embedding",
    "EmbeddingBag",
    "Linear",
    "Module",
    "ModuleList",
    "losses",
    "lstm",
    "uniform",
    "xavier_normal",
]
