# What the operator's commands do on a node. POSIX sh, coreutils and /proc alone, so that a node without Python can be asked too.
#
# The console sends this to `sh -s` over SSH, after the variables it uses and before a call of one of its functions. Secrets come
# that way too, so that no command line shows them:
#   folder      where our things are on a node, relative to the home directory: recon/ is the checkout, venv-*/ its environments
#   repository, branch   what is checked out
#   venv        an environment that is there already, used instead of a venv-*
#   force       "yes": go on although a scheduler runs here; it is halted
#   settings()  prints the settings file

say() { printf '%s\n' "$*"; }
fail() { printf '%s\n' "$*" >&2; exit 1; }

# Whether a process is Python, of our user and of this node: several nodes on one machine (DBRECON_HOSTNAME) leave each other alone.
is_ours() {
    [ "$1" -gt 1 ] && [ -O "/proc/$1" ] || return 1
    case $(readlink "/proc/$1/exe") in *python*) ;; *) return 1 ;; esac
    [ "$(tr '\0' '\n' 2>/dev/null <"/proc/$1/environ" | sed -n 's/^DBRECON_HOSTNAME=//p')" = "${DBRECON_HOSTNAME-}" ]
}

# Our processes whose command line matches an extended regular expression, one pid a line.
ours() {
    for path in $(LC_ALL=C grep -lsaE "$1" /proc/[0-9]*/cmdline); do
        path=${path%/cmdline}
        is_ours "${path#/proc/}" && say "${path#/proc/}"
    done
}

# (The brackets keep grep from finding itself.)
schedulers() { ours '[/[:cntrl:]]scheduler[.]py'; }
workers() { ours 'node[.]worke[r]'; }

# Who else has workers: a --run or a step by hand. Their parents, but for the workers' own common ancestor.
runners() {
    all=" $(workers | tr '\n' ' ')"
    for pid in $all; do
        parent=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$pid/status" 2>/dev/null)
        case $all in *" $parent "*) continue ;; esac
        is_ours "${parent:-0}" && say "$parent"
    done | sort -u
}

in_use() { [ -n "$(schedulers)$(runners)" ]; }

# Whether a launch is at work on this node, which may outlive the console that sent it.
launching() {
    lock=$(absolute "$folder")/launch.lock
    [ -e "$lock" ] && command -v flock >/dev/null && ! flock -n "$lock" true
}

node_name() { say "${DBRECON_HOSTNAME:-$(uname -n)}"; }

# What --cluster shows, as name=value.
report() {
    say "name=$(node_name)"
    say "time=$(date +%s)"
    read -r up _ </proc/uptime && say "uptime=$up"
    read -r one five fifteen _ </proc/loadavg && say "load=$one $five $fifteen"
    say "users=$(who 2>/dev/null | wc -l)"
    say "free_kib=$(sed -n 's/^MemAvailable: *\([0-9]*\) kB/\1/p' /proc/meminfo)"
    if launching; then say "state=launching"; elif in_use; then say "state=in use"; else say "state=idle"; fi
}

# What --doctor looks at, beside that: what a launch needs. The console defines probe(), which prints a Python program.
facts() {
    report
    say "disk_kib=$(df -Pk "$HOME" | sed -n '2s/^[^ ]* *[0-9]* *[0-9]* *\([0-9]*\) .*/\1/p')"
    say "git=$(git --version 2>/dev/null)"
    say "make=$(make --version 2>/dev/null | head -n 1)"
    for python in ${venv:+"$(absolute "$venv")/bin/python"} python3.11 python3.12 python3.13 python3; do
        if version=$("$python" -c 'import sys; assert sys.version_info >= (3, 11); print(sys.version.split()[0])' 2>/dev/null); then
            say "python=$version"
            "$python" -c 'import ensurepip, venv' 2>/dev/null && say "venv=yes"
            break
        fi
        python=
    done
    check_repository
    for made in "$(absolute "$folder")"/venv-*/bin/python; do [ ! -x "$made" ] || python=$made; done
    [ -z "$python" ] || probe | "$python" -
}

# Whether git on this node finds the branch (or tag) of the repository, within some seconds.
check_repository() {
    [ -n "$repository" ] && command -v git >/dev/null || return 0
    said=$(GIT_TERMINAL_PROMPT=0 GIT_SSH_COMMAND="${GIT_SSH_COMMAND:-ssh -o BatchMode=yes}" \
        timeout "$PROBE_SECONDS" git ls-remote --exit-code "$repository" "refs/heads/$branch" "refs/tags/$branch" 2>&1 >/dev/null)
    case $? in
    0) say "repository=yes" ;;
    2) say "repository_error=it has no branch or tag $branch" ;;
    124) say "repository_error=no answer within $PROBE_SECONDS s" ;;
    *) say "repository_error=$(say "$said" | grep . | head -n 1)" ;;
    esac
}

absolute() { case $1 in /*) say "$1" ;; *) say "$HOME/$1" ;; esac; }

alive() { for pid in "$@"; do kill -0 "$pid" 2>/dev/null && return 0; done; return 1; }

# Waits until the processes have ended: seconds, pids.
gone() {
    tries=$(($1 * 5)); shift
    while alive "$@"; do
        [ "$tries" -gt 0 ] || return 1
        tries=$((tries - 1))
        sleep 0.2
    done
}

# Puts the tracts in work here back and ends everything of ours, what does not listen too: seconds of patience.
halt_all() {
    pids=$(schedulers; runners)
    if [ -n "$pids" ]; then
        tell halt >/dev/null || kill -INT $pids 2>/dev/null
        gone "$1" $pids || kill -KILL $pids 2>/dev/null
    fi
    stragglers=$(workers)
    if [ -n "$stragglers" ]; then
        gone 1 $stragglers || kill -TERM $stragglers 2>/dev/null
        gone 2 $stragglers || kill -KILL $stragglers 2>/dev/null
    fi
    return 0
}

tell() { (cd "$(absolute "$folder")/recon" 2>/dev/null && .venv/bin/python scheduler.py --quiet --tell "$1" 2>/dev/null); }

# Prints what it said; nothing if there is no scheduler.
stop() {
    pids=$(schedulers)
    [ -n "$pids" ] || return 0
    tell stop && return
    kill -TERM $pids 2>/dev/null
    say "told by SIGTERM to finish the tracts in work and leave"
}

launch() {
    umask 077
    mkdir -p "$(absolute "$folder")" && cd "$(absolute "$folder")" || fail "$(absolute "$folder") cannot be made"
    if command -v flock >/dev/null; then
        exec 9>launch.lock
        flock -n 9 || fail "another launch is at work on this node: wait for it"
    fi
    [ "$force" = yes ] || ! in_use || fail "in use: --force halts what runs there first"
    check_out
    set_up
    halt_all 30
    swap
    begin "$@"
}

check_out() {
    command -v git >/dev/null || fail "there is no git: install it on the node"
    rm -rf recon.new
    GIT_TERMINAL_PROMPT=0 git -c advice.detachedHead=false clone --quiet --depth 1 --branch "$branch" "$repository" recon.new >&2 ||
        fail "branch $branch of $repository cannot be checked out: see --branch, and [cluster] repository"
    settings >config.ini
}

# A Python here of that minor version, which can make environments.
python_of() {
    for python in "python$1" python3; do
        [ "$("$python" -c 'import sys, venv; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "$1" ] || continue
        say "$python"
        return
    done
    return 1
}

# Whether the packages of another machine are wanted: "yes", nothing if they are here (of the constraints with that digest), or why
# they are of no use.
wants_packages() {
    [ ! -e "$(absolute "$folder")/venv-$digest/ready" ] || return 0
    if [ "$(uname -m)" != "$machine" ]; then say "it is $(uname -m), not $machine"
    elif ! python_of "$version" >/dev/null; then say "it has no Python $version"
    else say yes; fi
}

# An environment of packages that were carried here: the archive, and where it is made. (No pip: a later launch makes a new one.)
unpack() {
    version=${1##*-}
    version=${version%.tar.gz}
    rm -rf "$2"
    "$(python_of "$version")" -m venv --without-pip "$2" >&2 &&
        "$2/bin/python" -m tarfile -e "$1" "$2/lib/python$version/site-packages" >&2 &&
        "$2/bin/python" -c 'import highspy, isal.igzip, numpy, pyarrow, pymysql, scipy, sqlalchemy' >&2 &&
        rm -f "$1" && touch "$2/ready"
}

# The environment of the checkout's constraints.txt: made once, then found again.
set_up() {
    if [ -n "$venv" ]; then
        made=$(absolute "$venv")
        [ -x "$made/bin/python" ] || fail "there is no Python: $made/bin/python is missing (see [cluster] venv)"
    else
        digest=$(sha256sum recon.new/constraints.txt | cut -c 1-16)
        made=$PWD/venv-$digest
        carried=$(ls "packages-$digest"-*.tar.gz 2>/dev/null | head -n 1)
        if [ -n "$carried" ]; then
            unpack "$carried" "$made" || fail "the packages that came along cannot be used here: set [cluster] packages = pip"
        elif [ ! -e "$made/ready" ] || ! "$made/bin/python" -c '' 2>/dev/null; then
            command -v make >/dev/null || fail "there is no make: install it on the node, or set [cluster] venv"
            (cd recon.new && make setup VENV="$made" >&2) || fail "the environment could not be set up"
        fi
    fi
    ln -s "$made" recon.new/.venv
}

# The new checkout takes the place of the old one, whose outputs stay.
swap() {
    mkdir -p recon
    for output in recon/output-*; do [ ! -e "$output" ] || mv "$output" recon.new/; done
    rm -f packages-*
    rm -rf recon && mv recon.new recon && cd recon || fail "$PWD/recon cannot be replaced"
    for old in ../venv-*; do [ "$(readlink -f "$old")" = "$(readlink -f .venv)" ] || rm -rf "$old"; done
}

# Starts the scheduler, detached, and sees it begin.
begin() {
    output=output-$(date +%Y-%m-%dT%H:%M:%S%z)
    export DBRECON_CONFIG="$(absolute "$folder")/config.ini"
    touch ../begun
    setsid sh -c '"$@"; echo "$(date -u +%Y-%m-%dT%H:%M:%SZ) scheduler.py ended with exit code $?"' \
        sh .venv/bin/python scheduler.py "$@" >"$output" 2>&1 </dev/null 9>&- &
    socket=$HOME/.dbrecon/$(node_name)-scheduler.socket
    tries=150
    while [ "$tries" -gt 0 ]; do
        sleep 0.2
        code=$(sed -n 's/.* scheduler\.py ended with exit code \([0-9]*\)$/\1/p' "$output")
        case $code in
        '') ;;
        0 | 10) tail -n 5 "$output" >&2; break ;;
        *) tail -n 15 "$output" | sed '$d' >&2; exit 1 ;;
        esac
        [ -S "$socket" ] && [ "$socket" -nt ../begun ] && break
        tries=$((tries - 1))
    done
    say "$PWD/$output"
}

# The newest output: how many lines, and -f to follow it.
logs() {
    cd "$(absolute "$folder")/recon" 2>/dev/null || fail "nothing was launched here"
    newest=$(ls -1t output-* 2>/dev/null | head -n 1)
    [ -n "$newest" ] || fail "nothing was launched here"
    say "==> $PWD/$newest <=="
    exec tail -n "$1" $2 "$newest"
}
