#!/bin/sh
# Make .venv ready: a virtual environment with the locked dependencies and Flame itself, editable.
#
# Does nothing when it is up to date. Needs Python 3.11 or newer with pip and venv; PYTHON=/path/to/python chooses one.
set -eu

cd "$(dirname "$0")/.."
root=$(pwd -P)
venv=.venv
stamp=$venv/.ready
want="$root $(cat requirements/dev.lock pyproject.toml tools/setup.sh | cksum)"

fail() {
    echo "setup: $1" >&2
    exit 1
}

ready() {
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && "$venv/bin/python" -c '' 2>/dev/null
}

# Print the first interpreter that is new enough and can make virtual environments; say why when there is none.
choose_python() {
    found=
    for python in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
        if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            found="$found $python is $version;"
        elif ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
            found="$found $python ($version) lacks venv: on Debian, apt-get install python$version-venv;"
        else
            command -v "$python"
            return 0
        fi
    done
    [ -n "$found" ] || found=" no ${PYTHON:-python3} on the PATH;"
    fail "Flame needs Python 3.11 or newer with pip and venv;${found%;} (PYTHON=/path/to/python chooses one)"
}

if ready; then
    exit 0
fi
if command -v flock >/dev/null 2>&1; then
    exec 9>.setup.lock
    flock 9 # two makes at once: the second waits, then finds it done
    if ready; then
        exit 0
    fi
fi

# A virtual environment holds absolute paths: one from another place, or whose Python is gone, starts afresh.
if [ -e "$venv" ]; then
    [ -w "$venv" ] || fail "$root/$venv belongs to another user; remove it or run as that user"
    made_for=$root
    [ -f "$stamp" ] && made_for=$(sed 's/ [0-9]* [0-9]*$//' "$stamp")
    if [ "$made_for" != "$root" ] || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        rm -rf "$venv"
    fi
fi
if [ ! -e "$venv" ]; then
    python=$(choose_python)
    echo "setup: making $venv with $python" >&2
    "$python" -m venv "$venv"
fi
rm -f "$stamp"
pip="$venv/bin/python -m pip --disable-pip-version-check --quiet"
echo "setup: installing locked dependencies" >&2
$pip install --require-hashes -r requirements/dev.lock || fail "the dependencies could not be installed (see above)"
$pip install --no-deps --no-build-isolation -e . || fail "Flame itself could not be installed (see above)"
echo "$want" >"$stamp"
