#!/bin/sh
# Run while an image is built, from the stage `tools`, which is mounted and does not stay: fills
# /opt/venv with exactly what the hashed requirements name.
#   install.sh REQUIREMENTS
set -eu

export PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_DISABLE_PIP_VERSION_CHECK=1
if [ -s /build/ca.crt ]; then
    export PIP_CERT=/build/ca.crt
fi
python3 -m venv --without-pip /opt/venv
# Wheels alone: nothing is compiled, so no image needs a compiler, and no build runs foreign code.
/opt/tools/bin/pip --python /opt/venv/bin/python install --quiet --no-cache-dir --no-compile \
    --no-deps --only-binary :all: --require-hashes -r "$1"
