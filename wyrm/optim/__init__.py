"""Optimizers: update rules over parameters, run natively by every backend.

* :mod:`.optimizer`: what all have in common; whoever writes one derives from :class:`Optimizer`;
* :mod:`.group`: parameters with options of their own;
* :mod:`.schedules`: learning rates that follow the number of steps;
* :mod:`.rules`: from arithmetic written in kernels to rules.
"""

from wyrm.optim import schedules
from wyrm.optim.adagrad import Adagrad, RowwiseAdagrad
from wyrm.optim.adam import Adam, AdamW
from wyrm.optim.ftrl import FTRL
from wyrm.optim.group import Group
from wyrm.optim.optimizer import Optimizer
from wyrm.optim.sgd import SGD
from wyrm.program import State

__all__ = ["FTRL", "SGD", "Adagrad", "Adam", "AdamW", "Group", "Optimizer", "RowwiseAdagrad", "State", "schedules"]
