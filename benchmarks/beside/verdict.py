"""The bars, as data, and what a run says about each of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from beside.configurations import RECOMPUTE, SDPA_FILE, Case
from beside.rows import Row

# Ratio to the best peer of the run, residues/s.
EMBED_BF16 = {"8M": 1.35, "35M": 1.2, "150M": 1.1, "650M": 1.1}
EMBED_FLOAT32 = 1.2
# Our fastest of float32 and bf16 against Transformers SDPA float32, batch 8, file order. Where the
# bars were set, float32's limit itself is 4.6 times that peer.
EMBED_COMMON = 6.0
EMBED_INT8 = 1.5  # against the best int8 peer
INT8_OVER_BF16 = 1.2  # against our own bf16
# Our fastest of float32 and bf16 against the best peer of both.
TRAIN = {"8M": 2.0, "35M": 1.6}
# Share of the limit of the matrix product, end to end, bf16.
SHARE = {"8M": 0.75, "35M": 0.85, "150M": 0.85, "650M": 0.85}
STARTUP_SECONDS = {"8M": 0.5}
EMBED_PEAK_MB = {"35M": 250.0}
TRAIN_PEAK_SHARE = 0.5  # of the peer's


@dataclass
class Verdict:
    case: str
    bar: str
    found: str
    against: str
    passed: bool | None  # None: nothing to compare with in this run

    @property
    def word(self) -> str:
        return {True: "passed", False: "**missed**", None: "not measured"}[self.passed]


def judge(rows: list[Row], limits: dict) -> list[Verdict]:
    cases: dict[Case, list[Row]] = {}
    for row in rows:
        if row.seconds:
            cases.setdefault(row.case, []).append(row)
    out: list[Verdict] = []
    for case, group in cases.items():
        judges = {"embed": _embedding, "startup": _startup}.get(case.kind, _training)
        out += judges(group, limits)
    return out


def _own(group: list[Row], dtype: str) -> Row | None:
    """Our row of this dtype in the default setting. Recomputed blocks, which no peer is measured
    with, are neither judged nor an excuse."""
    found = (
        r
        for r in group
        if r.configuration.engine == "moltide"
        and r.configuration.dtype == dtype
        and r.configuration.how != RECOMPUTE
    )
    return next(found, None)


def _fastest(group: list[Row], dtypes: tuple[str, ...]) -> Row | None:
    own = filter(None, (_own(group, dtype) for dtype in dtypes))
    return max(own, key=lambda r: r.rate, default=None)


def best_peer(group: list[Row], dtypes: tuple[str, ...]) -> Row | None:
    peers = (
        r for r in group if r.configuration.engine != "moltide" and r.configuration.dtype in dtypes
    )
    return max(peers, key=lambda r: r.rate, default=None)


def _ratio(case: str, bar: float, own: Row | None, peer: Row | None) -> Verdict:
    if own is None or peer is None:
        missing = "no moltide row" if own is None else "no peer"
        return Verdict(case, f"{bar:g}x", missing, "", None)
    ratio = own.rate / peer.rate
    return Verdict(
        case, f"{bar:g}x", f"{ratio:.2f}x",
        f"{peer.configuration.label}, {peer.configuration.dtype}", ratio >= bar,
    )  # fmt: skip


def _embedding(group: list[Row], limits: dict) -> Iterator[Verdict]:
    size = group[0].case.size
    own = {dtype: _own(group, dtype) for dtype in ("float32", "bf16", "int8")}
    plain = ("float32", "bf16")
    name = f"embed {size}"
    if own["bf16"] is not None:
        peer = best_peer(group, plain)
        yield _ratio(f"{name}, bf16, best peer", EMBED_BF16[size], own["bf16"], peer)
    if own["float32"] is not None:
        peer = best_peer(group, ("float32",))
        yield _ratio(f"{name}, float32, best float32 peer", EMBED_FLOAT32, own["float32"], peer)
    common = next((r for r in group if r.configuration.how == SDPA_FILE), None)
    ours = _fastest(group, plain)
    if ours is not None and common is not None:
        what = f"{name}, {ours.configuration.dtype}, Transformers as most run it"
        yield _ratio(what, EMBED_COMMON, ours, common)
    if own["int8"] is not None:
        peer = best_peer(group, ("int8",))
        yield _ratio(f"{name}, int8, best int8 peer", EMBED_INT8, own["int8"], peer)
        yield _ratio(f"{name}, int8, our bf16", INT8_OVER_BF16, own["int8"], own["bf16"])
    limit = limits.get("gemm", {}).get("bf16")
    if own["bf16"] is not None and limit:
        share = own["bf16"].flops / limit
        yield Verdict(
            f"{name}, bf16, share of the product's limit", f"{SHARE[size]:.0%}", f"{share:.0%}",
            f"{limit / 1e9:,.0f} GFLOP/s", share >= SHARE[size],
        )  # fmt: skip
    most = EMBED_PEAK_MB.get(size)
    for dtype in ("float32", "bf16"):
        row = own[dtype]
        if most and row is not None and row.peak_mb:
            peak = max(row.peak_mb)
            yield Verdict(
                f"{name}, {dtype}, peak memory", f"{most:g} MB", f"{peak:,.0f} MB", "", peak < most
            )


def _lightest(group: list[Row], dtype: str) -> Row | None:
    peers = (
        r
        for r in group
        if r.configuration.engine != "moltide" and r.configuration.dtype == dtype and r.peak_mb
    )
    return min(peers, key=lambda r: max(r.peak_mb), default=None)


def _training(group: list[Row], limits: dict) -> Iterator[Verdict]:
    case = group[0].case
    plain = ("float32", "bf16")
    own = [row for row in (_own(group, dtype) for dtype in plain) if row is not None]
    peer = best_peer(group, plain)
    bar = TRAIN[case.size]
    ours = _fastest(group, plain)
    if ours is not None:
        yield _ratio(f"{case.name}, {ours.configuration.dtype}, best peer", bar, ours, peer)
    met: list[tuple[bool, float, str]] = []
    for row in own:
        lightest = _lightest(group, row.configuration.dtype)
        if lightest is None or not row.peak_mb:
            continue
        most = max(lightest.peak_mb)
        share = max(row.peak_mb) / most
        yield Verdict(
            f"{case.name}, {row.configuration.dtype}, peak memory",
            f"{TRAIN_PEAK_SHARE:.0%} of the peer's", f"{share:.1%}",
            f"{lightest.configuration.label}, {most:,.0f} MB",
            share < TRAIN_PEAK_SHARE,
        )  # fmt: skip
        if peer is not None:
            ratio = row.rate / peer.rate
            both = ratio >= bar and share < TRAIN_PEAK_SHARE
            met.append((both, ratio, f"{ratio:.2f}x, {share:.1%}: {row.configuration.dtype}"))
    if met:
        # A run has one setting: speed of one and memory of another are not both.
        best = max(met)
        yield Verdict(
            f"{case.name}, both in one setting", f"{bar:g}x, {TRAIN_PEAK_SHARE:.0%}", best[2], "",
            best[0],
        )  # fmt: skip


def _startup(group: list[Row], limits: dict) -> Iterator[Verdict]:
    bar = STARTUP_SECONDS.get(group[0].case.size)
    own = _own(group, "float32")
    if bar is None or own is None:
        return
    peers = [r for r in group if r.configuration.engine != "moltide"]
    fastest = min(peers, key=lambda r: r.median, default=None)
    against = f"{fastest.configuration.label}, {fastest.median:.2f} s" if fastest else ""
    yield Verdict(
        group[0].case.name, f"{bar:g} s", f"{own.median:.2f} s", against, own.median < bar
    )
