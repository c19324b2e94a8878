#!/usr/bin/env bash
# Prints the path of the first Python that can make the environment: of the versions named, else of 3.11, 3.12 and 3.13.
# PYTHON=... names one instead. Exit code 1, with what to do on standard error, where none works.
set -uo pipefail
versions=("${@:-3.11 3.12 3.13}")
read -ra versions <<<"${versions[*]}"
CHECK='import sys; v = "%d.%d" % sys.version_info[:2]; sys.exit(0 if v in sys.argv[1:] else 3)'
PARTS='import ensurepip, sqlite3, ssl, venv'
missing=""

works() { # works PYTHON: of one of the versions, and with the modules that an environment needs
    command -v "$1" >/dev/null || return 1
    "$1" -c "$CHECK" "${versions[@]}" 2>/dev/null || return 1
    "$1" -c "$PARTS" 2>/dev/null && return 0
    missing="$1 has not all of the modules venv, ensurepip, ssl and sqlite3; on Debian and Ubuntu: apt-get install $(basename "$1")-venv"
    return 1
}

candidates() {
    for version in "${versions[@]}"; do
        printf '%s\n' "python$version" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$version".*/bin/"python$version"
    done
    printf '%s\n' python3 python
    command -v uv >/dev/null && for version in "${versions[@]}"; do uv python find "$version" 2>/dev/null; done
    return 0
}

while read -r python; do
    if works "$python"; then
        command -v "$python"
        exit 0
    fi
done < <(if [ -n "${PYTHON:-}" ]; then echo "$PYTHON"; else candidates; fi)

if [ -n "${PYTHON:-}" ]; then
    echo "METEOR needs Python ${versions[*]}; PYTHON=$PYTHON is none that works" >&2
else
    echo "METEOR needs one of Python ${versions[*]}, and none was found that works." >&2
    echo "On Debian and Ubuntu: apt-get install python3 python3-venv. With uv: uv python install 3.13. PYTHON=... names another." >&2
fi
[ -z "$missing" ] || echo "$missing" >&2
exit 1
