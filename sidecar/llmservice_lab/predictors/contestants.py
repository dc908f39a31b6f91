"""Who stands in docs/predictors.md: baselines, the default predictor, and what a folder holds.

The folder has fine-tuned proxy models as `llmservice train` writes them (a folder each) and bases
of the default predictor (`*.safetensors`); names of files and folders become names of lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROXY_FILE: Final = "model.onnx"
BEST_HEAD: Final = "listmle"  # of the fine-tuned ones, by its mean rank correlation on val
ALL_ROWS: Final = "default-all"  # the default's model trained on every row, where the folder has it


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """A line of the tables. `spec`: as `llmservice eval --predictor` takes it.

    `parts`: it is the mean (of logarithms) of what these predictors say, and `spec` is empty.
    `levelled`: it gets the level and spread of each served model from val, see `levels`; without,
    what it says is taken as it is. `shipped`: what it knows was learned from permissive rows alone.
    """

    name: str
    about: str
    spec: str = ""
    parts: tuple[str, ...] = ()
    online: bool = False
    levelled: bool = True
    shipped: bool = False


BASELINES: Final = (
    Contestant(name="constant", spec="constant", about="the same for every prompt"),
    Contestant(
        name="prompt length", spec="prompt-length", about="a longer prompt, a longer answer"
    ),
    Contestant(name="TF-IDF + ridge", spec="tfidf-ridge", about="words and pairs of words"),
    Contestant(
        name="embedding + LightGBM",
        spec="embedding-lightgbm",
        about="MiniLM sentence embedding and hand-made features, boosted trees",
    ),
    Contestant(
        name="blend", parts=("tfidf-ridge", "embedding-lightgbm"), about="mean of the two above"
    ),
)
DEFAULT: Final = (
    Contestant(name="default", spec="default", about="as it comes with the program", shipped=True),
    Contestant(
        name="default, as told",
        spec="default",
        about="the same, without knowing how much the served model writes",
        levelled=False,
        shipped=True,
    ),
    Contestant(
        name="default, online",
        spec="default",
        about="in service: it learns each answer after it has predicted it",
        online=True,
        levelled=False,
        shipped=True,
    ),
)
# What the heads of `llmservice train` were published as.
_HEADS: Final[Mapping[str, str]] = {
    "regression-l1": "SSJF (arXiv 2404.08509), regression, L1 loss",
    "regression-mse": "SSJF, regression, squared loss",
    "multiclass": "SSJF, five classes of length",
    "ordinal": "SSJF, ordered classes",
    "listmle": "LTR (arXiv 2408.15792), listwise ranking",
    "pairwise-margin": "PARS (arXiv 2510.03243), pairs with a margin",
    "log-t": "TIE, Student's t of the logarithm",
    "retrieval": "ALISE, lengths of the most similar prompts",
}


def contestants_of(folder: Path | None) -> list[Contestant]:
    """All of them, those of the folder in order of name. Raises ValueError for a wrong folder."""
    found: list[Contestant] = []
    if folder is not None:
        if not folder.is_dir():
            raise ValueError(f"artefacts {folder}: not a folder")
        found = [
            Contestant(name=path.stem, spec=str(path), about=_about(path))
            for path in sorted(folder.iterdir())
            if (path / PROXY_FILE).is_file() or path.suffix == ".safetensors"
        ]
    return [*BASELINES, *found, *_ensembles(found), *DEFAULT]


def _ensembles(found: Sequence[Contestant]) -> list[Contestant]:
    """What several say together: as good as it gets here, whatever it costs."""
    bases = [each.spec for each in found if not is_proxy(each)]
    ranked = [each.spec for each in found if each.name == BEST_HEAD]
    blends = [
        Contestant(
            name=f"blend with {Path(base).stem}",
            parts=("tfidf-ridge", "embedding-lightgbm", base),
            about="mean of the three",
        )
        for base in bases
    ]
    return blends + [
        Contestant(
            name=f"blend with {Path(base).stem} and {BEST_HEAD}",
            parts=(proxy, "embedding-lightgbm", base),
            about="mean of the three, chosen on val",
        )
        for base in bases
        for proxy in ranked
    ]


def is_proxy(contestant: Contestant) -> bool:
    """Whether it is one of the fine-tuned encoders."""
    return bool(contestant.spec) and (Path(contestant.spec) / PROXY_FILE).is_file()


def _about(path: Path) -> str:
    if path.suffix == ".safetensors":
        return "the default predictor's model, trained on all rows"
    return f"MiniLM fine-tuned: {_HEADS.get(path.name, path.name)}"
