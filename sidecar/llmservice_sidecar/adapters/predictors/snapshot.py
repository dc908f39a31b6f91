"""The online predictor's state as bytes: arrays only, no text, nothing executable."""

from __future__ import annotations

import io
import zipfile
from typing import Final

import numpy as np
import numpy.typing as npt

from llmservice_sidecar.adapters.predictors.calibration import Calibration
from llmservice_sidecar.adapters.predictors.features import FEATURE_SET
from llmservice_sidecar.adapters.predictors.online import OnlinePredictor
from llmservice_sidecar.adapters.predictors.regression import RecursiveRegression

FORMAT: Final = 1
MAX_BYTES: Final = 8_000_000

_REGRESSION: Final = ("dense", "covariance", "hashed", "variance")
_CALIBRATION: Final = ("weight", "ratios", "quantile")


class SnapshotError(ValueError):
    """The bytes are no snapshot that this version understands; the message says why."""


def save(predictor: OnlinePredictor) -> bytes:
    """The whole state; `load` gives a predictor that predicts and learns exactly the same."""
    regression, calibration = predictor.regression, predictor.calibration
    numbers = (FORMAT, FEATURE_SET, regression.samples, regression.noise, regression.surprise)
    arrays: dict[str, npt.NDArray[np.float64]] = {
        "header": np.array(numbers),
        **{name: getattr(regression, name) for name in _REGRESSION},
        **{name: getattr(calibration, name) for name in _CALIBRATION},
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def load(payload: bytes) -> OnlinePredictor:
    """The predictor that was saved.

    Raises SnapshotError for anything else: another format or feature set, a wrong shape, a value
    that is not finite.
    """
    if len(payload) > MAX_BYTES:
        raise SnapshotError(f"{len(payload)} bytes; a snapshot has at most {MAX_BYTES}")
    predictor = OnlinePredictor()
    try:
        with np.load(io.BytesIO(payload), allow_pickle=False) as arrays:
            _restore_header(predictor.regression, np.asarray(arrays["header"], dtype=np.float64))
            for name in _REGRESSION:
                _restore(predictor.regression, name, arrays[name])
            for name in _CALIBRATION:
                _restore(predictor.calibration, name, arrays[name])
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise SnapshotError(f"not a readable snapshot: {error}") from error
    return predictor


def _restore_header(regression: RecursiveRegression, header: npt.NDArray[np.float64]) -> None:
    if header.shape != (5,) or not np.isfinite(header).all():
        raise SnapshotError(f"header of shape {header.shape}, expected five finite numbers")
    if (header[0], header[1]) != (FORMAT, FEATURE_SET):
        raise SnapshotError(
            f"format {header[0]:g}, feature set {header[1]:g}; "
            f"this version reads {FORMAT}, {FEATURE_SET}: train it again"
        )
    regression.samples = int(header[2])
    regression.noise = float(header[3])
    regression.surprise = float(header[4])


def _restore(
    owner: RecursiveRegression | Calibration, name: str, found: npt.NDArray[np.float64]
) -> None:
    shape = getattr(owner, name).shape
    if found.shape != shape or found.dtype != np.float64 or not np.isfinite(found).all():
        raise SnapshotError(f"{name}: {found.dtype} {found.shape}, expected finite float64 {shape}")
    setattr(owner, name, found.copy())
