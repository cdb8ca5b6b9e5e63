"""What is not declared is refused: the check that takes the place of one that needs it."""

from __future__ import annotations

import time
from threading import Thread

import numpy as np

import wyrm
from wyrm.kernels import KERNELS
from wyrm.optim import SGD
from wyrm.program import Buffer, Instruction, Program, Slot
from wyrm_conformance.context import Context

__all__ = ["check_refused"]


def check_refused(context: Context, word: str) -> None:
    """A capability that is not declared is refused before anything runs, by an error that names it."""
    if word in ("float32", "float64"):
        _refuse_dtype(context, word)
    elif word in KERNELS:
        _refuse_kernel(context, word)
    elif word == "releases_gil":
        _train_beside_a_thread(context)
    else:
        _refuse_schedule(context, word)


def _named(context: Context, word: str, error: wyrm.CapabilityError) -> None:
    context.require(
        f"the error names {word!r} and the backend: {error}", word in str(error) and context.backend.name in str(error)
    )


def _refuse_dtype(context: Context, dtype: str) -> None:
    w = wyrm.ParameterNode(np.ones((2, 3)), dtype=dtype)
    try:
        w.square().scalar_sum().forward(backend=context.backend)
    except wyrm.CapabilityError as error:
        _named(context, dtype, error)
    else:
        raise context.failure(f"a graph of {dtype} ran, though {dtype} is not declared")
    context.require("nothing has changed", not w.gradient.to_dense().any())


def _refuse_kernel(context: Context, kernel: str) -> None:
    slots = tuple(Slot(0, n, (1, 1), 1) for n in range(len(KERNELS[kernel].operands)))
    instruction = Instruction(kernel, Slot(0, 16, (1, 1), 1), slots)
    program = Program("evaluate", context.dtypes[-1], (Buffer("real"), Buffer("index")), real_length=17, forward=(instruction,))
    try:
        context.backend.compile(program)
    except wyrm.CapabilityError as error:
        _named(context, kernel, error)
    else:
        raise context.failure(f"a program with the kernel {kernel!r} was compiled, though it is not declared")


def _refuse_schedule(context: Context, schedule: str) -> None:
    w, x = wyrm.ParameterNode(1.0), wyrm.InputNode((1, 1))
    try:
        wyrm.fit(w * x, {x: [1.0] * 4}, SGD(0.1, [w]), num_threads=2, schedule=schedule, batch_size=2, backend=context.backend)
    except wyrm.CapabilityError as error:
        _named(context, schedule, error)
        context.compare("the parameter", w.value, np.ones((1, 1)), 0)
    else:
        raise context.failure(f"two threads were accepted, though the schedule {schedule!r} is not declared")


def _train_beside_a_thread(context: Context) -> None:
    """Nobody can ask for the GIL to be left; a thread that runs beside training must come to its end all the same."""
    w, x = wyrm.ParameterNode(0.0), wyrm.InputNode((1, 1))
    counted = [0]

    def count() -> None:
        for _ in range(20):
            counted[0] += 1
            time.sleep(0.001)

    thread = Thread(target=count)
    thread.start()
    wyrm.fit(w * x, {x: np.ones(500)}, SGD(1.0, [w]), backend=context.backend)
    thread.join()
    context.compare("the parameter", w.value, np.full((1, 1), -500.0), 0)
    context.require("the other thread has counted to 20", counted[0] == 20)
