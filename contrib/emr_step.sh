#!/bin/bash
# A step of EMR, on the primary node: an experiment from its zips to its people by schedulers on all idle TASK nodes. It ends when all
# is done, with --watch's code (0; 10 with tracts in quarantine), or with 8 where a node could not be launched, 5 where the database
# does not answer as a command begins: the schedulers that were launched go on then.
#
#   aws s3 cp contrib/emr_step.sh s3://bucket/dbrecon/
#   aws emr add-steps --cluster-id j-... --steps Type=CUSTOM_JAR,Name=ri1,ActionOnFailure=CONTINUE,\
#     Jar=s3://REGION.elasticmapreduce/libs/script-runner/script-runner.jar,Args=[s3://bucket/dbrecon/emr_step.sh,ri1,ri]
#
# The experiment is registered, its zips are in dist/, and ~/.dbrecon.env (mode 600) exports DAS_S3ROOT and the database's
# variables, or config/ has them encrypted. The states are "all" if none is named.
set -euo pipefail
reident=${1:?usage: emr_step.sh REIDENT [STUSAB ...]}
shift
if [ -e "$HOME/.dbrecon.env" ]; then . "$HOME/.dbrecon.env"; fi
cd "${DBRECON_CHECKOUT:-$HOME/recon}"

./dbrtool.py --quiet --reident "$reident" --step1 --step2 --stusab "$(IFS=,; echo "${*:-all}")"
./dbrtool.py --reident "$reident" --launch_all
./dbrtool.py --reident "$reident" --watch 30
