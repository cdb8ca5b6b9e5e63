"""Faults to test the suite with: each is one realistic defect, with the checks that are meant to catch it.

* :mod:`.subject`, :mod:`.wrapping`: a correct backend to break, and how a fault is planted;
* :mod:`.kernels`, :mod:`.chains`, :mod:`.execution`, :mod:`.rows`, :mod:`.updates`, :mod:`.runs`: faulty backends;
* :mod:`.turns`: faulty passes that begin at once, and setters;
* :mod:`.own_steps`: faulty passes and steps that a caller drives;
* :mod:`.sizes`, :mod:`.numbers`, :mod:`.many`: those that are faulty beyond a size, a number or a count;
* :mod:`.calls`, :mod:`.crews`: those that keep what should change, or share what should not be shared;
* :mod:`.believing`: those that look at nothing that they are given;
* :mod:`.frontend`: defects that can only lie in the frontend, which is patched for the time of the checks.
"""

from wyrm_conformance.faults import (
    believing,
    calls,
    chains,
    crews,
    execution,
    frontend,
    kernels,
    many,
    numbers,
    own_steps,
    rows,
    runs,
    sizes,
    turns,
    updates,
)
from wyrm_conformance.faults.subject import FAULTS, Fault, correct_backend, forget, noted

__all__ = ["FAMILIES", "FAULTS", "Fault", "correct_backend", "forget", "noted"]

#: The modules that register faults.
FAMILIES = (
    kernels,
    chains,
    sizes,
    numbers,
    many,
    execution,
    turns,
    rows,
    updates,
    runs,
    own_steps,
    calls,
    crews,
    believing,
    frontend,
)
