"""From structures to programs, in steps that each have a file.

* :mod:`.trace`: a structure as a flat list of records, which is what programs are cached by;
* :mod:`.emitter`: records kernel calls on symbolic values, expanding what a backend lacks and simplifying as it goes;
* :mod:`.differentiate`: the backward pass, from the VJPs of the op table;
* :mod:`.layout`: where every value stands in memory;
* :mod:`.lower`: the whole way, for each purpose.
"""
