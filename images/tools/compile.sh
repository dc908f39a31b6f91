#!/bin/sh
# Run last in the step that installs: byte code for /opt/venv, and no installer of the base stays.
set -eu

# Never checked against its source: the root file system is read-only. Left out is a file of torch's
# tests that is written in a newer Python.
cd /opt/venv/lib/python3*/site-packages
python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash -x '/_internal/py3[0-9]+_' "$PWD"

# pip and setuptools of the base, where Debian and the python image keep them.
rm -rf /usr/share/python-wheels /usr/lib/python3*/ensurepip /usr/local/lib/python3*/ensurepip \
    /usr/lib/python3/dist-packages/pip* /usr/lib/python3/dist-packages/setuptools* \
    /usr/local/lib/python3*/site-packages/pip* /usr/local/lib/python3*/site-packages/setuptools* \
    /usr/local/lib/python3*/site-packages/wheel* /usr/local/bin/pip* /usr/local/bin/wheel \
    /root/.cache
