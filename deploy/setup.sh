#!/bin/sh
# Make .venv hold exactly what requirements-dev.lock says, and this project on top of it. Does nothing when
# nothing has changed. Needs Python 3.11 or newer; brings uv into .uv when the machine has none of use.
#
#   deploy/setup.sh        set up
#   deploy/setup.sh uv     print which uv is used, bringing it if need be
set -eu
cd "$(dirname "$0")/.."

# uv reads none of pip's settings, but a machine may name its package index only there.
use_pips_index() {
    if [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}" ]; then
        index=${PIP_INDEX_URL:-$("$python" -m pip config get global.index-url 2>/dev/null || true)}
        if [ -n "$index" ]; then
            UV_DEFAULT_INDEX=$index
            export UV_DEFAULT_INDEX
        fi
    fi
}

find_python() {
    for candidate in "${PYTHON:-python3}" python3.14 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            # Past the shims of version switchers and out of any virtual environment: the real one.
            "$candidate" -c 'import os, sys; print(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))'
            return 0
        fi
    done
    echo "setup: no Python 3.11 or newer found: install one, or name it with PYTHON=" >&2
    return 1
}

find_uv() {
    if command -v uv >/dev/null 2>&1; then
        # Anything older than 0.8 may not know an option used here.
        case $(uv --version 2>/dev/null) in
            "uv 0."[0-7].* | "") ;;
            *)
                command -v uv
                return 0
                ;;
        esac
    fi
    wanted=$(sed -n 's/^uv==\([0-9.]*\).*/\1/p' deploy/bootstrap.lock)
    if [ "$(.uv/bin/uv --version 2>/dev/null | cut -d' ' -f2)" != "$wanted" ]; then
        echo "setup: bringing uv $wanted into .uv" >&2
        rm -rf .uv
        if ! "$python" -m venv .uv >&2; then
            rm -rf .uv
            echo "setup: $python cannot make a virtual environment: install its venv package (Debian: python3-venv), or uv" >&2
            return 1
        fi
        .uv/bin/python -m pip install -q --disable-pip-version-check --require-hashes --no-deps \
            -r deploy/bootstrap.lock >&2
    fi
    echo "$PWD/.uv/bin/uv"
}

python=$(find_python)
if [ "${1:-}" = uv ]; then
    find_uv
    exit
fi

stamp=.venv/.set-up
wanted=$(cat requirements-dev.lock pyproject.toml deploy/setup.sh | cksum)" $PWD $python"
if [ -x .venv/bin/python ] && [ "$(cat $stamp 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi

uv=$(find_uv)
use_pips_index
VIRTUAL_ENV=$PWD/.venv
UV_PYTHON_DOWNLOADS=never
UV_NO_PROGRESS=1
# Trust whom the machine trusts, as pip does: an index behind a company's own authority is reached like any other.
UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-1}
export VIRTUAL_ENV UV_PYTHON_DOWNLOADS UV_NO_PROGRESS UV_SYSTEM_CERTS
# A virtual environment cannot be moved, and does not outlive its interpreter.
if ! .venv/bin/python -c 'import sys' 2>/dev/null || ! grep -qsF "$PWD/.venv" .venv/bin/activate; then
    "$uv" venv -q --clear --python "$python" .venv
fi
rm -f $stamp
echo "setup: installing what requirements-dev.lock names into .venv" >&2
"$uv" pip sync -q --require-hashes requirements-dev.lock
"$uv" pip install -q --no-deps --no-build-isolation --no-index -e .
printf '%s' "$wanted" >$stamp
