"""`moltide info`."""

from __future__ import annotations

from typing import Any

from moltide.cli import common
from moltide.wording import bytes_text, plural

HELP = """Show version, processor, instruction sets, threads, memory, libraries, bundled models."""
EPILOG = "Example:  moltide info --json"

LIBRARIES = {
    "needed": (
        *("numpy", "scipy", "scikit-learn", "pandas", "safetensors", "huggingface_hub"),
        *("typer", "rich", "tqdm", "matplotlib", "jinja2", "pyfastx", "rapidfuzz"),
    ),
    "optional": ("pyarrow", "openpyxl", "polars", "tensorboard", "transformers", "peft", "torch"),
}


def info(json_line: common.Json = False) -> None:
    found = facts()
    if json_line:
        import json

        print(json.dumps(found))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column()
    for label, text in _lines(found):
        table.add_row(label, text)
    Console(highlight=False).print(table)


def facts() -> dict[str, Any]:
    """Everything, as plain JSON types."""
    import platform

    import moltide
    from moltide import _engine
    from moltide.finetune.environment import library_version
    from moltide.pretrained import bundled_names

    return {
        "moltide": moltide.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _engine.cpu_model(),
        "instruction_sets": list(_engine.available_isas()),
        "instruction_set": _engine.active_isa(),
        "threads": _engine.num_threads(),
        "memory_available_bytes": int(_engine.available_memory()),
        "devices": ["cpu"],
        "libraries": {
            name: library_version(name) for group in LIBRARIES.values() for name in group
        },
        "bundled_models": bundled_names(),
    }


def _lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    libraries = found["libraries"]

    def listed(group: str) -> str:
        return ", ".join(f"{name} {libraries[name] or '(missing)'}" for name in LIBRARIES[group])

    return [
        ("moltide", f"{found['moltide']} (Python {found['python']}, {found['system']})"),
        ("processor", f"{found['processor']}, {plural(found['threads'], 'thread')}"),
        (
            "instructions",
            f"{found['instruction_set']} in use; available: {', '.join(found['instruction_sets'])}",
        ),
        ("memory", f"{bytes_text(found['memory_available_bytes'])} free"),
        ("devices", ", ".join(found["devices"])),
        ("libraries", listed("needed")),
        ("optional", listed("optional")),
        ("bundled", ", ".join(found["bundled_models"]) or "no models"),
    ]


COMMAND = info
