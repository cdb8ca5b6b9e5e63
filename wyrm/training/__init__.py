"""Training and evaluating over whole data sets, with the loop outside Python.

* :mod:`.feed`: the data, checked and brought into the form that runners read;
* :mod:`.runners`: programs bound to a feed, and the threads that drive them;
* :mod:`.fitting`: :func:`wyrm.fit`;
* :mod:`.order`: in which order epochs visit the examples;
* :mod:`.run`, :mod:`.callbacks`: what goes on between epochs, and how a run is resumed;
* :mod:`.diagnosis`: where a loss that is not finite began;
* :mod:`.evaluation`: :func:`wyrm.evaluate`;
* :mod:`.history`: what a training run leaves behind.
"""

from wyrm.training.callbacks import Callback, Checkpoint, EarlyStopping, LearningRate
from wyrm.training.evaluation import evaluate
from wyrm.training.fitting import fit
from wyrm.training.history import Epoch, History
from wyrm.training.run import Run

__all__ = ["Callback", "Checkpoint", "EarlyStopping", "Epoch", "History", "LearningRate", "Run", "evaluate", "fit"]
