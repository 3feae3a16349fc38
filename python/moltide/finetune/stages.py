"""The stages of a run, in order; each leaves what a resumed run needs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from moltide.assay_model import AssayModel, Prediction, fit_assay_model
from moltide.assay_model.backbone import open_backbone
from moltide.assay_model.files import CONFIG, FORMAT, VERSION, describe, save_weights
from moltide.assay_model.pace import seconds_a_pass
from moltide.assay_model.uncertainty import INTERVAL
from moltide.atomic import atomic_write_text
from moltide.baselines import TimeLimit
from moltide.baselines.result import CURVE_BASELINE
from moltide.company import Comparison
from moltide.finetune import folder as names
from moltide.finetune.account_stage import write_accounts
from moltide.finetune.baseline_stage import run_baselines
from moltide.finetune.budget import rows_in_time
from moltide.finetune.curve import CurvePoint, in_words, learning_curve, primary_metric
from moltide.finetune.environment import environment
from moltide.finetune.estimate import strip
from moltide.finetune.judge import judge
from moltide.finetune.planned import PlannedRun
from moltide.finetune.report_stage import Findings, write_run_report
from moltide.finetune.results import (
    TargetResult,
    headline,
    measure,
    metrics_document,
    predictions_csv,
    split_csv,
    to_json,
    verdict_details,
)
from moltide.finetune.single import compare_alone
from moltide.finetune.table import kinds_of, rows_of
from moltide.kinds import UNIT
from moltide.options import option
from moltide.training import CheckpointFile, FitResult, catch_signals
from moltide.training.log import JsonLog
from moltide.verdict import METRIC_LABELS
from moltide.wording import plural

if TYPE_CHECKING:
    from moltide.baselines import BaselineResult
    from moltide.encoder import Encoder


class Stages(PlannedRun):
    """What a planned run does, from its baselines to its report."""

    def run(self) -> dict[str, Any]:
        """Do everything, and return the content of metrics.json."""
        folder, voice = self.folder, self.voice
        if self.budget.limited:
            self._leave_rows_out()
        atomic_write_text(folder.file(names.SPLIT), split_csv(self.table, self.split))
        self.cliffs = write_accounts(self)
        log = JsonLog(folder.file(names.LOG))
        baselines = self._baselines()
        model, result = self._train(log)
        with voice.busy("predicting the test rows"):
            predictions = self._predict(model)
        targets = self._judge(predictions["test"], baselines)
        missing = self._missing_intervals(model)
        atomic_write_text(
            folder.file(names.PREDICTIONS), predictions_csv(self.table, self.split, predictions)
        )
        save_weights(model, folder.path)
        described = describe(model)
        alone = self._alone(model, predictions["test"], log)
        metrics = metrics_document(self.table, self.split, self.split_name, targets, alone)
        curve = self._curve(model, result, targets, baselines, log)
        log.close()
        if self.cut_short:
            metrics["cut_short"] = self.cut_short
        config = self._config(described, result, curve)
        if self.options.report:
            with voice.busy("writing the report"):
                found = Findings(targets, alone, predictions, missing, baselines, result, curve)
                write_run_report(self, config, metrics, found)
        atomic_write_text(folder.file(names.METRICS), to_json(metrics))
        atomic_write_text(folder.file(CONFIG), to_json(config))
        folder.finish()
        self._conclude(metrics, predictions["test"], missing)
        for line in self.budget.overrun():
            voice.say(line)
        return json.loads(to_json(metrics))  # type: ignore[no-any-return]

    def _leave_rows_out(self) -> None:
        """Of the validation and test rows, what there is no time to predict."""
        budget, seed = self.budget, int(self.settings.seed)
        with self.voice.busy("timing the backbone"):
            budget.a_pass = seconds_a_pass(self.encoder, self.table.sequences, seed)
        kept = self.folder.checkpoint / "rows.json"
        self.split, cut = rows_in_time(self.split, budget, kept, self.folder.fingerprint)
        if cut:
            self.cut_short.append(cut)
            self.voice.say(f"to end in time ({option('max_minutes')}), {cut}")

    def _time_limit(self) -> TimeLimit | None:
        budget, wildtype = self.budget, self.table.wildtype
        if not budget.limited:
            return None
        # Masked marginals take a pass a position.
        variants = wildtype is not None and self.table.substitutions is not None
        passes = len(wildtype) if variants and wildtype is not None else None
        return TimeLimit(budget.for_baselines, budget.a_pass, passes)

    def _baselines(self) -> list[list[BaselineResult]]:
        """For each target all baselines."""
        self.voice.section("baselines")
        with self.voice.busy("fitting baselines") as status:

            def progress(done: int, total: int, label: str) -> None:
                if status is not None:
                    status.update(f"baseline {min(done + 1, total)} of {total}: {label}")

            results = run_baselines(
                self.table,
                self.split,
                self.encoder,
                int(self.settings.seed),
                self.folder.checkpoint,
                self.folder.fingerprint,
                self._time_limit(),
                progress,
            )
        for kind, columns in kinds_of(self.table):
            # Of targets of one kind everything but the predictions is said at once.
            task = kind if len(columns) < len(results) else self.table.task
            for at, one in enumerate(results[columns[0]]):
                if one.cut_short:
                    self.cut_short.append(f"{one.label}: {one.cut_short}")
                if one.predictions is None:
                    self.voice.say(f"{one.label}: none ({one.note})")
                    continue
                each = [self._measured(j, results[j][at]) for j in columns]
                how = f" ({one.cut_short})" if one.cut_short else ""
                metric = METRIC_LABELS[primary_metric(task)]
                self.voice.say(f"{one.label}{how}: test {metric} {headline(task, each):.3f}")
        return results

    def _measured(self, column: int, baseline: BaselineResult) -> dict[str, float]:
        assert baseline.predictions is not None
        return self._measure(column, baseline.predictions)

    def _train(self, log: JsonLog) -> tuple[AssayModel, FitResult]:
        voice, settings = self.voice, self.settings
        voice.section("training")
        if self.budget.limited:
            uncertain = len(self.split.index("train")) + len(self.split.index("valid"))
            minutes = self.budget.training_minutes(
                uncertain, self.options.learning_curve, self._compares
            )
            settings = dataclasses.replace(settings, max_minutes=minutes)
        with catch_signals() as stop:
            model, result = fit_assay_model(
                self.encoder,
                rows_of(self.table, self.split.index("train")),
                rows_of(self.table, self.split.index("valid")),
                self.spec,
                settings,
                numbering=self.table.numbering,
                checkpoint=CheckpointFile(self.folder.checkpoint / "train.safetensors"),
                fingerprint=self.folder.fingerprint,
                log=log,
                view=voice.training(self.spec.metric, "training", f"{UNIT[self.table.kind]}s"),
                stop=stop,
                say=voice.say,
            )
        model.chemistry = self.options.chemistry()
        score = (
            ""
            if result.best_score is None
            else f", valid {self.spec.metric} {result.best_score:.3f}"
        )
        ended = {"patience": "no better epoch for a while", "time": "time is up"}
        why = f"; ended early: {ended[result.stopped]}" if result.stopped in ended else ""
        voice.say(f"{result.kept} kept{score} ({result.steps:,} steps{why})")
        if result.planned == "time" or result.stopped == "time":
            steps = plural(result.steps, "step")
            epochs = f"{len(result.history)} of {settings.epochs} epochs begun"
            self.cut_short.append(f"training: {steps}, {epochs}")
        return model, result

    def _predict(self, model: AssayModel) -> dict[str, Prediction]:
        # Without validation rows there are no intervals.
        known = model.uncertainty is not None or model.sets is not None
        interval = INTERVAL if known else None
        return {
            part: model.predict(
                [self.table.sequences[i] for i in self.split.index(part)],
                interval=interval,
                domain=True,
            )
            for part in ("valid", "test")
        }

    def _measure(self, column: int, prediction: np.ndarray) -> dict[str, float]:
        return measure(self.table, self.split.index("test"), column, prediction)

    def _judge(
        self, test: Prediction, baselines: Sequence[Sequence[BaselineResult]]
    ) -> list[TargetResult]:
        seed = int(self.settings.seed)
        known = ~np.isnan(self.table.targets)
        train, held = (known[self.split.index(part)].sum(axis=0) for part in ("train", "test"))
        results = []
        for j, name in enumerate(self.table.target_names):
            column, own = test.of(self.spec, j), baselines[j]
            measured = {
                one.name: self._measured(j, one) for one in own if one.predictions is not None
            }
            alone = self.table.endpoint(j)
            verdict = judge(alone, self.split, self.split_name, column, own, seed)
            model = self._measure(j, column)
            results.append(
                TargetResult(
                    name, alone.task, int(train[j]), int(held[j]), model, measured, verdict
                )
            )
        return results

    @property
    def _compares(self) -> bool:
        """Whether targets are fitted alone too."""
        return self.options.compare_single and len(self.table.target_names) > 1

    def _alone(self, model: AssayModel, test: Prediction, log: JsonLog) -> list[Comparison | None]:
        """Each target fitted alone; None where there was no time for it."""
        if not self._compares:
            return []
        self.voice.section("each target alone")
        compared: list[Comparison | None] = []
        k = len(self.table.target_names)
        for j, name in enumerate(self.table.target_names):
            minutes = self.budget.alone_minutes(k - j, self.options.learning_curve)
            if minutes is not None and minutes <= 0:
                compared.append(None)
                self.cut_short.append(f"{name} alone: left out")
                self.voice.say(f"{name}: no time for it ({option('max_minutes')})")
                continue
            one = compare_alone(self, j, test, lambda: self._fresh(model), log, minutes)
            compared.append(one)
            self.voice.say(f"{name}: {one.text}")
        return compared

    def _curve(
        self,
        model: AssayModel,
        result: FitResult,
        targets: Sequence[TargetResult],
        baselines: Sequence[Sequence[BaselineResult]],
        log: JsonLog,
    ) -> list[CurvePoint]:
        if not self.options.learning_curve:
            return []
        self.voice.section("learning curve")
        full = len(self.split.index("train"))
        reached = headline(self.table.task, [one.model for one in targets])
        known = [CurvePoint("model", full, reached)]
        name = CURVE_BASELINE[self.table.kind]
        beside = [one for own in baselines for one in own if one.name == name]
        # Targets of one kind were fitted together, and say the same time.
        seconds = sum(beside[columns[0]].fit_seconds for _, columns in kinds_of(self.table))
        points, left_out = learning_curve(
            self.table,
            self.split,
            self.spec,
            self.settings,
            result,
            known,
            fresh=lambda: self._fresh(model),
            folder=self.folder,
            voice=self.voice,
            log=log,
            budget=self.budget,
            baseline_seconds=seconds / beside[0].settings["rows"],
        )
        for method, sizes in left_out.items():
            listed = ", ".join(f"{n:,}" for n in sizes)
            self.cut_short.append(f"learning curve: no point of {method} at {listed} training rows")
            self.voice.say(f"no time for {method} at {listed} rows ({option('max_minutes')})")
        for point in points:
            self.voice.say(
                f"{in_words(point.method)}, {point.n_train:,} rows: test {self.spec.metric} "
                f"{point.value:.3f}"
            )
        held = len(self.split.index("valid"))
        if held and any(point.method == name for point in points):
            self.voice.say(
                f"(training rows alone; the baseline {in_words(name)} is fitted to the {held:,} "
                "validation rows too)"
            )
        return points

    def _fresh(self, model: AssayModel) -> Encoder:
        """The backbone as it was; the weights of `model` are on disk by now."""
        if model.mode != "full":
            strip(self.encoder)
            return self.encoder
        # One copy of a large model at a time: the fine-tuned one goes first.
        del model.encoder
        backbone = self.options.backbone
        assert backbone is not None
        self.encoder = open_backbone(backbone, self.options.device, self.options.dtype)
        model.encoder = self.encoder
        return self.encoder

    def _config(
        self, described: dict[str, Any], result: FitResult, curve: list[CurvePoint]
    ) -> dict[str, Any]:
        settings = {**self.settings.to_dict(), "max_minutes": self.options.settings.max_minutes}
        panel = [one.to_dict() for one in self.thresholds]
        return {
            **({"thresholds": panel} if panel else {}),
            "format": FORMAT,
            "format_version": VERSION,
            "model": described,
            "settings": settings,
            "training": {
                "steps": result.steps,
                "best_epoch": result.best_epoch,
                "best_score": result.best_score,
                "stopped": result.stopped,
                "seconds": round(result.seconds, 2),
                "history": [dataclasses.asdict(one) for one in result.history],
            },
            "learning_curve": [dataclasses.asdict(point) for point in curve],
            "table": str(self.options.assay),
            "data": self.table.summary.to_dict(),
            **({"remarks": self.remarks} if self.remarks else {}),
            "split": self.split.to_dict(),
            "identity": self.folder.identity,
            "environment": environment(),
        }

    def _missing_intervals(self, model: AssayModel) -> list[str]:
        return model.missing_intervals(INTERVAL)

    def _conclude(self, metrics: dict[str, Any], test: Prediction, missing: list[str]) -> None:
        voice = self.voice
        voice.section("result")
        outside = int((~test.in_domain).sum())
        if outside:
            voice.say(
                f"{outside:,} of {len(test.notes):,} test sequences lie outside the training domain"
            )
        covered = self._coverage(test)
        if covered is not None:
            voice.say(f"{INTERVAL:.0%} intervals hold {covered:.0%} of the test values")
        for line in missing:
            voice.say(line)
        if self.cut_short:
            parts = plural(len(self.cut_short), "part")
            voice.say(f"{parts} of the run cut short to end in time; {names.METRICS} lists them")
        voice.verdict(str(metrics["verdict"]), verdict_details(metrics))

    def _coverage(self, test: Prediction) -> float | None:
        if test.low is None or test.high is None:
            return None
        index = self.split.index("test")
        y = self.table.targets[index]
        known = ~np.isnan(y) & (self.table.censor[index] == 0) & ~np.isnan(test.low)
        inside = (y >= test.low) & (y <= test.high)
        return float(inside[known].mean()) if known.any() else None
