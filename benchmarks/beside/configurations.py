"""What cpu.py measures: cases, and the configurations that take turns in each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from workload import SIZES

# Sequences embedded, and the share of the rounds: large models get few of both.
COUNTS = {"8M": 32, "35M": 16, "150M": 10, "650M": 8}
MOST_ROUNDS = {"8M": 99, "35M": 99, "150M": 1, "650M": 1}
# Sequences of a training step, and residues of the two assays (GB1's and GFP's lengths).
BATCH = 16
ASSAY_LENGTHS = (56, 237)

MEASURED = ("embed", "train", "startup")
# Sizes that are trained, started up and profiled, and what the slower peers embed.
SMALL = ("8M", "35M")
MEDIUM = (*SMALL, "150M")
ALL = tuple(SIZES)

EAGER_FILE = "eager, batch 8, file order"
SDPA_FILE = "SDPA, batch 8, file order"
SDPA_SORTED = "SDPA, batch 8, sorted"
SDPA_SINGLE = "SDPA, one by one"
SINGLE = "one by one"
RECOMPUTE = "recompute"


@dataclass(frozen=True)
class Configuration:
    """One engine, set up one way.

    once: measured in the first round alone (slow, or slow to compile).
    lengths: assays that it trains on, empty for all. kinds: cases it takes part in, empty for all.
    """

    engine: str
    dtype: str
    how: str = ""
    sizes: tuple[str, ...] = ALL
    once: bool = False
    lengths: tuple[int, ...] = ()
    kinds: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return self.engine + (f" ({self.how})" if self.how else "")

    @property
    def key(self) -> str:
        return f"{self.engine}|{self.dtype}|{self.how}"


@dataclass(frozen=True)
class Case:
    """kind: embed, train-full, train-lora or startup; length: of an assay's sequences."""

    kind: str
    size: str
    count: int
    length: int = 0

    @property
    def name(self) -> str:
        return f"{self.kind} {self.size}" + (f", {self.length} residues" if self.length else "")


EMBED = (
    Configuration("moltide", "float32"),
    Configuration("moltide", "bf16"),
    Configuration("moltide", "int8"),
    Configuration("Transformers", "float32", EAGER_FILE, SMALL, once=True),
    Configuration("Transformers", "float32", SDPA_FILE),
    Configuration("Transformers", "float32", SDPA_SORTED, MEDIUM),
    Configuration("Transformers", "float32", SDPA_SINGLE),
    Configuration("Transformers", "bf16", SDPA_SINGLE),
    Configuration("torch.compile", "float32", SINGLE, SMALL, once=True),
    Configuration("torch.compile", "bf16", SINGLE, SMALL, once=True),
    Configuration("ONNX Runtime", "float32", SINGLE, MEDIUM),
    Configuration("ONNX Runtime", "int8", SINGLE, MEDIUM),
    Configuration("OpenVINO", "float32", SINGLE),
    Configuration("OpenVINO", "bf16", SINGLE),
)
TRAIN = (
    Configuration("moltide", "float32"),
    Configuration("moltide", "bf16"),
    # What --recompute gives and costs; on the short assay gradients and optimizer set the memory.
    Configuration(
        "moltide", "float32", RECOMPUTE, lengths=ASSAY_LENGTHS[1:], kinds=("train-full",)
    ),
    Configuration("moltide", "bf16", RECOMPUTE, lengths=ASSAY_LENGTHS[1:], kinds=("train-full",)),
    Configuration("Transformers", "float32", "SDPA"),
    Configuration("Transformers", "bf16", "SDPA, autocast"),
    Configuration("torch.compile", "bf16", "autocast", once=True, lengths=ASSAY_LENGTHS[:1]),
    Configuration("torch.compile", "float32", once=True, lengths=ASSAY_LENGTHS[:1]),
)
STARTUP = (
    Configuration("moltide", "float32", "moltide embed one.fasta"),
    Configuration("Transformers", "float32", SDPA_SINGLE),
    Configuration("ONNX Runtime", "float32", SINGLE),
    Configuration("OpenVINO", "float32", SINGLE),
    Configuration("OpenVINO", "bf16", SINGLE),
)
# What a configuration imports, for the message when it is missing; PEFT is added for LoRA.
NEEDS = {
    "moltide": (),
    "Transformers": ("torch", "transformers"),
    "torch.compile": ("torch", "transformers"),
    "ONNX Runtime": ("torch", "transformers", "onnx", "onnxscript", "onnxruntime"),
    "OpenVINO": ("torch", "transformers", "openvino"),
}
ENGINES = tuple(NEEDS)


def needs(case: Case, configuration: Configuration) -> tuple[str, ...]:
    lora = case.kind == "train-lora" and configuration.engine != "moltide"
    return NEEDS[configuration.engine] + (("peft",) if lora else ())


def cases(kinds: list[str], sizes: list[str], count: int | None) -> Iterator[Case]:
    """`count`: sequences to embed at 8M; larger sizes get fewer in proportion."""
    for size in sizes:
        if "embed" in kinds:
            scaled = COUNTS[size] if count is None else max(1, count * COUNTS[size] // COUNTS["8M"])
            yield Case("embed", size, scaled)
        if "train" in kinds and size in SMALL:
            for mode in ("full", "lora"):
                for length in ASSAY_LENGTHS:
                    yield Case(f"train-{mode}", size, BATCH, length)
        if "startup" in kinds and size in SMALL:
            yield Case("startup", size, 1)


def configurations(case: Case, engines: list[str]) -> list[Configuration]:
    table = {"embed": EMBED, "startup": STARTUP}.get(case.kind, TRAIN)
    return [
        c
        for c in table
        if case.size in c.sizes
        and c.engine in engines
        and (not c.lengths or case.length in c.lengths)
        and (not c.kinds or case.kind in c.kinds)
    ]
