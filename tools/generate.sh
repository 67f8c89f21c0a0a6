#!/usr/bin/env bash
# Writes every file that is generated from a single source. Changes nothing when all are up to date.
set -euo pipefail
cd "$(dirname "$0")/.."

# crds/ and docs/api.md from the schemas in src/api.
node_modules/.bin/node --disable-warning=ExperimentalWarning tools/generate-crds.ts

# The table of folders in ARCHITECTURE.md from tools/layers.ts.
node_modules/.bin/node --disable-warning=ExperimentalWarning tools/document-layers.ts

# docs/metrics.md from the definitions in src/metrics.
node_modules/.bin/node --disable-warning=ExperimentalWarning src/metrics/document.ts

# docs/sdk-reference.md from the declarations of src/sdk.
node_modules/.bin/node --disable-warning=ExperimentalWarning tools/document-sdk.ts

# Rules, boards and runbooks from the definitions in monitoring/.
node_modules/.bin/node --disable-warning=ExperimentalWarning monitoring/generate.ts

# docs/sandbox-lifecycle.md from the machine in src/reconcilers.
node_modules/.bin/node --disable-warning=ExperimentalWarning src/reconcilers/sandbox/document.ts

# The agent protocol: JavaScript with declarations, because TypeScript's enums are more than types.
protoc -I guest/protocol --plugin=protoc-gen-es=node_modules/.bin/protoc-gen-es \
  --es_out=src/guest/generated --es_opt=target=js+dts,import_extension=js guest/protocol/agent.proto
