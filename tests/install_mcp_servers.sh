#!/usr/bin/env bash
# Installs the MCP servers of PyPI that tests use (tests/factories/mcp_servers.py), pinned, into a virtual environment of
# their own: install_mcp_servers.sh FOLDER. The sandbox's user must be able to reach FOLDER; tests find it by
# MCP_PYTHON_DIR=FOLDER. What is there already is left as it is. Exit code 1: the package index did not answer in time.
set -euo pipefail

WANTED="mcp-server-git==2026.10.19 mcp-server-time==2026.10.19"
LIMIT_S="${MCP_SERVERS_LIMIT_S:-180}"
folder="${1:?the folder is missing}"

[ "$(cat "$folder/done" 2>/dev/null)" = "$WANTED" ] && exit 0
umask 022
mkdir -p "$folder"
for python in /usr/bin/python3 python3.13 python3.12 python3.11 python3; do
    "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue
    "$python" -m venv --clear "$folder/venv"
    # shellcheck disable=SC2086 # words of a list
    timeout "$LIMIT_S" "$folder/venv/bin/pip" install -qq --disable-pip-version-check $WANTED || break
    echo "$WANTED" >"$folder/done"
    exit 0
done
echo "The MCP servers of PyPI could not be installed." >&2
exit 1
