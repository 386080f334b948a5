"""Whether a folder is a product: what its files say holds together, and a random state goes through all steps."""

from __future__ import annotations

import contextlib
import io
import resource
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dbrecon.console.parser import Arguments
from dbrecon.console.products import LEVELS, prove
from dbrecon.ctools.progress import counted
from dbrecon.errors import InputError
from dbrecon.settings import Config

if TYPE_CHECKING:
    from dbrecon.experiment import Experiment
    from dbrecon.ledger.ledger import Ledger
    from dbrecon.recon.census.tables import Product, Table
    from dbrecon.recon.product.release import Release

PEOPLE = 1000
STUSAB = "de"
LABELS = "labels.csv"


def check_product(args: Arguments, config: Config) -> int:
    """Prove a product: print what holds; InputError for the first thing that does not."""
    from dbrecon.recon.census.bins import comparison_bins, derive_binning
    from dbrecon.recon.census.tables import load_product
    from dbrecon.recon.product.release import load_release

    release = load_release(args.check_product)
    product = load_product(release.tables_path)
    if product.name != release.product:
        raise InputError(
            f"{release.folder}: tables.toml is of {product.name!r}, but product.toml of {release.product!r}; let both have one name"
        )
    _check_name(release)
    print(f"{release.folder}: {release.title}, {counted(len(product.tables), 'table')}", flush=True)
    _check_places(release, product)
    _check_outlines(release, product)
    _tell_categories(product)
    _check_words(release, product)
    prove(product, str(release.folder))
    bins = derive_binning(product).bins.n, comparison_bins(product).n
    print(f"   programs count {bins[0]} bins of ages; people are compared in {bins[1]}", flush=True)
    _check_state(release, product, config)
    return 0


def _check_name(release: Release) -> None:
    """Refuse a folder of one's own with a shipped product's name: files of its experiments say by it what they are of."""
    from dbrecon.recon.product.release import PRODUCTS, load_release, shipped

    taken = release.product in (load_release(name).product for name in shipped())
    if taken and PRODUCTS not in release.folder.resolve().parents:
        raise InputError(
            f"{release.folder}: product {release.product!r} is one that comes with the program; give this one another name"
        )


def _tell_categories(product: Product) -> None:
    """Say which categories of people there are, where they are not all kinds; every group is told from the others somewhere."""
    from dbrecon.recon.people.attributes import NOT_TOLD, attributes_of

    categories = product.categories
    attributes = attributes_of(product)
    if attributes is None or categories.every_kind:
        return
    for name, group in zip(categories.group_of, attributes.groups, strict=True):
        if group == NOT_TOLD:
            raise InputError(
                f"{product.title}: no table tells the race group {name!r} from all others; put it together with another in "
                "[categories.race] of tables.toml"
            )
    absent = [f"no {word}" for word, known in (("sex", categories.sex), ("origin", categories.origin)) if not known]
    groups = [f"race groups {', '.join(categories.groups)}"] if categories.groups else []
    print(f"   categories: {'; '.join([*groups, *absent])}", flush=True)


def _check_places(release: Release, product: Product) -> None:
    """Every table lies where its segment has it."""
    from dbrecon.recon.product.county_rows import LevelPlan

    for level in LEVELS:
        plan = LevelPlan([table for table in release.tables if table.level == level], release)
        if plan.columns != product.columns(level):
            raise InputError(f"{release.folder}: the {level} tables' cells are not those of their segments")
    print(f"   header: {len(release.header.levels)} summary levels; every table lies where its segment has it", flush=True)


def _check_outlines(release: Release, product: Product) -> None:
    """Parts lie within their whole and leave nobody out; every cell counts somebody; everyone is counted first."""
    first = next((table for table in product.tables if table.level == "block"), None)
    if first is None or not first.counts_everyone or first.inexact is not None:
        raise InputError(
            f"{release.tables_path}: the first block table must count everyone, exactly: it tells how many people a block has"
        )
    sums = 0
    for table in product.tables:
        for i, cell in enumerate(table.cells):
            name = f"{table.cell_names[i]} of {table.name}"
            if not (cell.box.sa.size and cell.box.rh.size):
                raise InputError(f"{release.tables_path}: {name} counts nobody: its selectors leave no kind of person")
            if cell.parts:
                sums += 1
                _check_parts(table, i, f"{release.tables_path}: {name}")
    print(f"   {sums:,} cells are the sums of their parts, which lie within them and leave nobody out", flush=True)


def _check_parts(table: Table, i: int, where: str) -> None:
    import numpy as np

    whole, parts = table.cells[i].box, [table.cells[part].box for part in table.cells[i].parts]
    for side in ("sex", "age", "race", "hisp"):
        for number, part in zip(table.cells[i].parts, parts, strict=True):
            if (getattr(part, side) & ~getattr(whole, side)).any():
                raise InputError(f"{where}: its part {table.cell_names[number]} counts people that it does not count, by {side}")
    covered = np.zeros((206, 126), bool)
    for part in parts:
        covered[np.ix_(part.sa, part.rh)] = True
    if not covered[np.ix_(whole.sa, whole.rh)].all():
        raise InputError(f"{where} counts people whom none of its parts counts: a cell that has parts is their sum")


def _check_words(release: Release, product: Product) -> None:
    """Check that the published labels agree with what cells count, where the folder has them."""
    from dbrecon.recon.product.published_labels import check_labels

    path = release.folder / LABELS
    if not path.is_file():
        print(f"   no {LABELS} there: that cells count what their labels say is not checked", flush=True)
        return
    found = check_labels(product, path)
    silent = f"; {found.silent:,} labels tell nothing" if found.silent else ""
    print(f"   labels: those of {found.agree:,} cells say what these count{silent}", flush=True)


def _check_state(release: Release, product: Product, config: Config) -> None:
    """Write, read, solve and count again a random state, in a folder of its own that is removed afterwards."""
    from dbrecon.ctools.database import make_engine
    from dbrecon.experiment import Experiment
    from dbrecon.ledger.ledger import Ledger
    from dbrecon.node.daemon import run_here, steps_of
    from dbrecon.place import EVERYWHERE
    from dbrecon.steps.county_files import make_county_files
    from dbrecon.steps.geography_files import make_geo_files

    with tempfile.TemporaryDirectory(prefix="dbrecon-product-") as folder:
        own = Config.load(env={"DAS_S3ROOT": folder})
        own = replace(own, solve=config.solve, run=config.run)
        experiment = Experiment.make("checked", own, product=str(release.folder.resolve()))
        _write_state(experiment)
        ledger = Ledger(make_engine(**own.database()))
        ledger.register("checked", "all", experiment.product)
        make_geo_files(experiment, ledger, STUSAB)
        make_county_files(experiment, ledger, STUSAB)
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            code = run_here(ledger, own, "checked", EVERYWHERE, steps_of(step3=False, step4=False))
        if code:
            raise InputError(f"{release.folder}: a random state does not go through all steps: {' '.join(said.getvalue().split())}")
        _tell_sizes(experiment, ledger, product)


def _write_state(experiment: Experiment) -> None:
    from dbrecon.recon.product.writer import write_state_zip
    from dbrecon.recon.study.synthetic import make_counties, plan_state

    path = Path(experiment.dist_zip(STUSAB))
    path.parent.mkdir(parents=True)
    plan = plan_state(STUSAB, "10", PEOPLE, seed=1, counties=1)
    write_state_zip(path, STUSAB, plan.state, make_counties(plan), experiment.release)


def _tell_sizes(experiment: Experiment, ledger: Ledger, product: Product) -> None:
    from dbrecon.steps.lp_files import AS_THEY_ARE, read_county
    from dbrecon.steps.methods import builder_of

    county = ledger.counties("checked", STUSAB)[0]
    tables = read_county(experiment, product, STUSAB, county, AS_THEY_ARE)
    tracts = [state.tract for state in ledger.tract_states("checked", STUSAB, county) if state.pop]
    models = [builder_of(experiment).build(tables.tract(tract)) for tract in tracts]
    sizes = [sum(getattr(model, name) for model in models) for name in ("n_variables", "n_constraints", "n_nonzeros")]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(
        f"   a random state of {PEOPLE:,} people goes through all steps and meets every cell: {sizes[0]:,} variables, {sizes[1]:,} "
        f"constraints, {sizes[2]:,} coefficients; this check took {peak} MiB",
        flush=True,
    )
