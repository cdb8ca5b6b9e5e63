"""The op table: every op in one place, with its shape rule, forward pass, VJPs and the node's method for it.

* :mod:`.elementwise`: arithmetic, with broadcasting;
* :mod:`.functions`: functions of single elements;
* :mod:`.choices`: maxima, bounds, choices by masks;
* :mod:`.comparisons`: masks;
* :mod:`.products`: products of matrices and rows;
* :mod:`.reductions`: sums and means, softmax;
* :mod:`.shapes`: transposition, slices, stacks;
* :mod:`.lookups`: rows of tables;
* :mod:`.cells`: steps of recurrent cells;
* :mod:`.random`: dropout;
* :mod:`.draws`: numbers that are drawn, and drawn again;
* :mod:`.gradients`: what steers gradients.

A new op made of existing kernels is added to one of these files, and nowhere else.
"""

from wyrm.frontend.ops.cells import Cells
from wyrm.frontend.ops.choices import Choices
from wyrm.frontend.ops.comparisons import Comparisons
from wyrm.frontend.ops.draws import Draws
from wyrm.frontend.ops.elementwise import Elementwise
from wyrm.frontend.ops.functions import Functions
from wyrm.frontend.ops.gradients import Gradients
from wyrm.frontend.ops.lookups import Lookups
from wyrm.frontend.ops.products import Products
from wyrm.frontend.ops.random import Random
from wyrm.frontend.ops.reductions import Reductions
from wyrm.frontend.ops.shapes import Shapes

__all__ = [
    "Cells",
    "Choices",
    "Comparisons",
    "Draws",
    "Elementwise",
    "Functions",
    "Gradients",
    "Lookups",
    "Products",
    "Random",
    "Reductions",
    "Shapes",
]
