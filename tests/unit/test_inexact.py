"""Cells that are rounded or withheld: what is published of a count, and reconstruction within the intervals."""

from functools import cache

import numpy as np
import pytest

from dbrecon.errors import InputError
from dbrecon.recon.census.bins import derive_binning
from dbrecon.recon.census.inexact import SUPPRESSED, Inexact
from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.census.subset import restricted
from dbrecon.recon.census.tables import Product, load_product
from dbrecon.recon.certainty.search import Budget
from dbrecon.recon.certainty.tract_certainty import certainty
from dbrecon.recon.product.coverage import coverage
from dbrecon.recon.solve.conflict import find_conflict, format_ilp
from dbrecon.recon.solve.lp_reader import read_lp
from dbrecon.recon.solve.program import Infeasible, NamedProgram, Options, Program
from dbrecon.recon.solve.solvers import solve
from dbrecon.recon.tract.county_tables import CountyFile, CountyTables
from dbrecon.recon.tract.lp_text import format_lp, model_names
from dbrecon.recon.tract.model import ModelBuilder, TractTables
from dbrecon.recon.tract.reconstruct import Reconstructor
from dbrecon.recon.tract.verify import tabulate, violations
from tests.helpers import counts_of, random_people, tables_of

WAYS = (
    Inexact(5),
    Inexact(4),
    Inexact(10, "either"),
    Inexact(suppressed_below=3),
    Inexact(3, suppressed_below=5),
    Inexact(5, "either", 4),
)


@pytest.mark.parametrize("how", WAYS, ids=str)
def test_a_count_lies_within_the_interval_of_what_is_published_of_it(how: Inexact) -> None:
    counts = np.tile(np.arange(80), 50)
    published = how.publish(counts, np.random.default_rng(1))
    least, most = how.interval(published)
    assert ((least <= counts) & (counts <= most)).all()
    assert not how.impossible(published).any()
    assert (published[counts == 0] == 0).all()


@pytest.mark.parametrize("how", [way for way in WAYS if way.rounding == "nearest"], ids=str)
def test_every_count_of_an_interval_is_published_so(how: Inexact) -> None:
    for value in {int(value) for value in how.publish(np.arange(80))}:
        least, most = (int(end) for end in how.interval(np.array(value)))
        publishes = [count for count in range(100) if int(how.publish(np.array(count))) == value]
        assert (publishes[0], publishes[-1]) == (least, most)


def test_rounding_at_random_keeps_the_mean() -> None:
    shown = Inexact(5, "either").publish(np.full(20_000, 12), np.random.default_rng(3))
    assert set(shown.tolist()) == {10, 15}
    assert abs(shown.mean() - 12) < 0.1


@pytest.mark.parametrize("how", [{"rounded_to": 0}, {"rounded_to": 2.5}, {"suppressed_below": 1}, {"rounding": "up"}])
def test_what_is_no_rounding_is_refused(how: dict[str, int]) -> None:
    with pytest.raises(InputError, match=r"rounded_to is a whole number|rounding 'up' is not known"):
        Inexact(**how)  # type: ignore[arg-type]


HOW = {f"P12{letter}": Inexact(5) for letter in "ABCDEFGHI"} | {"P14": Inexact(suppressed_below=3)}
HOW |= {"PCT12": Inexact(3), "PCT12H": Inexact(10, "either", 5)}


@cache
def product() -> Product:
    return restricted(load_product(), inexact=HOW)


@cache
def reconstructor() -> Reconstructor:
    return Reconstructor(product())


def published(exact: TractTables) -> TractTables:
    rng = np.random.default_rng(8)
    cells = (product().publish("block", exact.block_cells, rng), product().publish("tract", exact.tract_cells, rng))
    return TractTables(exact.geoid, exact.blocks, *cells)


PEOPLE = random_people(8, blocks=6, people=300, kinds=80)


@cache
def inexact_tables() -> TractTables:
    """Return the tables as they are published. Made when a test asks, not whenever the module is collected."""
    return published(tables_of(load_product(), PEOPLE))


@pytest.mark.slow
def test_exact_cells_follow_from_constraints_and_inexact_ones_become_ranges() -> None:
    for level in ("block", "tract"):
        found = coverage(product(), level)
        assert found.missing == ()
        assert found.cells == sum(len(t.cells) for t in product().tables_of(level) if t.name not in HOW)
        named = {label for constraint in product().ranges if constraint.level == level for label in constraint.labels}
        assert named == {name for t in product().tables_of(level) if t.name in HOW for name in t.cell_names}
    used = {constraint.partition.name.split("-")[0] for constraint in product().constraints}
    assert not used & set(HOW)


@pytest.mark.slow
def test_no_zero_of_a_rounded_cell_rules_anybody_out() -> None:
    """Of whom a cell rounded to 0 counts there may be two: the truth has a variable for everybody."""
    model = ModelBuilder(product()).build(inexact_tables())
    true = counts_of(model.block, model.kind, inexact_tables().blocks, PEOPLE)
    assert true is not None
    exact_zeros = ModelBuilder(load_product()).build(TractTables(inexact_tables().geoid, inexact_tables().blocks, *_as_if_exact()))
    assert model.n_variables > exact_zeros.n_variables


def _as_if_exact() -> tuple[IntArray, IntArray]:
    exact = tables_of(load_product(), PEOPLE)
    return exact.block_cells, exact.tract_cells


@pytest.mark.slow
def test_ages_are_not_merged_by_what_is_rounded() -> None:
    """Single years of adults are published exactly by race and origin, or the years stay single."""
    assert derive_binning(product()).bins.n == derive_binning(load_product()).bins.n
    rounded = restricted(load_product(), inexact={f"PCT12{letter}": Inexact(5) for letter in ["", *"ABCDEFGHIJKLMNO"]})
    assert derive_binning(rounded).bins.single


def test_people_meet_every_cell_within_its_interval() -> None:
    found = reconstructor().reconstruct(inexact_tables(), Options(objective="spread"))
    at = np.searchsorted(inexact_tables().blocks, found.people.geoid_block % 10_000)
    made = tabulate(product(), len(inexact_tables().blocks), at, found.people.kind, found.people.count)
    differ = 0
    for level, shown, counted in (
        ("block", inexact_tables().block_cells, made[0]),
        ("tract", inexact_tables().tract_cells, made[1]),
    ):
        columns = [(t, n) for t in product().tables_of(level) for n in range(len(t.cells))]
        for i, (table, _) in enumerate(columns):
            least, most = table.inexact.interval(shown[..., i]) if table.inexact else (shown[..., i], shown[..., i])
            assert ((least <= counted[..., i]) & (counted[..., i] <= most)).all(), table.name
        differ += int((shown != counted).sum())
    assert differ > 0  # else nothing was inexact
    assert (inexact_tables().block_cells == SUPPRESSED).any()


def test_the_lp_text_is_the_program() -> None:
    model = reconstructor().builder.build(inexact_tables())
    text = format_lp(model, inexact_tables().population, "p", "all")
    read = read_lp(text, "model.lp")
    wanted = Program.of_model(model)
    assert list(read.constraints) == [model.row_name(row) for row in range(model.n_constraints)]
    assert len(set(read.constraints)) == model.n_constraints
    assert np.array_equal(read.program.matrix().toarray(), wanted.matrix().toarray())
    assert (read.program.lower == wanted.lower).all()
    assert (read.program.upper == wanted.upper).all()
    options = Options(objective="spread")
    assert (solve(wanted, options, "memory").values == solve(read.program, options, "text").values).all()


def test_a_cell_outside_of_its_interval_is_named_with_it() -> None:
    people = [(block, kind) for block, kind in PEOPLE if block != 1000]
    at = np.searchsorted(inexact_tables().blocks, [block for block, _ in people])
    found = violations(product(), inexact_tables(), at, np.array([kind for _, kind in people]), np.ones(len(people), np.int64))
    assert any("(from" in str(item) for item in found)


def test_a_contradiction_is_explained() -> None:
    cells = inexact_tables().block_cells.copy()
    white = product().columns("block").index("P012A001")
    cells[0, white] = 5 * (int(inexact_tables().block_cells[0, 0]) // 5 + 3)  # more white people than people
    wrong = TractTables(inexact_tables().geoid, inexact_tables().blocks, cells, inexact_tables().tract_cells)
    model = reconstructor().builder.build(wrong)
    with pytest.raises(Infeasible):
        solve(Program.of_model(model), Options(), "a tract")
    conflict = find_conflict(Program.of_model(model), 30)
    names = {model.row_name(row) for row in conflict.rows.tolist()}
    assert "P012A001_1000" in names
    variables = tuple(name.decode() for name in model_names(model).tolist())
    named = NamedProgram(Program.of_model(model), variables, tuple(model.row_name(row) for row in range(model.n_constraints)))
    assert b"P012A001_1000: " in format_ilp(named, conflict, ())


def test_certainty_is_not_available() -> None:
    found = reconstructor().reconstruct(inexact_tables(), Options())
    with pytest.raises(InputError, match="certainty is not available where cells are rounded or withheld"):
        certainty(found.model, found.values, Budget())


def county(change: tuple[str, str] = ("", "")) -> CountyTables:
    """A county's files, in which a withheld cell is -1."""
    texts = {}
    for level, ids, rows in (
        (
            "block",
            [f"{inexact_tables().geoid}{number:04d}" for number in inexact_tables().blocks.tolist()],
            inexact_tables().block_cells,
        ),
        ("tract", [inexact_tables().geoid], inexact_tables().tract_cells[None, :]),
    ):
        lines = [f"geoid_{level},logrecno,{','.join(product().columns(level))}"]
        lines += [f"{geoid},1,{','.join(map(str, row))}" for geoid, row in zip(ids, rows.tolist(), strict=True)]
        texts[level] = ("\n".join(lines) + "\n").replace(*change) if change[0] else "\n".join(lines) + "\n"
    files = {level: CountyFile(text.encode(), f"{level}.csv") for level, text in texts.items()}
    return CountyTables(product(), inexact_tables().geoid[:5], files["block"], files["tract"])


def test_county_files_hold_withheld_cells() -> None:
    found = county().tract(inexact_tables().geoid[5:])
    assert (found.block_cells == inexact_tables().block_cells).all()
    assert (found.tract_cells == inexact_tables().tract_cells).all()


def test_a_cell_that_rounding_does_not_give_is_refused_by_name() -> None:
    total = int(inexact_tables().block_cells[0, 0])
    with pytest.raises(InputError, match=r"block.csv: P0010001 of block 100010001001000 is -1, but P1 is exact"):
        county((f"1000,1,{total},", "1000,1,-1,")).tract(inexact_tables().geoid[5:])


def test_the_first_block_table_must_be_exact() -> None:
    with pytest.raises(InputError, match="P1, the first block table that is used, must count everyone, exactly"):
        restricted(load_product(), inexact={"P1": Inexact(5)})
