"""The experiment: its name, and where every artifact lies.

Nothing here opens a file or a database. An ``Experiment`` is passed on and can be pickled, so that a worker process or a Spark
executor gets exactly what its parent has.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dbrecon.errors import UsageError
from dbrecon.settings import Config, normal_root
from dbrecon.states import STATES

if TYPE_CHECKING:
    from dbrecon.recon.product.release import Release

DEFAULT_PRODUCT = "2010_sf1"
TABLE_CHOICES = ("all", "block")
TABLE_WORDS = re.compile(r"(all|block|tract)(-\w+)*|\w+(,\w+)*")
AGE_CHOICES = ("bins", "single")
CELL_KINDS = ("csv", "parquet")
"""How certainty's cells may be written; a county has them in one of these."""

# A MySQL table name has at most 64 characters, and REIDENT is the prefix of each (the longest suffix is "_counties").
MAX_REIDENT = 40


def check_reident(text: str) -> str:
    """Return ``text`` if it can name an experiment, else UsageError: it becomes a folder and the prefix of SQL table names."""
    rule = f"a REIDENT begins with a letter and has letters, digits and underscores only, at most {MAX_REIDENT}"
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", text):
        raise UsageError(f"{text!r} cannot name an experiment: {rule}.")
    if len(text) > MAX_REIDENT:
        raise UsageError(f"{text!r} has {len(text)} characters, too many to name an experiment: {rule}.")
    if f"{text}_".lower().startswith("sqlite_"):
        raise UsageError(f"{text!r} cannot name an experiment: SQLite keeps table names that begin with sqlite_ for itself.")
    return text


@dataclass(frozen=True)
class Experiment:
    """One reconstruction: its name, its root, which tables it uses, its settings. Says where each artifact lies.

    ``tables`` are the words that ``--tables`` takes ("all", say). ``ages`` says what its programs count: "bins" of ages where years
    may be given out afterwards, or "single" ages throughout; ``product`` which release it is of. In the methods ``stusab`` is lower
    case, ``county`` is CCC and ``tract`` is TTTTTT.
    """

    reident: str
    root: str
    tables: str
    config: Config
    ages: str = "bins"
    product: str = DEFAULT_PRODUCT

    def __post_init__(self) -> None:
        """Check the name, the root, ``tables`` and ``ages``; UsageError."""
        check_reident(self.reident)
        object.__setattr__(self, "root", normal_root(self.root))
        if not TABLE_WORDS.fullmatch(self.tables):
            raise UsageError(f"{self.tables!r}: tables are all, block, all but some (all-P8-P10), or a list (P1,P12).")
        if self.ages not in AGE_CHOICES:
            raise UsageError(f"{self.ages!r}: an experiment's ages are one of {', '.join(AGE_CHOICES)}.")

    @classmethod
    def make(
        cls, reident: str, config: Config, tables: str = "all", ages: str = "bins", product: str = DEFAULT_PRODUCT
    ) -> Experiment:
        """Return the experiment of that name under the root that ``config`` names."""
        return cls(reident, config.root(), tables, config, ages, product)

    @property
    def base(self) -> str:
        """The experiment's own folder or prefix."""
        return f"{self.root}/{self.release.prefix}/{self.reident}"

    @property
    def release(self) -> Release:
        """How the product's tables lie in files. Raises UsageError if there is no such product."""
        from dbrecon.recon.product.release import load_release  # here, since most commands need no files

        return load_release(self.product)

    @property
    def tables_path(self) -> str:
        """The file that says what each cell of the product's tables counts."""
        return str(self.release.tables_path)

    @property
    def kms_key(self) -> str | None:
        """The KMS key with which S3 shall encrypt what is written; None is the bucket's own default."""
        key: str | None = self.config.s3.kms_key
        return key

    @property
    def dist(self) -> str:
        """The folder of the published zips."""
        return f"{self.base}/dist"

    def dist_zip(self, stusab: str) -> str:
        """Return the state's tables, as published."""
        return f"{self.dist}/{self.release.zip_of(stusab)}"

    def url(self, stusab: str) -> str:
        """Return where the state's zip is published. UsageError for an unknown state."""
        return self.config.zip_url(stusab, self.release.url, self.release.zip_of(stusab))

    def geofile(self, stusab: str) -> str:
        """Return the state's geography (step 1)."""
        return f"{self.base}/work/{stusab}/geofile_{stusab}.csv"

    def county_dir(self, stusab: str, county: str) -> str:
        """Return the folder of everything about a county."""
        return f"{self.base}/work/{stusab}/{STATES[stusab].fips}{county}"

    def block_csv(self, stusab: str, county: str) -> str:
        """Return the county's block tables (step 2)."""
        return self._named(f"{self.release.county_files}_block", ".csv", stusab, county)

    def tract_csv(self, stusab: str, county: str) -> str:
        """Return the county's tract tables (step 2)."""
        return self._named(f"{self.release.county_files}_tract", ".csv", stusab, county)

    def lp(self, stusab: str, county: str, tract: str) -> str:
        """Return the tract's integer program (step 3)."""
        return self._named("lp/model", ".lp.gz", stusab, county, tract)

    def ilp(self, stusab: str, county: str, tract: str) -> str:
        """Return the conflicting constraints of an infeasible tract (step 4), beside its LP."""
        return self._named("lp/model", ".ilp", stusab, county, tract)

    def sol(self, stusab: str, county: str, tract: str) -> str:
        """Return the tract's solution (step 4)."""
        return self._named("sol/model", ".sol.gz", stusab, county, tract)

    def certainty(self, stusab: str, county: str) -> str:
        """Return how sure the people of each block of the county are (step 6)."""
        return self._named("certainty", ".csv", stusab, county)

    def certainty_sidecar(self, stusab: str, county: str) -> str:
        """Return what the county's certainty was made of; written last."""
        return self._named("certainty", ".json", stusab, county)

    def certainty_cells(self, stusab: str, county: str, kind: str = "csv") -> str:
        """Return the least and the most of each count that is filled or may vary (on request), "csv" or "parquet"."""
        return self._named("certainty_cells", f".{kind}", stusab, county)

    def people_certainty(self, stusab: str, county: str) -> str:
        """Return who of the county's people is certain, line for line beside them."""
        return self._named("people_certainty", ".csv", stusab, county)

    def certainty_record(self, stusab: str, county: str, tract: str) -> str:
        """Return a tract's certainty, of which the county's files are made."""
        return self._named("certainty/tract", ".json.gz", stusab, county, tract)

    def samples_record(self, stusab: str, county: str, tract: str) -> str:
        """Return what a tract's samples tell (on request)."""
        return self._named("certainty/samples", ".json.gz", stusab, county, tract)

    def samples(self, stusab: str, county: str, tract: str) -> str:
        """Return a tract's samples themselves (on request)."""
        return self._named("samples/tract", ".parquet", stusab, county, tract)

    def sample_blocks(self, stusab: str, county: str) -> str:
        """Return how far samples of the county are from one another, by block (with samples)."""
        return self._named("sample_blocks", ".csv", stusab, county)

    def sample_cells(self, stusab: str, county: str, kind: str = "csv") -> str:
        """Return the same by count, of those that differ (with samples and cells), "csv" or "parquet"."""
        return self._named("sample_cells", f".{kind}", stusab, county)

    def evaluation(self, stusab: str, county: str) -> str:
        """Return what --evaluate has last found of the county."""
        return self._named("evaluation", ".json", stusab, county)

    def synth_out(self, stusab: str, county: str) -> str:
        """Return the county's people (step 5)."""
        return self._named("synth_out", ".csv", stusab, county)

    def _named(self, stem: str, ending: str, stusab: str, county: str, tract: str = "") -> str:
        """Return the path of a file of a county, or of one of its tracts, which has their FIPS codes in its name."""
        return f"{self.county_dir(stusab, county)}/{stem}_{STATES[stusab].fips}{county}{tract}{ending}"
