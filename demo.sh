#!/usr/bin/env bash
# The whole product in a minute, on the repo in example_repo as it lies there. Every command is shown before it
# runs. Running it again starts afresh: what it made (example_repo/data) is deleted first.
set -euo pipefail
cd "$(dirname "$0")/example_repo"
PATH="$(cd .. && pwd)/.venv/bin:$PATH"
port="${PORT:-$(python -c '
import socket
for port in (6566, 0):  # the usual one, or any that is free
    try:
        with socket.create_server(("127.0.0.1", port)) as probe:
            print(probe.getsockname()[1])
            break
    except OSError:
        pass
')}"
server=""
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true' EXIT

if [ -t 1 ]; then bold=$'\e[1m' plain=$'\e[0m'; else bold="" plain=""; fi
step() { printf '\n%s# %s%s\n' "$bold" "$*" "$plain"; }
run() {
    printf '%s$ %s%s\n' "$bold" "$*" "$plain"
    "$@"
}
ask() { # the server, by HTTP; curl is what a reader knows, and Python is what is surely there
    printf "%s\$ curl -s localhost:%s%s -d '%s'%s\n" "$bold" "$port" "$1" "$2" "$plain"
    python - "http://127.0.0.1:$port$1" "$2" <<'PYTHON'
import json
import sys
import urllib.request

request = urllib.request.Request(sys.argv[1], sys.argv[2].encode(), {"content-type": "application/json"})
print(json.dumps(json.load(urllib.request.urlopen(request, timeout=10)), indent=2))
PYTHON
}
wait_until_ready() {
    python - "http://127.0.0.1:$port/ready" "$server" <<'PYTHON'
import os
import sys
import time
import urllib.error
import urllib.request

deadline = time.monotonic() + 30
while True:
    os.kill(int(sys.argv[2]), 0)  # the server has died: no use in waiting
    try:
        urllib.request.urlopen(sys.argv[1], timeout=2)
    except (urllib.error.URLError, OSError):
        if time.monotonic() > deadline:
            sys.exit("the server did not get ready within 30 s; its log is example_repo/data/serve.log")
        time.sleep(0.1)
    else:
        break
PYTHON
}

run rm -rf data

step "Six kinds of shop events over a week, some late and some delivered twice; and labels to learn from"
run featureflow generate --events 200000 --labels 5000

step "Features are YAML (features/*.yaml), and have unit tests of their own"
run featureflow test

step "What is about to change, and then change it (featureflow plan shows it without doing it)"
run featureflow apply --yes

step "Events in, features out: online (SQLite) and offline (Delta) from one computation"
run featureflow stream --once
run featureflow status

step "A training set: every value as it was at its label's moment, audited for leakage"
run featureflow build-dataset --labels data/labels.parquet --service ranking_v1 --output data/train.parquet

step "Do the values that are served agree with those that are trained on?"
run featureflow check-skew

step "One vector from the shell, and the same one over HTTP"
run featureflow get --service ranking_v1 --entity user_id=587 --entity item_id=14
printf '%s$ featureflow serve --port %s &%s\n' "$bold" "$port" "$plain"
featureflow serve --port "$port" >data/serve.log 2>&1 &
server=$!
wait_until_ready
ask /features/vector '{"service": "ranking_v1", "entities": {"user_id": 587, "item_id": 14}}'
kill "$server"
wait "$server" || true
server=""

yesterday="$(python -c 'from datetime import *; print((datetime.now(UTC) - timedelta(days=1)).strftime("%FT%TZ"))')"
cat <<END

${bold}All of it is in example_repo. Try next:${plain}
  source .venv/bin/activate && cd example_repo
  featureflow describe view/user_activity      what a view is made of, and who uses it
  featureflow get --service ranking_v1 --entity user_id=587 --entity item_id=14 --at $yesterday
  featureflow serve                            then open http://127.0.0.1:$port/docs
  \$EDITOR features/users.yaml                  change a window, then: featureflow plan
  featureflow init ~/my_features --template minimal
END
