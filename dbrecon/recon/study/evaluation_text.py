"""An evaluation on one screen."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from dbrecon.recon.census.inexact import SUPPRESSED
from dbrecon.recon.study.evaluation import MEASURES, METHODS, Evaluation, Violations, listed, with_all

Names = Mapping[str, str]


def format_report(result: Evaluation, names: Names = MappingProxyType({})) -> str:
    """Return the evaluation on one screen, at most 80 columns wide but for names; ``names`` are those of counties, by SSCCC."""
    if not result.compared:
        people = _number(result.people, "reconstructed person", "reconstructed people")
        counties = _number(len(result.without_truth), "county", "counties")
        return "\n".join([f"{people} of {counties}, without a truth", *_violation_lines(result, names)]) + "\n"
    agreement = result.agreement
    true_people = _number(int(agreement.truth.sum()), "true person", "true people")
    binned = f"{result.bins.n} bins"
    lines = [
        f"Evaluation against {result.truth_name}",
        f"  {_number(len(result.compared), 'county', 'counties')}, {true_people}, {result.people:,} reconstructed",
        *_violation_lines(result, names),
        "",
        f"True people matched on {{{result.by}}}, %",
        f"  {'':26}{'reconstruction':>16}{'modal race':>17}{'random people':>17}",
        f"  {'block size':10}{'blocks':>7}{'people':>11}" + f"{'exact':>7}{binned:>9}" + f"{'exact':>8}{binned:>9}" * 2,
    ]
    columns = [
        with_all(agreement.matched[i, j], agreement.truth if agreement.known(method) else 0 * agreement.truth)
        for i, method in enumerate(METHODS)
        for j in range(len(MEASURES))
    ]
    blocks = with_all(agreement.blocks, agreement.truth)
    for row, (label, n_blocks, truth) in enumerate(blocks):
        shares = [_percent(column[row][1], column[row][2]) for column in columns]
        cells = "".join(f"{share:>{width}}" for share, width in zip(shares, (7, 9, 8, 9, 8, 9), strict=True))
        lines.append(f"  {label:10}{n_blocks:>7,}{truth:>11,}{cells}")
    known = "know published counts alone" if agreement.baselines else "are not available on these tables"
    lines += [f"Ages of 100 and over are compared as 100-104, 105-109, 110+; baselines {known}."]
    if "tract" not in result.violations:
        lines += ["No table here tells single years of adults: theirs are spread evenly over age groups, and carry no information."]
    if result.left_out:
        lines.append(
            f"Left out: {sum(result.left_out.values()):,} true people of {_number(len(result.left_out), 'county', 'counties')} "
            f"not reconstructed: {_counties(result.left_out, names)}"
        )
    if result.without_truth:
        n = _number(len(result.without_truth), "reconstructed county", "reconstructed counties")
        lines.append(f"Not compared, the truth has nobody there: {n}: {_counties(result.without_truth, names)}")
    return "\n".join(lines) + "\n"


def _counties(codes: Iterable[str], names: Names) -> str:
    return listed([f"{code} ({names[code]})" if names.get(code) else code for code in codes])


def _violation_lines(result: Evaluation, names: Names) -> list[str]:
    violations, inexact = result.violations, result.inexact
    total = sum(violations.values(), Violations())
    by_level = ", ".join(f"{level} tables {v.wrong:,} of {v.cells:,}" for level, v in violations.items())
    lines = [f"  published cells not reproduced: {total.wrong:,} of {total.cells:,} ({by_level})"]
    if inexact:
        lines.append(f"    cells of {listed(list(inexact))} are rounded or withheld: any count of their interval reproduces them")
    for cell in total.examples:
        shown = "withheld" if cell.published == SUPPRESSED else f"published {cell.published:,}"
        county = f" in {names[cell.geoid[:5]]}" if names.get(cell.geoid[:5]) else ""
        lines.append(f"    {cell.cell} of {cell.geoid}{county}: {shown}, reconstructed {cell.reconstructed:,}")
    return lines


def _number(n: int, singular: str, plural: str) -> str:
    return f"{n:,} {singular if n == 1 else plural}"


def _percent(part: int, whole: int) -> str:
    """With one decimal; never rounded up to 100 or down to 0."""
    if not whole:
        return "-"
    share = 1000 * part / whole
    tenths = min(round(share), 999) if part < whole else 1000
    return f"{max(tenths, 1) / 10:.1f}" if part else "0.0"
