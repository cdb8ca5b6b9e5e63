"""The parts of the generator of docs/reference.md, which is run by docs/generate_reference.py.

* :mod:`.text`: from kernel calls to infix text;
* :mod:`.listing`: from what is computed to lines, with names for what is used more than once;
* :mod:`.examples`: operands and attributes to try each op with;
* :mod:`.ops`, :mod:`.kernels`, :mod:`.optimizers`: the sections of the page.
"""
