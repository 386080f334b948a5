"""A tract's people from its published tables: build the program, solve it, check the answer, give out years, check every cell."""

from dataclasses import dataclass
from functools import cached_property

from dbrecon.recon.census.bins import SINGLE_AGES, Binning, derive_binning
from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.census.tables import Product
from dbrecon.recon.people.people import People
from dbrecon.recon.people.years import deal_years
from dbrecon.recon.solve.program import Options, Program
from dbrecon.recon.solve.solvers import solve
from dbrecon.recon.tract.model import Model, ModelBuilder, TractTables
from dbrecon.recon.tract.verify import check_answer, people_of, verify


@dataclass(frozen=True)
class Reconstruction:
    """A tract's people, with single years; the program and its answer (variables,); the solver's name and version."""

    people: People
    model: Model
    values: IntArray
    solver: str


class Reconstructor:
    """Reconstructs tracts of one product. Make it once a process; what it does is a pure function of tables and options."""

    def __init__(self, product: Product, single_ages: bool = False) -> None:
        """With ``single_ages`` the program counts each age by itself, else the ages of a bin together."""
        self.product = product
        self._single_ages = single_ages

    @cached_property
    def binning(self) -> Binning:
        """The product's age bins, and what its tract tables tell of the years within them."""
        return derive_binning(self.product)

    @cached_property
    def builder(self) -> ModelBuilder:
        """What makes the programs."""
        return ModelBuilder(self.product, SINGLE_AGES if self._single_ages else self.binning.bins)

    def reconstruct(self, tables: TractTables, options: Options) -> Reconstruction:
        """Find people who make every published cell.

        Raises Infeasible or InputError where no people can, TimeLimit, LicenceError or SolverError as the solver does,
        VerificationError if its answer is wrong.
        """
        what = f"tract {tables.geoid}"
        model = self.builder.build(tables)
        answer = solve(Program.of_model(model), options, what)
        check_answer(model, answer.values)
        people = deal_years(people_of(model, answer.values), self.binning, tables.tract_cells, options.seed, what)
        verify(self.product, tables, people)
        return Reconstruction(people, model, answer.values, answer.solver)
