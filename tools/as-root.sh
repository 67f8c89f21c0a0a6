#!/usr/bin/env bash
# tools/as-root.sh COMMAND...: runs the command as root; with sudo, for a user who is not. What the project is told by
# variables goes along, and so does the home directory: it has the build cache.
set -euo pipefail
((EUID != 0)) || exec "$@"
command -v sudo >/dev/null || { echo "$(basename "$1"): this needs root; run it as root, or install sudo" >&2; exit 1; }
variables=HOME,BULKHEAD_BUILD_CACHE,BULKHEAD_DRIVER,BULKHEAD_TEST_DRIVER,BULKHEAD_SOAK,BULKHEAD_SEED,BULKHEAD_FUZZ_SEED
variables+=,BULKHEAD_CYCLES,BULKHEAD_DELETION_KILLS,BULKHEAD_POWER_CUTS,BULKHEAD_CAMPAIGN_SECONDS
exec sudo --preserve-env="$variables" "$@"
