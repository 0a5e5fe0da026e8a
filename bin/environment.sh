# Sourced by the scripts beside it: finds Python, makes .venv and installs into it what requirements/NAME.txt pins.
#
# `ensure_environment NAME` does nothing when the stamp in .venv names the file's present contents; the stamp is written
# only after pip has ended well, so that a broken-off install is done again.

fail() {
    echo "countersign: $1" >&2
    exit 2
}

find_python() {
    local name
    for name in python3.13 python3.12 python3.11 python3 python3.14; do
        if command -v "$name" >/dev/null 2>&1 &&
            "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2])' >/dev/null 2>&1; then
            if "$name" -c 'import venv, ensurepip' >/dev/null 2>&1; then
                echo "$name"
                return
            fi
            without_venv=$name
        fi
    done
    if [ -n "${without_venv:-}" ]; then
        fail "$without_venv has no venv module; install it (Debian: apt-get install python3-venv)."
    fi
    fail "Python 3.11 or newer is needed, and none was found (tried python3.13, python3.12, python3.11, python3)."
}

file_hash() {
    "$1" -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' "$2"
}

ensure_environment() {
    local wanted="requirements/$1.txt" stamp=".venv/installed" python hash
    if ! .venv/bin/python -c 'import pip' >/dev/null 2>&1; then
        python=$(find_python) || exit $?
        echo "  Making .venv with $("$python" --version 2>&1) ..."
        rm -rf .venv
        "$python" -m venv .venv >/dev/null || fail "$python -m venv failed; see the lines above."
    fi
    hash="$(file_hash .venv/bin/python "$wanted") $1"
    if ! grep -qxF "$hash" "$stamp" 2>/dev/null; then
        echo "  Installing $wanted ..."
        rm -f "$stamp"
        .venv/bin/python -m pip install --quiet --quiet --disable-pip-version-check --no-input \
            --require-hashes -r "$wanted" ||
            fail "pip could not install $wanted; see the lines above."
        {
            echo "$hash"
            # the tests' requirements hold all of the others
            [ "$1" = dev ] || echo "$(file_hash .venv/bin/python requirements/dev.txt) dev"
        } >"$stamp"
    fi
}
