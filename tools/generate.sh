#!/usr/bin/env bash
# Writes every file that is generated from a single source. Changes nothing when all are up to date.
set -euo pipefail
cd "$(dirname "$0")/.."

# crds/ and docs/api.md from the schemas in src/api.
node_modules/.bin/node --disable-warning=ExperimentalWarning tools/generate-crds.ts
