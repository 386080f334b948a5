"""The settings: what there are, and their values on this host.

Nothing here opens a file of an experiment or a database. A script makes a ``Config`` and passes it on; it can be pickled, so that
a worker process or a Spark executor gets exactly what its parent has.
"""

from __future__ import annotations

import configparser
import difflib
import os
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypedDict, TypeVar, cast

from dbrecon.errors import UsageError
from dbrecon.paths import CONFIG, HOME, local_path
from dbrecon.states import STATES, check_stusab

DEFAULT_CONFIG = str(CONFIG / "config.ini")


T = TypeVar("T")

YEAR = 31_536_000
"""What a setting of seconds may be at the most: the system's timers take no more than some centuries."""


@dataclass(frozen=True)
class Description:
    """What is known of a setting beside its name and type.

    ``default`` is its text as it would stand in the file; ``path``: a local path, relative to this checkout unless absolute.
    """

    default: str
    help: str
    path: bool = False
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    secret: bool = False


def setting(
    default: T,
    help: str,
    *,
    variable: str = "",
    path: bool = False,
    choices: tuple[str, ...] = (),
    minimum: float | None = None,
    maximum: float | None = None,
    secret: bool = False,
) -> T:
    """Declare a field of a section: its default, one line of help, its limits. A secret is shown by no ``repr``.

    With ``variable`` the default is what that environment variable holds; ``default`` is then what holds without it.
    """
    text = f"${variable}" if variable else "" if default is None else f"{default:g}" if isinstance(default, float) else str(default)
    description = Description(text, help, path, choices, minimum, maximum, secret)
    value = os.path.join(HOME, default) if path and isinstance(default, str) else default
    return cast("T", field(default=value, repr=not secret, metadata={"description": description}))


@dataclass(frozen=True)
class PathsSettings:
    """``[paths]``: where things lie."""

    root: str | None = setting(None, "Where all experiments lie: a folder or `s3://bucket/prefix`.", variable="DAS_S3ROOT")


@dataclass(frozen=True)
class S3Settings:
    """``[s3]``: storage on S3."""

    kms_key: str | None = setting(
        None, "On S3: encrypt what is written with this KMS key (id, ARN or alias); not set means as the bucket does."
    )


@dataclass(frozen=True)
class DatabaseSettings:
    """``[db]``: the database."""

    mysql_host: str | None = setting(
        None, "MySQL or MariaDB server: a name, an address, or its socket's path; not set means SQLite.", variable="MYSQL_HOST"
    )
    mysql_port: int | None = setting(None, "Its TCP port; not set means 3306.", variable="MYSQL_PORT", minimum=1, maximum=65535)
    mysql_database: str | None = setting(None, "The database on that server; it must exist.", variable="MYSQL_DATABASE")
    mysql_user: str | None = setting(None, "The user to connect as.", variable="MYSQL_USER")
    mysql_password: str | None = setting(None, "The user's password.", variable="MYSQL_PASSWORD", secret=True)
    ssl_ca: str | None = setting(
        None,
        "A file of authorities' certificates (PEM): the server's must be signed by one of them, and be for `mysql_host`.",
        variable="MYSQL_SSL_CA",
        path=True,
    )
    sqlite: str | None = setting(
        None,
        "The SQLite file where there is no MySQL; not set means `{root}/2010-re/dbrecon.sqlite3` under a local root.",
        path=True,
    )


@dataclass(frozen=True)
class Sf1Settings:
    """``[sf1]``: the census product."""

    url: str = setting(
        "",
        "Where step 0 finds a state's zip; not set means the product's own address. `{State_Name}`, `{st}` and `{zip}` are "
        "filled in (`North_Dakota`, `nd`, `nd2010.sf1.zip`).",
    )


@dataclass(frozen=True)
class RunSettings:
    """``[run]``: schedulers at work."""

    max_lp: int = setting(0, "Worker processes when step 3 is among the steps; 0: one a core.", minimum=0)
    max_sol: int = setting(0, "Worker processes when there is step 4 alone; 0: one a core.", minimum=0)
    claim_tracts: int = setting(8, "Tracts of one county that are claimed at once.", minimum=1)
    lease_seconds: int = setting(300, "How long a claim holds without a heartbeat.", minimum=2)
    heartbeat_seconds: int = setting(60, "How often a node extends its claims.", minimum=1)
    min_free_mib: int = setting(0, "MiB free below which no new tract starts; 0: a tenth, at most 4096.", minimum=0)
    stop_free_mib: int = setting(0, "MiB free below which the youngest worker is stopped; 0: half of it.", minimum=0)
    max_attempts: int = setting(3, "Failures after which a tract is quarantined.", minimum=1)
    retry_seconds: int = setting(2, "How long a tract or county that failed rests before its next attempt.", minimum=0)
    storage_wait: int = setting(
        600, "Seconds for which workers wait for storage that is away, credentials that have expired, a full disk.", minimum=0
    )

    def check(self, path: str) -> None:
        """Raise UsageError, naming the file ``path``, for values that do not fit one another."""
        lease, beat = self.lease_seconds, self.heartbeat_seconds
        if beat * 2 > lease:
            raise UsageError(
                f"{path}: [run] heartbeat_seconds ({beat}) must be at most half of lease_seconds ({lease}), "
                "or a claim could end between two heartbeats."
            )


@dataclass(frozen=True)
class SolveSettings:
    """``[solve]``: the solver."""

    solver: str = setting(
        "highs", "`auto` is Gurobi where its licence allows the model's size, else HiGHS.", choices=("auto", "highs", "gurobi")
    )
    seed: int = setting(
        0, "The seed of experiments registered from now on: the same gives the same people.", minimum=0, maximum=2_000_000_000
    )
    objective: str = setting(
        "spread",
        "`spread`: of all answers the one that spreads people most evenly over kinds; `none`: the first that is found.",
        choices=("spread", "none"),
    )
    time_limit: float = setting(3600.0, "Seconds after which a tract's solve is given up.", minimum=0.001)
    gurobi_token_wait: float = setting(600.0, "Seconds to wait for a Gurobi licence token.", minimum=0)


@dataclass(frozen=True)
class CertaintySettings:
    """``[certainty]``: the work that step 6 may do, in steps of the solver, so that its answers are the same on any machine."""

    tree_steps: int = setting(200_000, "Simplex steps that a proof for one block may take in our own tree.", minimum=1)
    mip_checks: int = setting(2000, "How far HiGHS's branch and cut may go for what the tree leaves; 0: not at all.", minimum=0)
    tract_steps: int = setting(2000000, "Simplex steps after which a tract's other blocks get bounds without a search.", minimum=0)


@dataclass(frozen=True)
class SparkSettings:
    """``[spark]``: spark (workflow 2)."""

    master: str = setting("local[*]", "Spark's master for `--spark`: `local[*]`, `spark://host:7077`, `yarn`.")
    python: str | None = setting(
        None, "Executors' Python (3.11 or newer), `local[*]`'s too; not set: the path of this one.", path=True
    )
    environment: str | None = setting(
        None, "Packages to ship to a cluster (`local[*]` takes none), from `--spark_pack`: a file or URI; not set: they are there."
    )
    executor_cores: int = setting(0, "Cores of a cluster's executor; 0: 1 on standalone masters, else 4.", minimum=0)
    executor_mib: int = setting(0, "MiB of a cluster's executor; 0: what the biggest tracts need.", minimum=0)
    event_log: str | None = setting(None, "Where Spark's event logs go, for its history server: a folder or URI.")


@dataclass(frozen=True)
class ClusterSettings:
    """``[cluster]``: the machines of a cluster."""

    hosts: str | None = setting(
        None, "The nodes, as `[user@]host[:port]`, with spaces or commas; not set means those of an EMR cluster."
    )
    emr_cluster_id: str | None = setting(
        None, "The EMR cluster; not set means the one this machine is in.", variable="EMR_CLUSTER_ID"
    )
    task_group: str | None = setting(None, "The TASK group that --resize changes, where there are several.")
    launch_core: str = setting("no", "Whether CORE nodes get schedulers too.", choices=("no", "yes"))
    repository: str | None = setting(None, "What --launch checks out on nodes; not set means this checkout's origin.")
    branch: str | None = setting(None, "Its branch or tag; not set means this checkout's branch.")
    folder: str = setting("dbrecon", "Where checkout, environments and outputs lie on a node, below its home.")
    venv: str | None = setting(
        None, "A Python environment that nodes have already, below the home directory; not set means that --launch makes one."
    )
    packages: str = setting(
        "pip",
        "Where a node that has none yet gets its packages: `pip`, there; `here`, carried by `--launch` from this machine where the "
        "node's Python is of the same minor version.",
        choices=("pip", "here"),
    )
    environment: str | None = setting(
        "AWS_* GRB_* GUROBI_HOME PIP_* *_PROXY *_proxy",
        "Variables that --launch hands on to nodes, beside `DAS_S3ROOT` and `MYSQL_...`.",
    )
    launch_seconds: float = setting(900.0, "How long a launch may take on a node.", minimum=1)
    ssh_user: str | None = setting(None, "The user on nodes; not set means `~/.ssh/config`'s, else yours.")
    ssh_config: str | None = setting("~/.ssh/config", "The settings of OpenSSH that count here too.")
    ssh_new_hosts: str = setting(
        "refuse",
        "`accept`: a host that is not in known_hosts is accepted and remembered, a changed key never; `refuse`: as ssh would.",
        choices=("refuse", "accept"),
    )
    ssh_seconds: float = setting(10.0, "How long a node may take to let us in, and to answer --cluster in all.", minimum=0.1)


@dataclass(frozen=True)
class SecretsSettings:
    """``[secrets]``: encrypted credentials."""

    file: str | None = setting(
        "config/dbrecon_config_encrypted.json.*",
        "The credentials that --encrypt_config encrypted; read where the environment names no database.",
        path=True,
    )
    kms_key: str | None = setting(
        None, "The KMS key for --encrypt_config: an id, an ARN or alias/NAME.", variable="DBRECON_KMS_KEY"
    )


@dataclass(frozen=True)
class DashboardSettings:
    """``[dashboard]``: the web page."""

    port: int = setting(8050, "The TCP port of --dashboard; 0: any free one.", minimum=0, maximum=65535)
    token: str | None = setting(
        None,
        "Who does not know it sees no dashboard; not set means that this machine alone does.",
        variable="DBRECON_DASHBOARD_TOKEN",
        secret=True,
    )
    names: str | None = setting(None, "Host names, with commas, by which a proxy asks where no token is set.")
    max_age: float = setting(5.0, "Seconds before the database is asked again for an answer.", minimum=0)


_VARIABLE = re.compile(r"\$(?:\$|\{(\w+)\}|(\w+))")


NO_ROOT = "There is no root folder: set DAS_S3ROOT to a folder or to s3://bucket/prefix."


class DatabaseArguments(TypedDict):
    """What ``dbrecon.ctools.database.make_engine`` takes. None where it is not set; ``sqlite_path`` is "" where MySQL is."""

    mysql_host: str | None
    mysql_database: str | None
    mysql_user: str | None
    mysql_password: str | None
    mysql_port: int | None
    mysql_ssl_ca: str | None
    sqlite_path: str


@dataclass(frozen=True, repr=False)
class Config:
    """The settings' values on this host, a field a section. ``Config.load(config.path)`` reads the file anew.

    ``path`` is the file they are from; ``given`` are those (section, name) that it sets for this host; ``no_root`` is what to say
    where the root is not set. Two are equal when every value is.
    """

    paths: PathsSettings = PathsSettings()
    s3: S3Settings = S3Settings()
    db: DatabaseSettings = DatabaseSettings()
    sf1: Sf1Settings = Sf1Settings()
    run: RunSettings = RunSettings()
    solve: SolveSettings = SolveSettings()
    certainty: CertaintySettings = CertaintySettings()
    spark: SparkSettings = SparkSettings()
    cluster: ClusterSettings = ClusterSettings()
    secrets: SecretsSettings = SecretsSettings()
    dashboard: DashboardSettings = DashboardSettings()
    path: str = field(default=DEFAULT_CONFIG, compare=False)
    given: frozenset[tuple[str, str]] = field(default=frozenset(), compare=False)
    no_root: str = field(default=NO_ROOT, compare=False)

    @classmethod
    def load(cls, path: str | None = None, env: Mapping[str, str] | None = None, hostname: str | None = None) -> Config:
        """Read ``path``, else the file that $DBRECON_CONFIG names, else config/config.ini of this checkout.

        In a value ``$NAME`` and ``${NAME}`` stand for environment variables and ``$$`` for ``$``; where one is unset,
        the setting is not set. ``name@host = value`` beats ``name = value`` on that host (full name before short name); the
        host is ``hostname``, else $DBRECON_HOSTNAME, else the system's name.

        Raises UsageError, naming file and key, for anything it cannot take.
        """
        env = os.environ if env is None else env
        path = os.path.abspath(path or env.get("DBRECON_CONFIG") or DEFAULT_CONFIG)
        given = _values_for_host(_read_ini(path), hostname or env.get("DBRECON_HOSTNAME") or socket.gethostname(), path)
        values: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
        for setting in SETTINGS:
            values[setting.section][setting.name] = _value(setting, given.get((setting.section, setting.name)), env, path)
        sections = {section: kind(**values[section]) for section, kind in SECTIONS.items()}
        set_here = frozenset(key for key, text in given.items() if text.strip())
        config = cls(**sections, path=path, given=set_here, no_root=_no_root(given.get(("paths", "root"), ""), env, path))
        config.run.check(path)
        return config

    def root(self) -> str:
        """Return where all experiments lie: no trailing slash, a local folder absolute. UsageError where it is not set."""
        if not self.paths.root:
            raise UsageError(self.no_root)
        return normal_root(self.paths.root)

    def database(self) -> DatabaseArguments:
        """Return the arguments for ``dbrecon.ctools.database.make_engine``. UsageError where neither MySQL nor SQLite can be
        meant."""
        return {
            "mysql_host": self.db.mysql_host,
            "mysql_database": self.db.mysql_database,
            "mysql_user": self.db.mysql_user,
            "mysql_password": self.db.mysql_password,
            "mysql_port": self.db.mysql_port,
            "mysql_ssl_ca": self.db.ssl_ca,
            "sqlite_path": "" if self.db.mysql_host else self._sqlite_path(),
        }

    def _sqlite_path(self) -> str:
        if self.db.sqlite:
            return self.db.sqlite
        root = self.root()
        if root.startswith("s3://"):
            raise UsageError(
                f"{root} is on S3, where SQLite cannot live: set MYSQL_HOST, MYSQL_DATABASE, MYSQL_USER and "
                f"MYSQL_PASSWORD, or give [db] sqlite a local file in {self.path}."
            )
        return f"{root}/2010-re/dbrecon.sqlite3"

    def zip_url(self, stusab: str, published: str, zip_name: str) -> str:
        """Return where the state's zip is: at the product's own address ``published``, or where [sf1] url says.

        UsageError for an unknown state or a template with other placeholders.
        """
        stusab = check_stusab(stusab)
        template = self.sf1.url or published
        try:
            return template.format(st=stusab, State_Name=STATES[stusab].url_name, zip=zip_name)
        except (KeyError, IndexError, ValueError) as error:
            raise UsageError(
                f"{self.path}: [sf1] url = {template} may hold {{State_Name}}, {{st}} and {{zip}}, and no other braces."
            ) from error

    def __repr__(self) -> str:
        """Name the file alone: values may be secrets."""
        return f"Config({self.path!r})"


SECTIONS: dict[str, type[Any]] = {section.name: type(section.default) for section in fields(Config) if section.compare}
"""The class of each section, in the order of the file."""


@dataclass(frozen=True)
class Setting:
    """One setting as file and manual have it: ``type`` is ``int``, ``float`` or ``str``; ``optional``: it may be not set."""

    section: str
    name: str
    type: str
    optional: bool
    description: Description

    @property
    def default(self) -> str:
        """Its text as it would stand in the file."""
        return self.description.default


def _settings() -> Iterator[Setting]:
    for section, kind in SECTIONS.items():
        for option in fields(kind):
            name, _, optional = str(option.type).partition(" | ")
            yield Setting(section, option.name, name, bool(optional), option.metadata["description"])


SETTINGS: tuple[Setting, ...] = tuple(_settings())
"""Every setting, in the order of the file."""


def _read_ini(path: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, default_section="")
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
    except (configparser.Error, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{path} is not a settings file ({reason}); correct it or name another in $DBRECON_CONFIG.") from error
    except OSError as error:
        remedy = "restore the file or name another in $DBRECON_CONFIG"
        raise UsageError(f"{path}: the settings cannot be read ({error.strerror}); {remedy}.") from error
    return parser


def _values_for_host(parser: configparser.ConfigParser, hostname: str, path: str) -> dict[tuple[str, str], str]:
    """Return the text of every setting that the file gives for this host."""
    hostname = hostname.lower()
    rank = {"": 0, hostname.split(".")[0]: 1, hostname: 2}
    best: dict[tuple[str, str], tuple[int, str]] = {}
    for section, name, host, text in _entries(parser, path):
        if host in rank and rank[host] >= best.get((section, name), (0, ""))[0]:
            best[section, name] = (rank[host], text)
    return {key: text for key, (_, text) in best.items()}


def _entries(parser: configparser.ConfigParser, path: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield (section, name, host, text) of each line; UsageError for a section or a name that is no setting."""
    sections = sorted({setting.section for setting in SETTINGS})
    for section in parser.sections():
        if section not in sections:
            raise UsageError(f"{path}: there is no section [{section}]; {_nearest(section, sections)}.")
        names = [setting.name for setting in SETTINGS if setting.section == section]
        for key, text in parser[section].items():
            name, _, host = key.partition("@")
            if name not in names:
                raise UsageError(f"{path}: [{section}] has no setting {name}; {_nearest(name, names)}.")
            yield section, name, host.strip(), text


def _nearest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    listed = "known are " + ", ".join(known)
    return f"did you mean {close[0]}? ({listed})" if close else listed


def _value(setting: Setting, text: str | None, env: Mapping[str, str], path: str) -> str | int | float | None:
    """Return the value of ``text`` (None: it is not in the file), expanded, of the setting's type.

    What is empty or names an unset variable is not set: None, or the default of a setting that must be.
    """
    known = setting.description
    written = known.default if text is None else text
    value = _expand(written, env)
    if value == "" and written.strip() and known.secret:
        return value  # a variable that is set and empty: an empty password is one
    if not value:
        if setting.optional:
            return None
        written, value = known.default, known.default
    where = f"{path}: [{setting.section}] {setting.name} = {'...' if known.secret else value}"
    if names := [braced or plain for braced, plain in _VARIABLE.findall(written) if braced or plain]:
        holder = f"the environment's {' and '.join(names)}"
        where = f"{holder}: {value}" if text is None else f"{where} (by {holder})"
    return _checked(setting, value, where, os.path.dirname(path))


def _checked(setting: Setting, value: str, where: str, folder: str) -> str | int | float:
    """Return the text of a setting as its type, within its limits; ``folder`` has the file. UsageError, which begins with
    ``where``."""
    known = setting.description
    if known.choices and value not in known.choices:
        raise UsageError(f"{where} must be one of {', '.join(known.choices)}.")
    if known.path:
        return local_path(value, folder)
    if setting.type == "str":
        return value
    try:
        number: int | float = int(value) if setting.type == "int" else float(value)
    except ValueError:
        kind = "a whole number" if setting.type == "int" else "a number"
        raise UsageError(f"{where} must be {kind}.") from None
    most = YEAR if setting.type == "float" else 1e18
    low, high = known.minimum, most if known.maximum is None else known.maximum
    # "not >=" rather than "<": a NaN is refused too.
    if low is not None and not number >= low:
        raise UsageError(f"{where} must be at least {low:g}.")
    if not number <= high:
        raise UsageError(f"{where} must be at most {high:.16g}.")
    return number


def _expand(text: str, env: Mapping[str, str]) -> str | None:
    """Return ``text`` with its variables filled in; None where one of them is unset. What is filled in stays as it is."""
    missing = False

    def value(match: re.Match[str]) -> str:
        nonlocal missing
        if match.group(0) == "$$":
            return "$"
        name = match.group(1) or match.group(2)
        missing = missing or name not in env
        return env.get(name, "")

    expanded = _VARIABLE.sub(value, text.strip())
    return None if missing else expanded


def _no_root(text: str, env: Mapping[str, str], path: str) -> str:
    """Return what to say where ``text``, the file's [paths] root, gives none."""
    names = [name for braced, plain in _VARIABLE.findall(text) if (name := braced or plain) and not env.get(name)]
    if not names or names == ["DAS_S3ROOT"]:
        return NO_ROOT
    return f"{path}: [paths] root = {text} needs {' and '.join(names)}, not set in the environment: set it, or correct the setting."


def settings_table() -> str:
    """Return the settings as a Markdown table, for docs/reference/settings.md."""
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    for setting in SETTINGS:
        default = f"`{setting.default}`" if setting.default else ""
        rows.append(f"| `[{setting.section}] {setting.name}` | {default} | {setting.description.help} |")
    return "\n".join(rows) + "\n"


def normal_root(root: str) -> str:
    """Return ``root`` without trailing slashes; a local folder made absolute, since a daemon may run elsewhere.

    Raises UsageError for ``s3://`` without a bucket and for other schemes.
    """
    if root.startswith("s3://"):
        trimmed = root.rstrip("/")
        if not re.fullmatch(r"s3://[^/]+(/[^/]+)*", trimmed):
            raise UsageError(f"{root} names no bucket: a root on S3 is s3://bucket or s3://bucket/prefix.")
        return trimmed
    if "://" in root:
        raise UsageError(f"{root}: DAS_S3ROOT must be a folder or s3://bucket/prefix.")
    return os.path.abspath(os.path.expanduser(root)).rstrip("/")
