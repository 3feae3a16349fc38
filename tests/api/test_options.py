"""Options outside what is allowed are named as they were typed: a flag, or a field in Python."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from command import one_error

from moltide.assay import read_assay
from moltide.cli.app import build, flags_of
from moltide.errors import ConfigError, DataError
from moltide.options import option, typed_options
from moltide.pretrained.loading import check_device
from moltide.pretraining import PretrainOptions
from moltide.training import TrainSettings

TINY = {"train": ["x.fasta"], "out": "run", "layers": 1, "width": 8, "heads": 2}


def pretraining(**options: Any) -> None:
    PretrainOptions(**{**TINY, **options}).check()


def training(**options: Any) -> None:
    dataclasses.replace(TrainSettings(), **options).check()


def message(check: Any, **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        check(**options)
    return str(caught.value)


def bad_values(check: Any, cls: Any) -> dict[str, Any]:
    """By name, a value that `check` refuses for its own sake: of text, or of the wrong size."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        for value in ("nonsense", -1):
            try:
                check(**{field.name: value})
            except ConfigError as error:
                if str(error).startswith(f"{field.name} is {value!r}; allowed: "):
                    found[field.name] = value
            except (AttributeError, TypeError):
                pass  # a path or a boolean, say
    return found


@pytest.mark.parametrize(
    ("command", "check", "cls", "at_least"),
    [("pretrain", pretraining, PretrainOptions, 32), ("finetune", training, TrainSettings, 20)],
)
def test_every_checked_option_is_named_as_typed(
    command: str, check: Any, cls: Any, at_least: int
) -> None:
    bad = bad_values(check, cls)
    assert len(bad) >= at_least, sorted(bad)
    flags = flags_of(build(command), [command])
    typed = sorted(name for name in bad if name in flags)
    assert {"max_minutes", "batch_tokens" if command == "pretrain" else "batch_size"} <= {*typed}
    for name in typed:
        assert flags[name] == "--" + name.replace("_", "-")
        with typed_options(flags):
            said = message(check, **{name: bad[name]})
        assert said.startswith(f"{flags[name]} is {bad[name]!r}; allowed: ")
        assert name == flags[name].lstrip("-") or name not in said


def test_options_that_do_not_go_together_are_named_as_typed() -> None:
    together: list[dict[str, Any]] = [
        {"mask_token": 0.8, "mask_random": 0.8},
        {"longest": 10, "shortest": 20},
        {"max_tokens": 5},
        {"cluster_weight": 0.5},
        {"heads": 3},
    ]
    flags = flags_of(build("pretrain"), ["pretrain"])
    for options in together:
        plain = message(pretraining, **options)
        with typed_options(flags):
            typed = message(pretraining, **options)
        for name in options:
            assert name in plain
            assert flags[name] in typed
        assert "--" not in plain


def test_an_option_with_a_value_is_written_as_it_would_be_typed() -> None:
    assert option("dtype", "bf16") == "dtype='bf16'"
    assert "device='cpu'" in message(check_device, device="cuda")
    with typed_options({"dtype": "--dtype", "device": "--device", "overwrite": "--overwrite"}):
        assert option("dtype", "bf16") == "--dtype bf16"
        assert option("overwrite", True) == "--overwrite"
        assert option("head_dropout") == "head_dropout"  # no flag of the command
        assert message(check_device, device="cuda").endswith("use --device cpu (or 'auto')")
    assert option("dtype") == "dtype"


@pytest.mark.parametrize(
    ("arguments", "start"),
    [
        (("--max-minutes", 0), "--max-minutes is 0.0; allowed: a number above 0"),
        (("--on-conflict", "keep"), "--on-conflict is 'keep'; allowed: report, set_aside, error"),
        (("--device", "cuda"), "--device is 'cuda': "),
        (("--rank", 1000), "--rank is 1000; allowed: an integer from 1 to"),
        (("--fasta", "a.fasta", "--sequence", "y"), "give the sequences as a column (--sequence)"),
    ],
)
def test_the_command_names_flags(
    arguments: tuple[Any, ...],
    start: str,
    table: Path,
    backbone: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = ("finetune", table, "--backbone", backbone, "--out", tmp_path / "run")
    assert one_error(capsys, *run, *arguments).removeprefix("error: ").startswith(start)


def test_python_names_fields(table: Path) -> None:
    with pytest.raises(ConfigError, match=r"^on_conflict is 'keep'; allowed: report, "):
        read_assay(table, on_conflict="keep")


def test_what_to_do_about_a_table_is_said_as_it_would_be_typed(
    backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.csv"
    rows = [f"{'ACDEFGHIKL'[: i % 10]}MKTAYIAK{'LKIHGFEDCA'[i % 10 :]},{i}.5" for i in range(20)]
    bad.write_text("sequence,y\n" + "\n".join([*rows, "MKT1AY,3.5"]) + "\n")
    with pytest.raises(DataError, match=r"\(on_bad_row='set_aside'\)$"):
        read_assay(bad)
    said = one_error(capsys, "finetune", bad, "--backbone", backbone, "--out", tmp_path / "run")
    assert said.endswith("(--on-bad-row set_aside)")
