"""Solving integer programs with HiGHS or Gurobi, behind one function.

The answer is a pure function of the program, the solver's version and the seed: one thread, no clock in the search.
"""

from dbrecon.errors import UsageError
from dbrecon.recon.solve.gurobi import gurobi_allows, solve_gurobi
from dbrecon.recon.solve.highs import solve_highs
from dbrecon.recon.solve.program import Answer, Options, Program

SOLVERS = ("auto", "highs", "gurobi")


def solve(program: Program, options: Options, what: str) -> Answer:
    """Solve a program; ``what`` names it in errors ("tract 39059977100").

    Raises Infeasible, TimeLimit, LicenceError, or SolverError for any other end than a solution.
    """
    if options.solver not in SOLVERS:
        raise UsageError(f"{options.solver!r} is not a solver; take one of {', '.join(SOLVERS)}")
    if options.solver == "gurobi" or (options.solver == "auto" and gurobi_allows(program)):
        return solve_gurobi(program, options, what)
    return solve_highs(program, options, what)
