#!/bin/sh
# Run while an image is built, from the stage `tools`: writes the CycloneDX bill of materials of what
# is installed in /opt/venv, with versions, licences and dependencies, the same for the same input.
# Then looks whether that is all there is.
set -eu

sbom=/usr/share/sbom/llmservice.cdx.json
mkdir -p /usr/share/sbom
/opt/tools/bin/cyclonedx-py environment --pyproject /usr/share/llmservice/component.toml \
    --mc-type application --output-reproducible --spec-version 1.6 --output-format JSON \
    --output-file "$sbom" /opt/venv/bin/python
/opt/venv/bin/python /opt/tools/probe.py "$sbom"
