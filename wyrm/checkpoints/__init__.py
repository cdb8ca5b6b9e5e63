"""Checkpoints: parameters and optimizers in a file, in the format safetensors.

* :mod:`.files`: a file, written whole or not at all, and read with suspicion;
* :mod:`.state`: what of a model and its optimizers is kept, compared with another model's, and put back;
* :mod:`.alike`: parameters of one shape that no names tell apart;
* :mod:`.requests`: what does not fit, made to fit on request;
* :mod:`.saving`: :func:`wyrm.save` and :func:`wyrm.load`.
"""

from wyrm.checkpoints.saving import Saved, load, save

__all__ = ["Saved", "load", "save"]
