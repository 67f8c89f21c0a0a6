#!/usr/bin/env bash
# Prints a hash of every generated file that is checked in.
set -euo pipefail
cd "$(dirname "$0")/.."
git ls-files -z -- ARCHITECTURE.md crds 'docs/*.md' monitoring/prometheus monitoring/grafana 'src/**/generated/**' | xargs -0 -r sha256sum
