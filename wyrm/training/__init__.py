"""Training and evaluating over whole data sets, with the loop outside Python.

* :mod:`.feed`: the data, checked and brought into the form that runners read;
* :mod:`.runners`: programs bound to a feed, and the threads that drive them;
* :mod:`.fitting`: :func:`wyrm.fit`;
* :mod:`.evaluation`: :func:`wyrm.evaluate`;
* :mod:`.history`: what a training run leaves behind.
"""

from wyrm.training.evaluation import evaluate
from wyrm.training.fitting import fit
from wyrm.training.history import Epoch, History

__all__ = ["Epoch", "History", "evaluate", "fit"]
