#!/bin/sh
# Called by `gml registry watch` for each change; a real one would fetch the files and restart a service.
set -eu
if [ -z "$GML_VERSION" ]; then
    echo "$GML_STAGE of $GML_MODEL is empty: nothing to serve"
    exit 0
fi
echo "deploying $GML_MODEL v$GML_VERSION (sha256 $GML_DIGEST) in place of v${GML_BEFORE:-none}"
