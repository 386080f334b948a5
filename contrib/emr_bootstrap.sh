#!/bin/bash
# A bootstrap action of EMR: each node has dbrecon's packages before the first launch, which then takes seconds.
#
#   aws s3 cp contrib/emr_bootstrap.sh s3://bucket/dbrecon/
#   aws emr create-cluster ... --bootstrap-actions Path=s3://bucket/dbrecon/emr_bootstrap.sh,Args=[REPOSITORY,BRANCH]
#
# On the primary node the checkout lies in ~/recon then, ready for ./dbrtool.py (and for contrib/emr_step.sh); on the others there
# is the environment alone, where --launch looks for it (~/dbrecon/venv-...; [cluster] folder = dbrecon). Run again it does what is
# left.
set -euo pipefail
repository=${1:?usage: emr_bootstrap.sh REPOSITORY BRANCH} branch=${2:?usage: emr_bootstrap.sh REPOSITORY BRANCH}
info=${EMR_INSTANCE_INFO:-/mnt/var/lib/info/instance.json}

lacking=()
for tool in git make python3.11; do command -v "$tool" >/dev/null || lacking+=("$tool"); done
if [ "${#lacking[@]}" -gt 0 ]; then sudo dnf install -y -q "${lacking[@]}"; fi

umask 077
mkdir -p "$HOME/dbrecon"
cd "$HOME/dbrecon"
rm -rf bootstrap
GIT_TERMINAL_PROMPT=0 git -c advice.detachedHead=false clone --quiet --depth 1 --branch "$branch" "$repository" bootstrap
venv=$PWD/venv-$(sha256sum bootstrap/constraints.txt | cut -c 1-16)
[ -e "$venv/ready" ] || make -s -C bootstrap setup VENV="$venv" PYTHON="$(command -v python3.11)"
if grep -Eq '"isMaster" *: *true' "$info"; then
    rm -rf "$HOME/recon"
    mv bootstrap "$HOME/recon"
    ln -s "$venv" "$HOME/recon/.venv"
else
    rm -rf bootstrap
fi
