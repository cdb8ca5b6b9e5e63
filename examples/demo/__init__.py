"""The demonstration: the same models, written once, trained by every backend.

* :mod:`.ratings`: ratings from a CSV file, or generated so that the best possible error is known;
* :mod:`.model`: matrix factorization with biases;
* :mod:`.runs`: trains it on one backend, in a process of its own;
* :mod:`.report`: the table and the picture;
* :mod:`.__main__`: the command.
"""
