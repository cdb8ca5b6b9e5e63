"""Training and evaluating over whole data sets, with the loop outside Python.

From what users give to what threads run:

* :mod:`.data`: kinds of data that arrays cannot tell, :class:`wyrm.Ragged` and :class:`wyrm.Dense`;
* :mod:`.columns`: the data of one input or argument, checked; :mod:`.feed`: columns together, and the structures of examples;
* :mod:`.models`: nodes and functions as models, traced once for each structure; :mod:`.losses`: what becomes of their results;
* :mod:`.assignment`: which optimizer updates which parameter; :mod:`.programs`: a program for each structure;
* :mod:`.order`: in which order examples are visited; :mod:`.arrangement`: which of them share a run;
* :mod:`.plan`: feeds bound to programs and threads; :mod:`.runners`, :mod:`.crews`: what threads do;
* :mod:`.fitting`: :func:`wyrm.fit`; :mod:`.evaluation`: :func:`wyrm.evaluate`;
* :mod:`.run`, :mod:`.callbacks`: what goes on between epochs, and how a run is resumed;
* :mod:`.diagnosis`: where a loss that is not finite began;
* :mod:`.history`: what a training run leaves behind.
"""

from wyrm.training.callbacks import Callback, Checkpoint, EarlyStopping, LearningRate
from wyrm.training.data import Dense, Ragged
from wyrm.training.evaluation import evaluate
from wyrm.training.fitting import fit
from wyrm.training.history import Epoch, History
from wyrm.training.run import Run

__all__ = [
    "Callback",
    "Checkpoint",
    "Dense",
    "EarlyStopping",
    "Epoch",
    "History",
    "LearningRate",
    "Ragged",
    "Run",
    "evaluate",
    "fit",
]
