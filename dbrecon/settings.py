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
from dataclasses import dataclass
from typing import Any, TypedDict

from dbrecon.errors import UsageError
from dbrecon.paths import CONFIG, HOME
from dbrecon.states import STATES, check_stusab

DEFAULT_CONFIG = str(CONFIG / "config.ini")


@dataclass(frozen=True)
class Setting:
    """One setting: ``section`` and ``name`` in config.ini, its default as it would stand there, its type, and one line
    of help.

    ``type`` is ``str``, ``int``, ``float`` or ``path`` (a local path, relative to this checkout unless absolute).
    An empty value means "not set".
    """

    section: str
    name: str
    default: str
    type: str
    help: str
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    secret: bool = False


SETTINGS: tuple[Setting, ...] = (
    Setting("paths", "root", "$DAS_S3ROOT", "str", "Where all experiments lie: a folder or `s3://bucket/prefix`."),
    Setting(
        "s3",
        "kms_key",
        "",
        "str",
        "On S3: encrypt what is written with this KMS key (id, ARN or alias); not set means as the bucket does.",
    ),
    Setting("db", "mysql_host", "$MYSQL_HOST", "str", "MySQL or MariaDB server; not set means SQLite."),
    Setting("db", "mysql_port", "$MYSQL_PORT", "int", "Its TCP port; not set means 3306.", minimum=1, maximum=65535),
    Setting("db", "mysql_database", "$MYSQL_DATABASE", "str", "The database on that server; it must exist."),
    Setting("db", "mysql_user", "$MYSQL_USER", "str", "The user to connect as."),
    Setting("db", "mysql_password", "$MYSQL_PASSWORD", "str", "The user's password.", secret=True),
    Setting(
        "db",
        "sqlite",
        "",
        "path",
        "The SQLite file where there is no MySQL; not set means `{root}/2010-re/dbrecon.sqlite3` under a local root.",
    ),
    Setting(
        "sf1",
        "url",
        "https://www2.census.gov/census_2010/04-Summary_File_1/{State_Name}/{st}2010.sf1.zip",
        "str",
        "Where step 0 finds a state's zip; `{State_Name}` and `{st}` are filled in (`North_Dakota`, `nd`).",
    ),
    Setting("sf1", "tables", "config/tables_2010_sf1.toml", "path", "The product's tables: what each cell counts."),
    Setting("run", "max_lp", "0", "int", "Worker processes when step 3 is among the steps; 0: one a core.", minimum=0),
    Setting("run", "max_sol", "0", "int", "Worker processes when there is step 4 alone; 0: one a core.", minimum=0),
    Setting("run", "claim_tracts", "8", "int", "Tracts of one county that are claimed at once.", minimum=1),
    Setting("run", "lease_seconds", "300", "int", "How long a claim holds without a heartbeat.", minimum=2),
    Setting("run", "heartbeat_seconds", "60", "int", "How often a node extends its claims.", minimum=1),
    Setting("run", "min_free_mib", "0", "int", "MiB free below which no new tract starts; 0: a tenth, at most 4096.", minimum=0),
    Setting("run", "stop_free_mib", "0", "int", "MiB free below which the youngest worker is stopped; 0: half of it.", minimum=0),
    Setting("run", "max_attempts", "3", "int", "Failures after which a tract is quarantined.", minimum=1),
    Setting("run", "retry_seconds", "2", "int", "How long a tract or county that failed rests before its next attempt.", minimum=0),
    Setting(
        "solve",
        "solver",
        "highs",
        "str",
        "`auto` is Gurobi where its licence allows the model's size, else HiGHS.",
        choices=("auto", "highs", "gurobi"),
    ),
    Setting("solve", "seed", "0", "int", "The solver's seed: the same gives the same people.", minimum=0, maximum=2e9),
    Setting("solve", "time_limit", "3600", "float", "Seconds after which a tract's solve is given up.", minimum=0.001),
    Setting("solve", "gurobi_token_wait", "600", "float", "Seconds to wait for a Gurobi licence token.", minimum=0),
    Setting("spark", "master", "local[*]", "str", "Spark's master for `--spark`: `local[*]`, `spark://host:7077`, `yarn`."),
    Setting("spark", "python", "", "path", "Executors' Python (3.11 or newer), `local[*]`'s too; not set: the path of this one."),
    Setting(
        "spark",
        "environment",
        "",
        "str",
        "Packages to ship to a cluster (`local[*]` takes none), from `--spark_pack`: a file or URI; not set: they are there.",
    ),
    Setting("spark", "executor_cores", "0", "int", "Cores of a cluster's executor; 0: 1 on standalone masters, else 4.", minimum=0),
    Setting("spark", "executor_mib", "0", "int", "MiB of a cluster's executor; 0: what the biggest tracts need.", minimum=0),
    Setting("spark", "event_log", "", "str", "Where Spark's event logs go, for its history server: a folder or URI."),
    Setting(
        "cluster",
        "hosts",
        "",
        "str",
        "The nodes, as `[user@]host[:port]`, with spaces or commas; not set means those of an EMR cluster.",
    ),
    Setting("cluster", "emr_cluster_id", "$EMR_CLUSTER_ID", "str", "The EMR cluster; not set means the one this machine is in."),
    Setting("cluster", "task_group", "", "str", "The TASK group that --resize changes, where there are several."),
    Setting("cluster", "launch_core", "no", "str", "Whether CORE nodes get schedulers too.", choices=("no", "yes")),
    Setting("cluster", "repository", "", "str", "What --launch checks out on nodes; not set means this checkout's origin."),
    Setting("cluster", "branch", "", "str", "Its branch or tag; not set means this checkout's branch."),
    Setting("cluster", "folder", "dbrecon", "str", "Where checkout, environments and outputs lie on a node, below its home."),
    Setting(
        "cluster",
        "venv",
        "",
        "str",
        "A Python environment that nodes have already, below the home directory; not set means that --launch makes one.",
    ),
    Setting(
        "cluster",
        "environment",
        "AWS_* GRB_* GUROBI_HOME PIP_* *_PROXY *_proxy",
        "str",
        "Variables that --launch hands on to nodes, beside `DAS_S3ROOT` and `MYSQL_...`.",
    ),
    Setting("cluster", "launch_seconds", "900", "float", "How long a launch may take on a node.", minimum=1),
    Setting("cluster", "ssh_user", "", "str", "The user on nodes; not set means `~/.ssh/config`'s, else yours."),
    Setting("cluster", "ssh_config", "~/.ssh/config", "str", "The settings of OpenSSH that count here too."),
    Setting(
        "cluster",
        "ssh_new_hosts",
        "refuse",
        "str",
        "`accept`: a host that is not in known_hosts is accepted and remembered. A changed key is always refused.",
        choices=("refuse", "accept"),
    ),
    Setting("cluster", "ssh_seconds", "10", "float", "How long a node may take to let us in.", minimum=0.1),
    Setting(
        "secrets",
        "file",
        "config/dbrecon_config_encrypted.json.*",
        "path",
        "The credentials that --encrypt_config encrypted; read where the environment names no database.",
    ),
    Setting("secrets", "kms_key", "$DBRECON_KMS_KEY", "str", "The KMS key for --encrypt_config: an id, an ARN or alias/NAME."),
    Setting("dashboard", "port", "8050", "int", "The TCP port of --dashboard; 0: any free one.", minimum=0, maximum=65535),
    Setting(
        "dashboard",
        "token",
        "$DBRECON_DASHBOARD_TOKEN",
        "str",
        "Who does not know it sees no dashboard; not set means that this machine alone does.",
        secret=True,
    ),
    Setting("dashboard", "names", "", "str", "Host names, with commas, by which a proxy asks where no token is set."),
    Setting("dashboard", "max_age", "5", "float", "Seconds before the database is asked again for an answer.", minimum=0),
)

_BY_NAME: dict[tuple[str, str], Setting] = {(one.section, one.name): one for one in SETTINGS}
_VARIABLE = re.compile(r"\$(?:\$|\{(\w+)\}|(\w+))")


NO_ROOT = "There is no root folder: set DAS_S3ROOT to a folder or to s3://bucket/prefix."


class DatabaseArguments(TypedDict):
    """What ``dbrecon.ctools.database.make_engine`` takes. None where it is not set; ``sqlite_path`` is "" where MySQL is."""

    mysql_host: str | None
    mysql_database: str | None
    mysql_user: str | None
    mysql_password: str | None
    mysql_port: int | None
    sqlite_path: str


class Config:
    """The settings' values on this host. Immutable; ``Config.load(config.path)`` reads the file anew."""

    def __init__(self, values: Mapping[tuple[str, str], str | int | float | None], path: str, no_root: str = NO_ROOT) -> None:
        """``values`` has an entry for each of SETTINGS, of its type or None; ``path`` is the file they are from; ``no_root`` is
        what to say where the root is not set."""
        self._values = dict(values)
        self.path = path
        self._no_root = no_root

    @classmethod
    def load(cls, path: str | None = None, env: Mapping[str, str] | None = None, hostname: str | None = None) -> Config:
        """Reads ``path``, else the file that $DBRECON_CONFIG names, else config/config.ini of this checkout.

        In a value ``$NAME`` and ``${NAME}`` stand for environment variables and ``$$`` for ``$``; where one is unset,
        the setting is not set. ``name@host = value`` beats ``name = value`` on that host (full name before short name); the
        host is ``hostname``, else $DBRECON_HOSTNAME, else the system's name.

        Raises UsageError, naming file and key, for anything it cannot take.
        """
        env = os.environ if env is None else env
        path = os.path.abspath(path or env.get("DBRECON_CONFIG") or DEFAULT_CONFIG)
        given = _values_for_host(_read_ini(path), hostname or env.get("DBRECON_HOSTNAME") or socket.gethostname(), path)
        values = {key: _typed(one, given.get(key, one.default), env, path) for key, one in _BY_NAME.items()}
        lease, beat = values["run", "lease_seconds"], values["run", "heartbeat_seconds"]
        if float(beat or 0) * 2 > float(lease or 0):
            raise UsageError(
                f"{path}: [run] heartbeat_seconds ({beat}) must be at most half of lease_seconds ({lease}), "
                "or a claim could end between two heartbeats."
            )
        return cls(values, path, _no_root(given.get(("paths", "root"), ""), env, path))

    def get(self, section: str, name: str) -> Any:
        """The setting's value, of its type, or None where it is not set. KeyError for a setting that is none."""
        return self._values[section, name]

    def with_values(self, changes: Mapping[tuple[str, str], str | int | float | None]) -> Config:
        """The same settings with some values changed, by (section, name)."""
        return Config({**self._values, **changes}, self.path, self._no_root)

    def root(self) -> str:
        """Where all experiments lie: no trailing slash, a local folder absolute. UsageError where it is not set."""
        root = self.get("paths", "root")
        if not root:
            raise UsageError(self._no_root)
        return normal_root(root)

    def database(self) -> DatabaseArguments:
        """The arguments for ``dbrecon.ctools.database.make_engine``. UsageError where neither MySQL nor SQLite can be meant."""
        host = self.get("db", "mysql_host")
        return {
            "mysql_host": host,
            "mysql_database": self.get("db", "mysql_database"),
            "mysql_user": self.get("db", "mysql_user"),
            "mysql_password": self.get("db", "mysql_password"),
            "mysql_port": self.get("db", "mysql_port"),
            "sqlite_path": "" if host else self._sqlite_path(),
        }

    def _sqlite_path(self) -> str:
        path = self.get("db", "sqlite")
        if path:
            return str(path)
        root = self.root()
        if root.startswith("s3://"):
            raise UsageError(
                f"{root} is on S3, where SQLite cannot live: set MYSQL_HOST, MYSQL_DATABASE, MYSQL_USER and "
                f"MYSQL_PASSWORD, or give [db] sqlite a local file in {self.path}."
            )
        return f"{root}/2010-re/dbrecon.sqlite3"

    def sf1_url(self, stusab: str) -> str:
        """Where the state's zip is published. UsageError for an unknown state or a template with other placeholders."""
        stusab = check_stusab(stusab)
        template = self.get("sf1", "url") or ""
        try:
            return str(template.format(st=stusab, State_Name=STATES[stusab].url_name))
        except (KeyError, IndexError, ValueError) as error:
            raise UsageError(
                f"{self.path}: [sf1] url = {template} may hold {{State_Name}} and {{st}} and no other braces."
            ) from error

    def __repr__(self) -> str:
        """Names the file alone: values may be secrets."""
        return f"Config({self.path!r})"

    def __eq__(self, other: object) -> bool:
        """Equal when every value is."""
        return isinstance(other, Config) and self._values == other._values

    def __hash__(self) -> int:
        """Fits ``__eq__``."""
        return hash(tuple(sorted((key, str(value)) for key, value in self._values.items())))


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
    """The text of every setting that the file gives for this host."""
    hostname = hostname.lower()
    rank = {"": 0, hostname.split(".")[0]: 1, hostname: 2}
    best: dict[tuple[str, str], tuple[int, str]] = {}
    for section, name, host, text in _entries(parser, path):
        if host in rank and rank[host] >= best.get((section, name), (0, ""))[0]:
            best[section, name] = (rank[host], text)
    return {key: text for key, (_, text) in best.items()}


def _entries(parser: configparser.ConfigParser, path: str) -> Iterator[tuple[str, str, str, str]]:
    """(section, name, host, text) of each line; UsageError for a section or a name that is no setting."""
    sections = sorted({one.section for one in SETTINGS})
    for section in parser.sections():
        if section not in sections:
            raise UsageError(f"{path}: there is no section [{section}]; {_nearest(section, sections)}.")
        names = [one.name for one in SETTINGS if one.section == section]
        for key, text in parser[section].items():
            name, _, host = key.partition("@")
            if name not in names:
                raise UsageError(f"{path}: [{section}] has no setting {name}; {_nearest(name, names)}.")
            yield section, name, host.strip(), text


def _nearest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    listed = "known are " + ", ".join(known)
    return f"did you mean {close[0]}? ({listed})" if close else listed


def _typed(setting: Setting, text: str, env: Mapping[str, str], path: str) -> str | int | float | None:
    """The value of ``text``, expanded, of the setting's type; None where it is empty or names an unset variable."""
    value = _expand(text, env)
    if value == "" and text.strip() and setting.secret:
        return value  # a variable that is set and empty: an empty password is one
    if not value:
        unset = value is None or setting.type in ("str", "path") or text == setting.default
        return None if unset else _typed(setting, setting.default, env, path)
    where = f"{path}: [{setting.section}] {setting.name} = {'...' if setting.secret else value}"
    if setting.choices and value not in setting.choices:
        raise UsageError(f"{where} must be one of {', '.join(setting.choices)}.")
    if setting.type == "path":
        return os.path.join(HOME, os.path.expanduser(value))
    if setting.type == "str":
        return value
    try:
        number: int | float = int(value) if setting.type == "int" else float(value)
    except ValueError as error:
        kind = "a whole number" if setting.type == "int" else "a number"
        raise UsageError(f"{where} must be {kind}.") from error
    _check_range(setting, number, where)
    return number


def _check_range(setting: Setting, number: float, where: str) -> None:
    low, high = setting.minimum, setting.maximum
    # "not >=" rather than "<": a NaN is refused too.
    if low is not None and not number >= low:
        raise UsageError(f"{where} must be at least {low:g}.")
    if not number <= (float("1e18") if high is None else high):
        raise UsageError(f"{where} must be at most {1e18 if high is None else high:g}.")


def _expand(text: str, env: Mapping[str, str]) -> str | None:
    """``text`` with its variables filled in; None where one of them is unset. What is filled in stays as it is."""
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
    """What to say where ``text``, the file's [paths] root, gives none."""
    names = [name for braced, plain in _VARIABLE.findall(text) if (name := braced or plain) and not env.get(name)]
    if not names or names == ["DAS_S3ROOT"]:
        return NO_ROOT
    return f"{path}: [paths] root = {text} needs {' and '.join(names)}, not set in the environment: set it, or correct the setting."


def settings_table() -> str:
    """The settings as a Markdown table, for the README."""
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    for one in SETTINGS:
        default = f"`{one.default}`" if one.default else ""
        rows.append(f"| `[{one.section}] {one.name}` | {default} | {one.help} |")
    return "\n".join(rows) + "\n"


def normal_root(root: str) -> str:
    """``root`` without trailing slashes; a local folder made absolute, since a daemon may run elsewhere.

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
