"""The operations of the machine for nets with index axes (`tpnum.kernels.cells`) and their codes."""

from __future__ import annotations

OPERATIONS = (
    "data",  # a <- increments of the data n
    "gain",  # a gains the increments of a term with co-correlation c (-1: one), parameters p
    "zero",  # a <- 0
    "copy",  # a <- b
    "recall",  # a gains what the step before made of b, by map n; nothing at first
    "cross",  # a <- products of the data n
    "covariance",  # a <- covariance of the increments b; parameters p: deviation over scale, and scale
    "co",  # a <- co-correlation of the increments b; parameters p: deviation over scale and its inverse;
    # with a flag 1, which is none, of an example and itself
    "normal",  # a <- co-correlation of the covariance b, inverse deviations p
    "dual",  # a <- e of b, c <- derivative kernel or -1, by the function in slot n, parameters p
    "series",  # the same by Hermite series n
    "both",  # a <- co-correlation of the product of independent factors b, c
    "add",  # a <- a + r_i c_j b, parameter p
    "add_rho",  # a <- a + r_i c_j rho(b), parameter p
    "add_product",  # a <- a + r_i c_j b c, parameter p
    "add_outer",  # a <- a + r_i c_j, parameter p
    "multiply",  # a <- a b
    "times",  # a <- r_i c_j b, parameter p
    "fresh",  # a <- a + r_i c_j on coinciding positions of one example, parameter p
    "relu",  # a <- increments behind relu from those before, b <- tangent source; parameters p, constants n;
    # with a flag 4 b is made of the covariances of a and not read
    "mix",  # a <- linear map n of b, axis by axis
    "load",  # a <- what buffer n holds for the cells
    "store",  # buffer n gains a at the cells that it has, or with a flag becomes it there
    "plain",  # a <- r_i c_j rho(b), parameter p
    "bend",  # a <- r_i c_j / sqrt(1 - rho^2) of co-correlations b, 0 where rho is 1 to rounding; parameter p
    "product",  # a <- r_i c_j b c, parameter p
    "rows",  # buffer n gains a, or a b, by the row's position
    "cols",  # the same by the column's position
    "bent",  # adjoints a, b behind relu to those before it, from increments c and tangent kernel d as then
    "curved",  # adjoints a of E f g, b of E f' g' to a, by co-correlations c and derivatives d; series n
    "data_rows",  # buffer n gains the products of a and the columns' data m, by row and its position
    "data_cols",  # buffer n gains those of a and the row's data m, by the column's position
    "function",  # as relu, by the function in slot m, with a flag 1 by Hermite series m
)
"""In the order of their codes."""

(
    DATA, GAIN, ZERO, COPY, RECALL, CROSS, COVARIANCE, CO, NORMAL, DUAL, SERIES, BOTH, ADD, ADD_RHO,
    ADD_PRODUCT, ADD_OUTER, MULTIPLY, TIMES, FRESH, RELU, MIX, LOAD, STORE, PLAIN, BEND, PRODUCT, ROWS,
    COLS, BENT, CURVED, DATA_ROWS, DATA_COLS, FUNCTION,
) = range(len(OPERATIONS))  # fmt: skip

LAST_PADDED = COPY
"""The operations up to here, relu and functions matter in the padding, where there are increments alone."""
