#!/bin/sh
# Run in the stage `tools`: an environment in /opt/tools with pip, which fills the image, and with
# cyclonedx-py, which describes it.
set -eu

export PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_DISABLE_PIP_VERSION_CHECK=1
if [ -s /build/ca.crt ]; then
    export PIP_CERT=/build/ca.crt
fi
python3 -m venv /opt/tools
/opt/tools/bin/pip install --quiet --no-cache-dir --only-binary :all: --require-hashes \
    -r /opt/tools/requirements.txt
