"""Search for good values of config keys with Optuna: a trial is a run of the harness."""

import warnings
from collections.abc import Sequence
from dataclasses import astuple, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import optuna
import pandas as pd
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import TrialState
from tqdm import tqdm

from scopenet.config_file import leaves
from scopenet.engine.reliability import non_finite
from scopenet.errors import ConfigError
from scopenet.training_metrics import read_metrics

from .harness import Run, RunFailed, plan, try_to_execute
from .job import Job, resolve
from .results import Results

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
HEARTBEAT = 20  # seconds; a trial without one for twice as long is done again


class Key(NamedTuple):
    """A config key with a range [low, high], or with a choice of texts as overrides have them."""

    name: str
    kind: str
    values: list
    log: bool

    @classmethod
    def parse(cls, text: str) -> "Key":
        """Read ``KEY=float:LOW:HIGH``, ``KEY=float:LOW:HIGH:log`` or ``KEY=choice:A:B:...``; raise
        a ConfigError for anything else."""
        name, _, spec = text.partition("=")
        kind, *values = spec.split(":")
        log = values[2:] == ["log"]
        try:
            values = [float(x) for x in values[: 2 if log else None]] if kind == "float" else values
            is_range = kind == "float" and len(values) == 2 and (not log or values[0] > 0)
        except ValueError:
            is_range = False
        if not (is_range and values[0] < values[1] or kind == "choice" and values):
            raise ConfigError(
                f"--key {text} is none of KEY=float:LOW:HIGH, KEY=float:LOW:HIGH:log (above 0) and "
                "KEY=choice:A:B."
            )
        return cls(name, kind, values, log)

    def suggest(self, trial: optuna.Trial) -> float | str:
        """Let Optuna choose a value."""
        if self.kind == "choice":
            return trial.suggest_categorical(self.name, self.values)
        return trial.suggest_float(self.name, *self.values, log=self.log)

    def own_value(self, job: Job) -> dict[str, float | str]:
        """Return the value that the job has, by the key's name; nothing if it is not searched."""
        value = dict(leaves(resolve(job)[1]))[self.name]
        if self.kind == "choice":
            return {self.name: str(value)} if str(value) in self.values else {}
        return {self.name: value} if self.values[0] <= value <= self.values[1] else {}


def with_values(job: Job, values: dict[str, Any]) -> Job:
    """Give a job these values of keys."""
    return replace(job, overrides=tuple(str(x) for pair in values.items() for x in pair))


def open_study(job: Job, keys: Sequence[Key], storage: Path) -> optuna.Study:
    """Open the study of this job and these keys in an SQLite file, or make it; its first trial has
    the job's own values.

    Raises:
        ConfigError: the job, with the first or the last values of the keys, cannot be run.
    """
    for end in (0, -1):
        resolve(with_values(job, {key.name: key.values[end] for key in keys}))
    storage.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        again = {"heartbeat_stale_trial_callback": RetryHeartbeatStaleTrialCallback()}
        database = RDBStorage(f"sqlite:///{storage}", heartbeat_interval=HEARTBEAT, **again)
    # Another schedule or other ranges have another name: what is in a study can be compared.
    study = optuna.create_study(
        storage=database,
        study_name=" ".join(map(str, (*astuple(job), *chain(*keys)))),
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(),
        load_if_exists=True,
    )
    if not study.trials:
        study.enqueue_trial({k: x for key in keys for k, x in key.own_value(job).items()})
    return study


def watch(trial: optuna.Trial, run: Run, seen: set[int]) -> None:
    """Report the validations of a run that have not been ``seen``; raise ``TrialPruned`` if one is
    below the median of the other trials at the same iteration."""
    aps = read_metrics(run.folder / "metrics.json").get("bbox/AP", {})
    before_last = {x for x in aps if x + 1 < run.key["iterations"]}  # what is last cannot be pruned
    for iteration in sorted(before_last - seen):
        seen.add(iteration)
        trial.report(aps[iteration], iteration + 1)
        if trial.should_prune():
            raise optuna.TrialPruned(f"AP {aps[iteration]:.1f} after {iteration + 1} iterations.")


def search(
    job: Job, keys: Sequence[Key], *, trials: int, storage: Path, output: Path, num_gpus: int = 1
) -> optuna.Study:
    """Go on with a study until so many trials are complete or given up; several processes may share
    the work. ``output`` is the folder of all trainings, and of the results of complete ones.

    Raises:
        ConfigError: the job cannot be run with these keys, or a run failed for another reason than
            losses that were not finite, for which a trial is given up.
    """
    results = Results(output / "results.csv")

    def objective(trial: optuna.Trial) -> float:
        run = plan(with_values(job, {x.name: x.suggest(trial) for x in keys}), output)
        options = {"total": run.key["iterations"], "unit": "it", "leave": False}
        try:
            with tqdm(desc=f"trial {trial.number}", **options) as progress:
                look = partial(watch, trial, run, set())
                try_to_execute(run, results, num_gpus, progress, watch=look)
        except RunFailed as error:
            if (run.folder / non_finite.FOLDER).is_dir():
                raise optuna.TrialPruned("Its losses were not finite.") from error
            raise ConfigError(f"{error}; the same command goes on with other values.") from error
        return results.value(run.key, "AP")

    study = open_study(job, keys, storage)
    while len(study.get_trials(states=FINISHED)) < trials:
        # What is tried next depends on the trials so far only, also after an interruption.
        study.sampler = optuna.samplers.TPESampler(seed=len(study.trials))
        study.optimize(objective, n_trials=1)
    return study


def trials_table(study: optuna.Study) -> str:
    """Make a Markdown table of the finished trials, the best one first, with the last AP and the
    iterations after which a trial was given up."""
    trials = study.get_trials(states=FINISHED)
    lines = []
    for trial in sorted(trials, key=lambda x: (x.value is None, -(x.value or 0), x.number)):
        pruned = trial.state == TrialState.PRUNED
        values = {k: f"{x:.3g}" if isinstance(x, float) else x for k, x in trial.params.items()}
        ap = trial.intermediate_values.get(trial.last_step) if pruned else trial.value
        line = {"trial": trial.number, **values, "AP": "" if ap is None else f"{ap:.1f}"}
        lines.append(line | {"given up after": (trial.last_step or 0) if pruned else ""})
    return pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True)
