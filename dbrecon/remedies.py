"""What to do about an error: the commands and settings that help, and an error's whole sentence with them.

Whatever tells an error to a person takes its text from here: :func:`sentence` for the error alone, :func:`explain` with its causes.
"""

from dbrecon.ctools import cli
from dbrecon.ctools.terminal import printable
from dbrecon.errors import DBReconError, Subject

_PLACE = ("--stusab", "--county", "--tract")
_ANOTHER_SOLVER = "set [solve] solver = highs"

REMEDIES = {
    Subject.LP_FILE: "make it again (--step3 --force{place})",
    Subject.SINGLE_LP_FILE: "get a whole copy of it, or name another file",
    Subject.LP_DIALECT: "write it again in the LP text that docs/reference/lp_files.md describes",
    Subject.SOLUTION: "make the solution again (--step4 --force{place})",
    Subject.OTHER_SOLUTION: "make it again (--step4 --force{place}), or have --rescan look at it",
    Subject.LP_AND_SOLUTION: "make it again (--step3 --step4 --force{place})",
    Subject.COUNTY_FILES: "make the county files again (--step2 --force{place})",
    Subject.GEOFILE: "remove it and make it again (--step1{place})",
    Subject.PEOPLE: "make it again (--step5 --force{place})",
    Subject.TABLES: "mend or replace the state's zip and make the county files again (--step2 --force{place})",
    Subject.CONSTRAINTS: "correct the program",
    Subject.CERTAINTY: "make it again (--step6 --force{place})",
    Subject.SAMPLES: "make them again (--step6 --samples N --force{place})",
    Subject.SOLVER: f"{_ANOTHER_SOLVER} to do without",
    Subject.ANSWER: "solve it with another solver (--step4 --force with [solve] solver) and report the LP file",
    Subject.SOLVER_TIME: "raise [solve] time_limit",
    Subject.GUROBI_PACKAGE: f"pip install gurobipy, or {_ANOTHER_SOLVER}",
    Subject.GUROBI_LICENCE: f"set GRB_LICENSE_FILE to one, or {_ANOTHER_SOLVER}",
    Subject.GUROBI_SIZE: "get a full licence, or set [solve] solver = auto or highs",
    Subject.GUROBI_TOKEN: f"raise [solve] gurobi_token_wait, run fewer workers, or {_ANOTHER_SOLVER}",
    Subject.DATABASE_FILE: "register one with --register, or correct DAS_S3ROOT",
    Subject.DATABASE_TLS: "check [db] ssl_ca, that MYSQL_HOST is the name in the server's certificate, and that the server has TLS",
    Subject.TLS_AUTHORITY: "name a PEM file of the authority's in [db] ssl_ca or MYSQL_SSL_CA",
    Subject.EMR_CLUSTER: "name the cluster in [cluster] emr_cluster_id or EMR_CLUSTER_ID, and its region in AWS_DEFAULT_REGION",
    Subject.KMS_KEY: "see [secrets] kms_key or DBRECON_KMS_KEY, and AWS_DEFAULT_REGION",
    Subject.S3_KEY: "correct [s3] kms_key, or give these credentials the right to it",
    Subject.ENCRYPTED_FILE: "make it anew with --encrypt_config",
    Subject.SSH_SETTINGS: "correct it, or name another in [cluster] ssh_config",
    Subject.SSH_LOGIN: "put your key into that user's ~/.ssh/authorized_keys, or name another user in [cluster] ssh_user",
    Subject.SSH_NEW_HOST: "log in once with ssh, or set [cluster] ssh_new_hosts = accept",
}


def sentence(error: BaseException) -> str:
    """Return what is wrong and what to do about it."""
    text = printable(str(error))
    if not isinstance(error, DBReconError) or error.about is None:
        return text
    place = "".join(f" {option} {word}" for option, word in zip(_PLACE, error.place.split(), strict=False))
    return f"{text.removesuffix('.')}; {REMEDIES[error.about].format(place=place)}"


def explain(error: BaseException) -> str:
    """Return an error and its causes in one line, each with what to do about it."""
    return cli.explain(error, sentence)
