"""CP-SAT that Ctrl-C stops: Python sees a signal only where its main thread runs Python."""

from __future__ import annotations

import threading

from ortools.sat.python import cp_model

_AGAIN_S = 0.05
"""A search that has not begun yet cannot be stopped: it is asked again."""


def solve(solver: cp_model.CpSolver, model: cp_model.CpModel) -> cp_model.CpSolverStatus:
    """`solver.solve(model)` in a thread; KeyboardInterrupt ends the search and goes on."""
    status: list[cp_model.CpSolverStatus] = []
    failed: list[BaseException] = []

    def search() -> None:
        try:
            status.append(solver.solve(model))
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=search, name="cp-sat", daemon=True)
    try:
        thread.start()
        thread.join()
    except KeyboardInterrupt:
        while thread.is_alive():
            solver.stop_search()
            thread.join(_AGAIN_S)
        raise
    if failed:
        raise failed[0]
    return status[0]
