"""The kernels: functions of an instruction's address and a zero of the type of real numbers.

Instructions are laid out as :mod:`wyrm.native` describes. Words 0 to 3 are the instruction's own; the result begins at word
4, the first operand at word 8, the second at word 12, each with address, rows, columns and row stride.

Elementwise kernels are functions of elements, in :mod:`.elements`; the loops around them are written by
:mod:`wyrm_numba.chain_source`. What has no such code of its own is interpreted as a chain (:mod:`.chains`).
"""

from wyrm_numba.kernels.bags import accumulate_bag, gather_bag, scatter_bag
from wyrm_numba.kernels.behind import current, current_bag, current_rows, tick
from wyrm_numba.kernels.cells import lstm_cell, lstm_cell_vjp
from wyrm_numba.kernels.chains import chain, single_chain
from wyrm_numba.kernels.draws import draw
from wyrm_numba.kernels.products import matmul, row_dot
from wyrm_numba.kernels.random import dropout_mask
from wyrm_numba.kernels.rows import accumulate_rows, gather, pick, place, scatter
from wyrm_numba.kernels.shapes import row_max, sum, transpose
from wyrm_numba.kernels.softmax import logsumexp, softmax
from wyrm_numba.kernels.updates import merge_gradient, square_sum, update, update_gradient, update_rows

__all__ = [
    "accumulate_bag",
    "accumulate_rows",
    "chain",
    "current",
    "current_bag",
    "current_rows",
    "draw",
    "dropout_mask",
    "gather",
    "gather_bag",
    "logsumexp",
    "lstm_cell",
    "lstm_cell_vjp",
    "matmul",
    "merge_gradient",
    "pick",
    "place",
    "row_dot",
    "row_max",
    "scatter",
    "scatter_bag",
    "single_chain",
    "softmax",
    "square_sum",
    "sum",
    "tick",
    "transpose",
    "update",
    "update_gradient",
    "update_rows",
]
