"""The conformance suite: runs the same checks on any backend of Wyrm and says what it can do.

* :mod:`.check`: what a check is, and how it compares;
* :mod:`.cases`: how each op of the op table is put to the test;
* :mod:`.gradients`, :mod:`.sparse`, :mod:`.training`, :mod:`.sequences`, :mod:`.parallel`: the checks;
* :mod:`.runner`: runs them and keeps the results;
* :mod:`.__main__`: the command.
"""

__version__ = "0.1.0"
