// The kernels for one instruction set and one kind of real number, as a table. The build compiles this file once for each:
// WYRM_KERNELS is the table's name, WYRM_DOUBLE is defined for double.

#include "kernels.h"

#include "cells.h"
#include "draws.h"
#include "loops.h"
#include "products.h"
#include "random.h"
#include "softmax.h"
#include "updates.h"

#define ENTRY(NAME) {#NAME, (void (*)(void))kernel_##NAME},
#define UNARY(NAME, VALUE) ENTRY(NAME)
#define BINARY(NAME, VALUE) ENTRY(NAME)
#define TERNARY(NAME, VALUE) ENTRY(NAME)

const Kernel WYRM_KERNELS[] = {
#include "elementwise.def"
    ENTRY(copy)
    ENTRY(fused)
    ENTRY(fused_single)
    ENTRY(fused_sums_1)
    ENTRY(fused_sums_2)
    ENTRY(fused_sums_3)
    ENTRY(fused_sums_4)
    {"loop", (void (*)(void))run_loop},
    {"steps", (void (*)(void))step_address},
    ENTRY(sum)
    ENTRY(row_max)
    ENTRY(transpose)
    ENTRY(logsumexp)
    ENTRY(softmax)
    ENTRY(lstm_cell)
    ENTRY(lstm_cell_vjp)
    ENTRY(matmul)
    ENTRY(row_dot)
    ENTRY(gather)
    ENTRY(pick)
    ENTRY(place)
    ENTRY(scatter)
    ENTRY(accumulate_rows)
    ENTRY(gather_bag)
    ENTRY(scatter_bag)
    ENTRY(accumulate_bag)
    ENTRY(dropout_mask)
    ENTRY(draw)
    ENTRY(update)
    ENTRY(update_rows)
    ENTRY(update_gradient)
    ENTRY(merge_gradient)
    ENTRY(square_sum)
    ENTRY(current)
    ENTRY(current_rows)
    ENTRY(current_bag)
    ENTRY(tick)
    {0, 0},
};
