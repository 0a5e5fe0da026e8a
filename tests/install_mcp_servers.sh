#!/usr/bin/env bash
# Installs the MCP servers by others that tests use (tests/factories/mcp_servers.py), pinned, into a folder outside the
# checkout that the sandbox's user can reach. Prints the folder. What is there already is left as it is; a package registry
# that does not answer within the time given is an error (exit code 1), and the tests then skip with this as the reason.
set -euo pipefail

PYTHON_SERVERS="mcp-server-git==2026.10.19 mcp-server-time==2026.10.19"
NODE_SERVERS="@modelcontextprotocol/server-everything@2026.8.31 @modelcontextprotocol/server-filesystem@2026.8.31"
STEP_S="${MCP_SERVERS_STEP_S:-120}"

if [ -n "${MCP_SERVERS_DIR:-}" ]; then
    folder="$MCP_SERVERS_DIR"
elif [ "$(id -u)" = 0 ]; then
    folder=/var/cache/countersign-tests/mcp-servers # below a home of root's, the sandbox's user would not get there
else
    folder="${XDG_CACHE_HOME:-$HOME/.cache}/countersign-tests/mcp-servers"
fi
echo "$folder"
umask 022
mkdir -p "$folder"
exec 9>"$folder/lock"
flock -w "$((3 * STEP_S))" 9
wanted="$PYTHON_SERVERS $NODE_SERVERS"

python_servers() {
    local python
    for python in /usr/bin/python3 python3.13 python3.12 python3.11 python3; do
        "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue
        rm -rf "$folder/python"
        "$python" -m venv "$folder/python"
        # shellcheck disable=SC2086 # words of a list
        timeout "$STEP_S" "$folder/python/bin/pip" install -qq --disable-pip-version-check $PYTHON_SERVERS
        return
    done
    echo "mcp servers: there is no Python with venv." >&2
    return 1
}

node_servers() {
    command -v npm >/dev/null 2>&1 || { echo "mcp servers: npm is not installed." >&2; return 1; }
    rm -rf "$folder/node"
    mkdir -p "$folder/node"
    # shellcheck disable=SC2086 # words of a list
    (cd "$folder/node" && timeout "$STEP_S" npm install --silent --no-audit --no-fund --ignore-scripts --prefix . $NODE_SERVERS)
}

failed=0
for kind in python node; do
    [ "$(cat "$folder/$kind.done" 2>/dev/null)" = "$wanted" ] && continue
    rm -f "$folder/$kind.done"
    if "${kind}_servers" >&2; then
        echo "$wanted" >"$folder/$kind.done"
    else
        echo "mcp servers: those for $kind could not be installed." >&2
        failed=1
    fi
done
exit "$failed"
