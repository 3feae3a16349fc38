"""The stages of a run, in order; each leaves what a resumed run needs."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moltide.atomic import atomic_write_bytes, atomic_write_text
from moltide.options import option
from moltide.pretraining import folder as names
from moltide.pretraining.corpus import Corpus
from moltide.pretraining.descriptor_targets import DescriptorTargets, token_count_r2
from moltide.pretraining.descriptors import COUNT
from moltide.pretraining.events import Events
from moltide.pretraining.folder import PretrainFolder
from moltide.pretraining.holdout import Parts, holdout_csv
from moltide.pretraining.loop import Progress, Setup, stored_plan, train
from moltide.pretraining.neighbours import fit_neighbours
from moltide.pretraining.options import PretrainOptions
from moltide.pretraining.order import Assembler, Batch, Order
from moltide.pretraining.plan import (
    Plan,
    flops_a_token,
    make_plan,
    parameter_count,
    step_memory,
    time_a_step,
)
from moltide.pretraining.results import Facts, card, configuration, metrics_document, verdict
from moltide.pretraining.start import engine_trainer
from moltide.pretraining.windows import HiddenWindows, hide, perplexity
from moltide.tokenizer import FRAME
from moltide.training.checkpoint import CheckpointFile
from moltide.training.interrupt import catch_signals
from moltide.training.log import JsonLog
from moltide.training.progress import clock
from moltide.wording import bytes_text, count_text

if TYPE_CHECKING:
    from moltide.encoder import Encoder
    from moltide.finetune.voice import Voice

# Validation is the same in every run: share of residues hidden, and the seed of which.
VALID_RATE, VALID_SEED = 0.15, 1
# Share of the time left (max_minutes) that steps are planned into; the rest is for validation.
_FOR_STEPS = 0.93
_HEAD = ("head.out.weight", "head.out.bias")


def validation_windows(
    options: PretrainOptions, corpus: Corpus, valid: Corpus | None, parts: Parts
) -> HiddenWindows:
    """The validation set with its hidden residues."""
    records = parts.held_out if valid is None else np.arange(len(valid), dtype=np.int64)
    return hide(valid or corpus, records, options.longest, VALID_RATE, VALID_SEED)


class Stages:
    """What a run does once its data are read and split, from its plan to its report."""

    def __init__(
        self,
        *,
        options: PretrainOptions,
        encoder: Encoder,
        folder: PretrainFolder,
        voice: Voice,
        started: float,
        corpus: Corpus,
        valid: Corpus | None,
        parts: Parts,
        windows: HiddenWindows,
        order: Order,
    ) -> None:
        self.options, self.encoder, self.folder, self.voice = options, encoder, folder, voice
        self.started, self.corpus, self.valid, self.parts = started, corpus, valid, parts
        self.windows, self.order = windows, order
        sample = windows.sample(options.valid_tokens, VALID_SEED)
        self.sample = sample if sample.count else windows
        self.assemble = Assembler(corpus)
        self.descriptors: DescriptorTargets | None = None
        if options.descriptors:
            self.descriptors = DescriptorTargets(corpus, parts.train)
        self.checkpoint = CheckpointFile(folder.checkpoint / "train.safetensors")
        self.plan = Plan(1, 0, 1, 1.0, "steps")

    def dataset(self, batch: Batch) -> tuple[Any, ...]:
        """What the trainer is given: tokens and offsets, and descriptors where they are learned."""
        tokens = self.assemble(batch.begins, batch.lengths)
        if self.descriptors is None:
            return tokens
        return *tokens, self.descriptors.of_windows(self.corpus, batch.begins, batch.lengths)

    def _also(self) -> dict[str, float]:
        if self.descriptors is None:
            return {}
        return {"valid_descriptors_r2": self.descriptors.model_r2(self.encoder, self.sample)}

    def minutes_left(self) -> float | None:
        """Of max_minutes."""
        if self.options.max_minutes is None:
            return None
        return max(0.02, self.options.max_minutes - (time.monotonic() - self.started) / 60)

    def estimate(self) -> dict[str, Any]:
        """The plan and its cost, said and as a document."""
        with self.voice.busy("timing a few steps"):
            seconds = time_a_step(self.encoder, self.options, self.order, self.dataset)
        self._make_plan(seconds)
        memory = step_memory(self.encoder, self.options)
        tokens = self.plan.steps * self.options.batch_tokens
        mean = float(np.minimum(self.order.lengths, self.options.longest).mean()) + FRAME
        flops = flops_a_token(self.encoder, mean) * tokens
        self.voice.section(
            "model",
            [
                *self._model_lines(),
                f"memory of a step: {bytes_text(memory['total'])}; free: "
                f"{bytes_text(memory['available'])}",
                f"compute: {flops:.2e} floating-point operations in all; "
                f"{1000 * seconds:,.0f} ms a step "
                f"({self.options.batch_tokens / max(1e-9, seconds):,.0f} tokens/s here): about "
                f"{clock(seconds * self.plan.steps)} of training",
            ],
        )
        return {
            **self.plan.to_dict(),
            "parameters": parameter_count(self.encoder),
            "tokens": tokens,
            "flops": flops,
            "memory_bytes": memory["total"],
            "seconds_a_step": seconds,
            "seconds": seconds * self.plan.steps,
        }

    def _make_plan(self, seconds: float | None) -> None:
        options = self.options
        left = self.minutes_left()
        if left is not None:
            import dataclasses

            options = dataclasses.replace(options, max_minutes=left * _FOR_STEPS)
        self.plan = make_plan(options, self.order, seconds)

    def _model_lines(self) -> list[str]:
        config, options, plan = self.encoder.config, self.options, self.plan
        passes = plan.steps / plan.steps_an_epoch
        why = f" (cut to {option('max_minutes')})" if plan.why == "time" else ""
        return [
            f"{config['layers']} layers, width {config['width']}, {config['heads']} heads, "
            f"{count_text(parameter_count(self.encoder))} parameters, {self.encoder.dtype}",
            f"{plan.steps:,} steps{why} of {options.batch_tokens:,} tokens: about "
            f"{count_text(plan.steps * options.batch_tokens)} tokens, {passes:.2f} epochs; "
            f"learning rate {options.peak_lr:g} ({options.schedule}, warm-up {plan.warmup:,})",
        ]

    def run(self) -> dict[str, Any]:
        """Do everything, and return the content of metrics.json."""
        folder, voice, options = self.folder, self.voice, self.options
        known = stored_plan(self.checkpoint)
        if known is not None:
            self.plan = known
        else:
            seconds = None
            if options.max_minutes is not None:
                with voice.busy("timing a few steps"):
                    seconds = time_a_step(self.encoder, options, self.order, self.dataset)
            self._make_plan(seconds)
        voice.section("model", self._model_lines())
        self._write_lists()
        baselines = self._baselines()
        with contextlib.closing(JsonLog(folder.file(names.LOG))) as log:
            state = self._train(log)
        final, learned = self._final()
        facts = self._facts(state)
        metrics = metrics_document(facts, final, baselines, learned)
        atomic_write_text(folder.file(names.METRICS), _json(metrics))
        atomic_write_text(folder.file(names.CARD), card(facts, metrics))
        if options.report:
            with voice.busy("writing the report"):
                from moltide.pretraining.report import write_pretraining_report

                write_pretraining_report(
                    facts,
                    metrics,
                    baselines["sample"],
                    folder.file(names.LOG),
                    folder.file(names.REPORT),
                )
        atomic_write_text(folder.file(names.TRAINING), _json(configuration(facts, metrics)))
        folder.finish()
        voice.verdict(verdict(metrics))
        return metrics

    def _corpora(self) -> list[Corpus]:
        return [self.corpus] if self.valid is None else [self.corpus, self.valid]

    def _write_lists(self) -> None:
        skipped = self.folder.file(names.SKIPPED)
        lists = [one.skipped_csv() for one in self._corpora() if one.info["skipped"]]
        if lists:
            header = lists[0].partition("\n")[0]
            rows = "".join(text.partition("\n")[2] for text in lists)
            atomic_write_text(skipped, f"{header}\n{rows}")
            self.voice.say(f"{skipped}: the records left out, with reasons")
        if self.valid is None:
            path = self.folder.file(names.HOLDOUT)
            atomic_write_text(path, holdout_csv(self.corpus, self.parts))

    def _baselines(self) -> dict[str, Any]:
        """Perplexities of the baselines on all validation windows and on the sample."""
        kept = self.folder.checkpoint / "baselines.json"
        with contextlib.suppress(OSError, ValueError):
            return dict(json.loads(kept.read_text(encoding="utf-8")))
        with self.voice.busy("counting neighbours for the k-mer model"):
            model = fit_neighbours(self.corpus, self.parts.train, VALID_RATE, VALID_SEED)
            found: dict[str, Any] = {
                "all": model.perplexities(self.windows),
                "sample": model.perplexities(self.sample),
                "strengths": list(model.strengths),
                "residues": model.residues,
            }
            if self.descriptors is not None:
                found["descriptors"] = token_count_r2(
                    self.descriptors, self.corpus, self.parts.train, self.windows
                )
        atomic_write_text(kept, _json(found))
        return found

    def _train(self, log: JsonLog) -> Progress:
        options, voice = self.options, self.voice
        voice.section("training")
        trainer = engine_trainer(self.encoder, options, self.plan.steps, self.plan.warmup)
        events = Events(self.folder.file(names.EVENTS) if options.tensorboard else None)
        with contextlib.closing(events), catch_signals() as stop:
            state = train(
                Setup(
                    trainer=trainer,
                    order=self.order,
                    dataset=self.dataset,
                    plan=self.plan,
                    batch_tokens=options.batch_tokens,
                    max_minutes=self.minutes_left(),
                    evaluate=lambda: perplexity(self.encoder, self.sample),
                    also=self._also,
                    keep=self._save if options.keep == "best" else lambda: None,
                    checkpoint=self.checkpoint,
                    save_every=options.save_every,
                    fingerprint=self.folder.fingerprint,
                    log=log,
                    view=voice.training("perplexity", "training", self.corpus.symbols.unit),
                    stop=stop,
                    event=events.scalar,
                )
            )
        if options.keep == "last":
            self._save()
        kept = state.best_step if options.keep == "best" else state.step
        ended = "; ended early: time is up" if state.stopped == "time" else ""
        voice.say(
            f"step {kept:,} of {state.step:,} kept; {count_text(state.tokens)} tokens seen{ended}"
        )
        return state

    def _facts(self, state: Progress) -> Facts:
        from moltide.pretrained.families import family_named

        config, family = self.encoder.config, family_named(self.encoder._family)
        valid = len(self.valid) if self.valid is not None else len(self.parts.held_out)
        return Facts(
            options=self.options,
            plan=self.plan,
            state=state,
            model={
                **{name: config[name] for name in ("layers", "width", "heads", "ffn_width")},
                "parameters": parameter_count(self.encoder),
                "dtype": self.encoder.dtype,
                "architecture": family.architecture_for(config, None, None),
            },
            data=[line for one in self._corpora() for line in one.lines()] + self.parts.lines,
            train_sequences=len(self.parts.train),
            train_residues=int(self.order.lengths.sum()),
            valid_sequences=valid,
            valid_residues=int(self.windows.lengths.sum()),
            hidden=self.windows.count,
            kind=self.corpus.symbols.kind,
            unit=self.corpus.symbols.unit,
            identity=self.folder.identity,
        )

    def _save(self) -> None:
        self.encoder.save(self.folder.path, self.options.save_dtype)
        if self.descriptors is not None:
            # No published format has a place for this head: it is kept to judge the saved model.
            from safetensors.numpy import save

            values = {name: self.encoder.model.get_parameter(name) for name in _HEAD}
            atomic_write_bytes(self._head, save(values))

    @property
    def _head(self) -> Path:
        return self.folder.checkpoint / "head.safetensors"

    def _final(self) -> tuple[float, float | None]:
        """Perplexity on all of validation, and R2 of the descriptors where they were learned, of
        the model as the files have it."""
        from moltide.pretrained import load

        with self.voice.busy("validating the saved model"):
            saved = load(self.folder.path, self.options.device, self.encoder.dtype)
            value = perplexity(saved, self.windows)
            if self.descriptors is None:
                return value, None
            from safetensors.numpy import load_file

            saved.set_head({"pool": "mean", "outputs": COUNT})
            for name, values in load_file(self._head).items():
                saved.model.set_parameter(name, values)
            return value, self.descriptors.model_r2(saved, self.windows)


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1) + "\n"
