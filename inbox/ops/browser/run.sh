#!/usr/bin/env bash
# Tests the operations page in Chromium, and installs what is missing: Chromium, Node
# and npm with apt-get, Playwright's library with npm, into node_modules beside this.
#
#   run.sh                  test
#   run.sh -screenshots     and write the screenshots in docs/ anew
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

find_chromium() { command -v chromium || command -v google-chrome; }

missing=()
find_chromium >/dev/null || missing+=(chromium)
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
if [ "${#missing[@]}" -gt 0 ]; then
  apt-get update -q
  apt-get install -qy --no-install-recommends "${missing[@]}" fonts-dejavu-core
fi
# playwright-core 1.61 is the last that runs on the Node of Debian 12, 18.
npm ci --no-audit --no-fund

export PIXMED_TEST_CHROMIUM
PIXMED_TEST_CHROMIUM=$(find_chromium)
if [ "${1-}" = -screenshots ]; then
  export PIXMED_SCREENSHOTS=$PWD/../../../docs
fi
go test -tags=browser -count=1 -timeout=5m .
