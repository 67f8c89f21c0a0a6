#!/usr/bin/env bash
# Formatters, linters, types, import rules, and whether generated files are what their sources say.
set -euo pipefail
cd "$(dirname "$0")/.."

node_modules/.bin/biome ci --error-on-warnings .
node_modules/.bin/tsc
node_modules/.bin/node tools/import-rules.ts
git ls-files -z -- '*.c' '*.h' | grep -zv /generated/ | xargs -0 -r clang-format --dry-run --Werror
for script in $(git ls-files -- '*.sh' .ci/run); do
  bash -n "$script"
  [[ -x $script ]] || { echo "lint: $script is not executable" >&2; exit 1; }
done

before=$(tools/generated-state.sh)
tools/generate.sh
after=$(tools/generated-state.sh)
if [[ $before != "$after" ]]; then
  echo "lint: generated files were stale; tools/generate.sh has brought them up to date, commit them" >&2
  exit 1
fi
