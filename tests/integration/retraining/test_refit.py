"""A refitted version: what is registered, what judged it, and that nobody scores it on dates that it knows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost as xgb

from mlops.domain.drift.references.training_profile import read_profile
from mlops.domain.errors import UnusableModelFile
from mlops.domain.policies import PromotionPolicy, TrainingPolicy
from mlops.domain.ports import DIGEST_TAG, ModelVersion, TrainingData
from mlops.domain.promotion.evidence import replay
from mlops.domain.records import Grant, Kind, Stage, StageOutcome
from mlops.domain.training.judged_twin import TWIN_ARTIFACT, TWIN_TAG, judged_of
from mlops.domain.training.splits import all_known
from mlops.domain.training.trainer import XGBoostTrainer
from mlops.registry import model_file
from mlops.registry.checkpoint_store import CheckpointStore
from mlops.registry.kept_models import kept
from mlops.reporting.narrative import train_lines
from mlops.runs.checkpoints import StageCheckpoints
from mlops.runs.executor import execute
from mlops.runs.lease import Drained, Holder, LeaseKeeper
from mlops.stages.fitting import TwinAndRefit, fit, fit_twin_and_refit
from mlops.stages.judged_model import JudgedModel, load_judged
from mlops.stages.labelled_rows import LabelledRows, read_labelled, split_rows
from mlops.stages.promote import promote
from mlops.stages.scoring import positive_probability
from mlops.stages.train import train
from mlops.strategies.file import restore
from tests.support.models import RecordingControl, Stop, trained_model
from tests.support.registry import loaded, sha256_of
from tests.support.services import LAST, MODEL, N_DATES, TICKERS, FakeServices, small_strategy

DAY = timedelta(days=1)
#: 200 dates; the labels of the last 5 are not known, 20 are held out, the 4 before them purged.
TWIN_END, HELD_OUT, KNOWN_TO = LAST - 29 * DAY, (LAST - 24 * DAY, LAST - 5 * DAY), LAST - 5 * DAY


def refitting(**changes: Any) -> TrainingPolicy:
    return replace(small_strategy().training, **{"refit": True, **changes})


@pytest.fixture(autouse=True)
def _refits(services: FakeServices) -> None:
    services.with_policy(training=refitting())


def trained(services: FakeServices, kind: Kind = Kind.TRAIN, **asked: Any) -> tuple[Grant, StageOutcome]:
    grant = services.granted(kind, Stage.TRAIN, **asked)
    outcome = train(grant, services, services.keeper(grant))
    services.ledger.finish(grant, outcome)
    return grant, outcome


def version_of(services: FakeServices, outcome: StageOutcome) -> ModelVersion:
    return services.registry.version(MODEL, outcome.result["version"])


def decided(services: FakeServices, **asked: Any) -> StageOutcome:
    grant = services.granted(Kind.PROMOTE, Stage.PROMOTE, **asked)
    outcome = promote(grant, services, services.keeper(grant))
    services.ledger.finish(grant, outcome)
    return outcome


def content(model: Any) -> bytes:
    return bytes(model.get_booster().save_raw("ubj"))


def classifier_of(file: bytes) -> xgb.XGBClassifier:
    return model_file.classifier_of(file, name="of a test", expected_sha256=sha256_of(file), n_jobs=1)


def judged(services: FakeServices, version: str) -> JudgedModel:
    ledger, registry = services.ledger, services.registry
    return load_judged(ledger, registry, registry.version(MODEL, version), ledger.recorded_model(MODEL, version))


def rows_of(services: FakeServices, as_of: date = LAST) -> LabelledRows:
    return read_labelled(services.source, services.strategies["growth"], as_of=as_of)


def both(services: FakeServices, control: Any, **changes: Any) -> TwinAndRefit:
    policy, rows = refitting(**changes), rows_of(services)
    split = split_rows(rows, policy)
    everything = all_known(split, rows.dates, rows.known)
    return fit_twin_and_refit(policy, rows, split, everything, settings=services.settings, control=control)


# --------------------------------------------------------------------------- what is registered


def test_what_is_registered_learnt_from_every_known_label_and_its_twin_from_those_before_the_held_out_dates(
    services: FakeServices,
) -> None:
    _, outcome = trained(services)
    result = outcome.result
    assert (result["train_end"], result["n_train"]) == (KNOWN_TO.isoformat(), (N_DATES - 5) * TICKERS)
    assert (result["holdout_start"], result["holdout_end"]) == tuple(day.isoformat() for day in HELD_OUT)
    assert (result["twin"]["train_end"], result["twin"]["n_train"]) == (TWIN_END.isoformat(), (N_DATES - 29) * TICKERS)
    rows, policy = rows_of(services), services.strategies["growth"].training
    alone = XGBoostTrainer().fit(
        TrainingData(x=rows.x[rows.known], y=rows.y[rows.known], dates=rows.dates[rows.known], features=rows.features),
        params=policy.params,
        seed=policy.seed,
        device="cpu",
        n_jobs=1,
        segment_rounds=policy.segment_rounds,
        control=RecordingControl(),
    )
    assert content(loaded(services.registry, MODEL, "1")) == content(alone)


def test_the_version_carries_its_twins_digest_and_metrics(services: FakeServices) -> None:
    _, outcome = trained(services)
    version = version_of(services, outcome)
    twin = services.fake_registry.twins[MODEL, "1"]
    assert version.tags[TWIN_TAG] == outcome.result["twin"]["model_sha256"] == sha256_of(twin)
    assert version.tags[DIGEST_TAG] == outcome.result["model_sha256"] != sha256_of(twin)
    rows = rows_of(services)
    held = rows.known & (rows.dates >= np.datetime64(HELD_OUT[0]))
    said = positive_probability(classifier_of(twin), rows.x[held])
    assert version.metrics["accuracy"] == np.mean((said >= 0.5) == rows.y[held])
    assert services.ledger.training_facts(version.identity)[0][TWIN_TAG] == sha256_of(twin)
    (line,) = [line for line in train_lines(outcome.result) if line.startswith("Trained on")]
    assert f"Trained on 1,560 rows to {KNOWN_TO}, as its twin, trained on 1,368 rows to {TWIN_END}, was judged" in line


def test_the_drift_profile_is_of_what_the_champion_learnt_from(services: FakeServices) -> None:
    _, outcome = trained(services)
    profile = read_profile(services.registry.drift_profile(MODEL, outcome.result["version"]))
    assert profile.trained.end == KNOWN_TO


def test_without_a_refit_the_twin_is_registered_byte_for_byte_and_nothing_speaks_of_one(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[Any] = []
    log_training = services.fake_registry.log_training
    monkeypatch.setattr(
        services.fake_registry, "log_training", lambda one, **how: (logged.append(one), log_training(one, **how))[1]
    )
    trained(services)
    twin = services.fake_registry.twins[MODEL, "1"]
    services.with_policy(training=refitting(refit=False))
    _, outcome = trained(services)
    assert services.registry.model_file(MODEL, "2") == twin
    assert "twin" not in outcome.result
    refit, alone = logged
    assert set(refit.tags) - set(alone.tags) == {
        *(TWIN_TAG, "twin_train_start", "twin_train_end", "twin_n_train", "refit_distance")
    }
    assert set(refit.artifacts) - set(alone.artifacts) == {TWIN_ARTIFACT}
    assert {name for name, value in refit.metrics.items() if alone.metrics[name] != value} == {
        *("n_train_positive", "n_train_negative", "model_size_bytes")
    }
    assert alone.tags["holdout_start"] == HELD_OUT[0].isoformat()
    outcome = decided(services)
    assert "twin_sha256" not in str(services.ledger.promotions("growth")[0].evidence)


def test_the_card_says_whose_each_number_is(services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    cards: list[str] = []
    log_training = services.fake_registry.log_training

    def keep(model: Any, **how: Any) -> Any:
        cards.append(model.artifacts["model_card.md"].read_text())
        return log_training(model, **how)

    monkeypatch.setattr(services.fake_registry, "log_training", keep)
    trained(services)
    (card,) = cards
    assert "The registered model is a refit" in card
    assert "## Metrics of the judged twin on the held-out dates" in card
    assert f"| last training date | {KNOWN_TO} |" in card
    assert f"| judged twin's last training date | {TWIN_END} |" in card
    assert f"`{services.registry.version(MODEL, '1').tags[TWIN_TAG]}`" in card


def test_the_refit_has_the_rounds_that_early_stopping_settled_for_the_twin(services: FakeServices) -> None:
    stopping = {"early_stopping_rounds": 2, "validation_dates": 20}
    params = {"n_estimators": 200, "max_depth": 3, "learning_rate": 0.5}
    services.with_policy(training=refitting(**stopping, params=params))
    _, outcome = trained(services)
    rounds = loaded(services.registry, MODEL, "1").get_booster().num_boosted_rounds()
    assert rounds == outcome.result["best_iteration"] + 1 < 199
    assert outcome.result["n_train"] == (N_DATES - 5) * TICKERS


# --------------------------------------------------------------------------- interrupted


@pytest.mark.parametrize("changes", [{}, {"early_stopping_rounds": 3, "validation_dates": 20}])
def test_stopped_after_any_round_it_gives_the_same_twin_and_the_same_refit(
    services: FakeServices, changes: dict[str, Any]
) -> None:
    changes = {"segment_rounds": 2, "params": {"n_estimators": 5, "max_depth": 2, "subsample": 0.8}, **changes}
    whole = RecordingControl()
    undisturbed = both(services, whole, **changes)
    last = whole.progress[-1]
    for stop_after in range(1, last.done):
        stopped = RecordingControl(stop_after=stop_after)
        with pytest.raises(Stop):
            both(services, stopped, **changes)
        resumed = RecordingControl(checkpoint=stopped.checkpoint)
        again = both(services, resumed, **changes)
        assert again.twin_file == undisturbed.twin_file
        assert content(again.refit.model) == content(undisturbed.refit.model)
        assert again.twin.best_iteration == undisturbed.twin.best_iteration
        name = "" if stopped.checkpoint is None else stopped.checkpoint[0].partition("@")[0]
        if name.startswith("refit.rounds-") and resumed.progress:  # else it had all its rounds
            done = last.total // 2 + int(name.removeprefix("refit.rounds-"))
            assert resumed.progress[0].done == done + 1  # neither the twin's rounds nor these are boosted again


def test_the_checkpoint_of_a_refit_on_other_rows_is_not_continued(services: FakeServices) -> None:
    stopped = RecordingControl(stop_after=9)
    with pytest.raises(Stop):
        both(services, stopped, segment_rounds=2)
    assert stopped.checkpoint is not None
    assert stopped.checkpoint[0].startswith("refit.rounds-4@")
    other = both(services, RecordingControl(checkpoint=stopped.checkpoint), segment_rounds=2, seed=7)
    assert other.refit.resumed_from is None
    assert content(other.refit.model) == content(
        both(services, RecordingControl(), segment_rounds=2, seed=7).refit.model
    )


class Dies(XGBoostTrainer):
    """Ends after the first border of the fit of so many rows."""

    died: list[tuple[int, type[BaseException]]] = []  # noqa: RUF012 -- what is still to be raised, set by the test

    def fit(self, data: TrainingData, *, control: Any, **how: Any) -> Any:
        save = control.save_checkpoint

        def saved(name: str, payload: bytes) -> None:
            save(name, payload)
            if Dies.died and len(data.y) == Dies.died[0][0]:
                raise Dies.died.pop()[1]

        control.save_checkpoint = saved
        return super().fit(data, control=control, **how)


@pytest.mark.parametrize("death", [Drained, RuntimeError])
@pytest.mark.parametrize(
    ("n_dates", "resumed_from"), [(N_DATES - 29, "rounds-2"), (N_DATES - 5, "rounds-2 of the refit")]
)
def test_a_stage_that_dies_in_the_twin_or_the_refit_goes_on_there_and_registers_the_same_version_once(
    services: FakeServices, tmp_path: Path, death: type[BaseException], n_dates: int, resumed_from: str
) -> None:
    policy = refitting(segment_rounds=2, trainer=f"{__name__}:Dies")
    services.with_policy(training=policy)
    Dies.died = []
    _, undisturbed = trained(services)
    Dies.died = [(n_dates * TICKERS, death)]
    grant = services.granted(Kind.TRAIN, Stage.TRAIN)
    store, holder = CheckpointStore(str(tmp_path / "store")), Holder(worker="w1", lease_s=60.0, renew_s=10.0)

    def work(of: Grant, keeper: LeaseKeeper) -> StageOutcome:
        return train(of, services, keeper)

    for _ in range(2):
        checkpoints = StageCheckpoints(store, services.ledger, grant, every_s=0)
        execute(grant, {Stage.TRAIN: work}, services.ledger, holder, checkpoints=checkpoints)
        if not Dies.died and services.ledger.run(grant.run_id).stages[0].result is None:
            services.timed.advance(3600)
            grant = services.claimed(grant.run_id, Stage.TRAIN)
    result = services.ledger.run(grant.run_id).stages[0].result
    assert result is not None
    assert result["resumed_from"] == resumed_from
    assert result["model_sha256"] == undisturbed.result["model_sha256"]
    assert result["twin"] == undisturbed.result["twin"]
    assert len(services.registry.versions(MODEL)) == 2


def test_a_second_grant_finds_the_version_with_its_twin(services: FakeServices) -> None:
    grant = services.granted(Kind.TRAIN, Stage.TRAIN)
    first = train(grant, services, services.keeper(grant))
    again = train(grant, services, services.keeper(grant))
    assert again.result == first.result
    assert len(services.registry.versions(MODEL)) == 1


@pytest.mark.parametrize("is_swapped", [False, True])
def test_a_twin_whose_note_is_lost_is_known_by_the_bytes_of_the_training_that_is_repeated(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch, is_swapped: bool
) -> None:
    grant = services.granted(Kind.TRAIN, Stage.TRAIN)
    with monkeypatch.context() as dies:  # between the version and the note of its number
        dies.setattr("mlops.stages.train._Evidence.note_twin", lambda *_: None)
        dies.setattr("mlops.stages.train._Evidence.registered", None)
        with pytest.raises(TypeError):
            train(grant, services, services.keeper(grant))
    if is_swapped:
        tags = services.registry.version(MODEL, "1").tags
        services.fake_registry.set_tags(MODEL, "1", tags | _another_twin(services))
        with pytest.raises(UnusableModelFile, match="was to name a judged twin that this run made"):
            train(grant, services, services.keeper(grant))
        return
    again = train(grant, services, services.keeper(grant))
    assert again.result["twin"]["model_sha256"] == services.registry.version(MODEL, "1").tags[TWIN_TAG]
    assert [one.version for one in services.registry.versions(MODEL)] == ["1"]


def _another_twin(services: FakeServices) -> dict[str, str]:
    _changed(services.fake_registry.twins, "1")
    return {TWIN_TAG: sha256_of(services.fake_registry.twins[MODEL, "1"])}


@pytest.mark.parametrize("harm", [_another_twin, lambda _: {}])
def test_a_twin_that_is_swapped_while_the_note_of_the_version_is_lost_is_not_taken_for_the_runs(
    services: FakeServices, harm: Callable[[FakeServices], dict[str, str]]
) -> None:
    grant = services.granted(Kind.TRAIN, Stage.TRAIN)
    train(grant, services, services.keeper(grant))
    tags = services.registry.version(MODEL, "1").tags
    forged = {name: value for name, value in tags.items() if name != TWIN_TAG} | harm(services)
    services.fake_registry.set_tags(MODEL, "1", forged)
    with pytest.raises(UnusableModelFile, match="was to name a judged twin that this run made"):
        train(grant, services, services.keeper(grant))


def test_what_the_ledger_has_of_a_run_gives_both_digests_again(services: FakeServices) -> None:
    grant, outcome = trained(services)
    services.with_policy(training=refitting(seed=7))  # of later runs
    view = services.ledger.run(grant.run_id)
    strategy, as_of = restore(view.policy), view.as_of
    assert as_of is not None
    policy, rows = strategy.training, read_labelled(services.source, strategy, as_of=as_of)
    split = split_rows(rows, policy)
    everything = all_known(split, rows.dates, rows.known)
    again = fit_twin_and_refit(policy, rows, split, everything, settings=services.settings, control=RecordingControl())
    assert sha256_of(again.twin_file) == outcome.result["twin"]["model_sha256"]
    assert sha256_of(content(again.refit.model)) == outcome.result["model_sha256"]


# --------------------------------------------------------------------------- a refit that is not its twin


class Spoiling(XGBoostTrainer):
    """The default trainer, whose refit learns labels in another order."""

    def fit(self, data: TrainingData, **how: Any) -> Any:
        if len(data.y) == (N_DATES - 5) * TICKERS:
            data = replace(data, y=np.random.default_rng(1).permutation(data.y))
        return super().fit(data, **how)


def test_a_refit_that_is_another_model_than_its_twin_is_not_promoted_until_somebody_accepts_it(
    services: FakeServices,
) -> None:
    services.with_policy(training=refitting(trainer=f"{__name__}:Spoiling"))
    _, outcome = trained(services)
    (found,) = outcome.result["findings"]
    assert found["code"] == "refit_differs"
    assert "the refit is not its judged twin with more data: on 1,368 rows of the twin's training" in found["words"]
    assert outcome.result["metrics"]["accuracy"] > 0.7  # the twin is as good as ever
    refused = decided(services)
    assert refused.result["decision"] == "refuse"
    assert "findings.refit_distance" in refused.result["reasons"][0]
    services.with_policy(promotion=PromotionPolicy(min_accuracy=0.6, accepted_findings=("refit_differs",)))
    assert decided(services, version="1").result["promoted"]


def test_an_honest_refit_has_no_such_finding(services: FakeServices) -> None:
    _, outcome = trained(services)
    assert outcome.result["findings"] == []
    assert 0 < outcome.result["twin"]["distance"] < 0.85


# --------------------------------------------------------------------------- the comparison with the champion


def champion(services: FakeServices, *, as_of: date = LAST - 10 * DAY, **changes: Any) -> str:
    services.with_policy(training=refitting(**changes))
    _, outcome = trained(services, as_of=as_of)
    assert decided(services).result["promoted"]
    return str(outcome.result["version"])


def test_the_twins_of_champion_and_challenger_are_compared_on_all_dates_that_the_challengers_held_out(
    services: FakeServices,
) -> None:
    champion(services)
    services.with_policy(training=refitting(params={"n_estimators": 8, "max_depth": 2}))
    trained(services)
    decided(services)
    (promotion, *_) = services.ledger.promotions("growth")
    common = promotion.evidence["common"]
    # The champion's refit knows the labels up to LAST - 15: five of these dates would be left.
    assert (common["first"], common["last"], common["n_dates"]) == (*(day.isoformat() for day in HELD_OUT), 20)
    assert promotion.evidence["findings"] == []
    rows = rows_of(services)
    held = rows.known & (rows.dates >= np.datetime64(HELD_OUT[0]))
    for version, said in (("2", "challenger"), ("1", "champion")):
        twin = classifier_of(services.fake_registry.twins[MODEL, version])
        probability = positive_probability(twin, rows.x[held])
        assert common[f"predictions_{said}"] == sha256_of(probability.astype("<f8").tobytes())
    digests = [sha256_of(services.fake_registry.twins[MODEL, version]) for version in ("2", "1")]
    assert [promotion.evidence["twin_sha256"], promotion.evidence["champion"]["twin_sha256"]] == digests
    again = replay(promotion.evidence, promotion.evidence_digest)
    assert again is not None
    assert again.agrees


def test_a_champion_that_was_not_refitted_is_its_own_twin(services: FakeServices) -> None:
    champion(services, refit=False)
    services.with_policy(training=refitting(params={"n_estimators": 8, "max_depth": 2}))
    trained(services)
    decided(services)
    (promotion, *_) = services.ledger.promotions("growth")
    assert promotion.evidence["common"]["n_dates"] == 20
    assert "twin_sha256" not in promotion.evidence["champion"]


def _gone(twins: dict[tuple[str, str], bytes], version: str) -> None:
    del twins[MODEL, version]


def _changed(twins: dict[tuple[str, str], bytes], version: str) -> None:
    other = xgb.XGBClassifier(n_estimators=1, n_jobs=1).fit([[0.0], [1.0]], [0, 1])
    twins[MODEL, version] = content(other)


@pytest.mark.parametrize("harm", [_gone, _changed])
def test_a_champion_whose_twin_was_taken_away_is_not_easier_to_beat(
    services: FakeServices, harm: Callable[..., None]
) -> None:
    champion(services)
    services.with_policy(training=refitting(params={"n_estimators": 8, "max_depth": 2}))
    trained(services)
    harm(services.fake_registry.twins, "1")
    outcome = decided(services)
    (promotion, *_) = services.ledger.promotions("growth")
    # The refit stands for it from its own last date on: LAST - 15, and five purged, leave the dates from LAST - 10.
    assert promotion.evidence["common"]["first"] == (LAST - 10 * DAY).isoformat()
    assert any("so the refit stands for it" in reason for reason in outcome.result["reasons"])


@pytest.mark.parametrize("harm", [_gone, _changed])
@pytest.mark.parametrize("has_champion", [True, False])
def test_a_challenger_without_its_judged_twin_is_refused(
    services: FakeServices, harm: Callable[..., None], has_champion: bool
) -> None:
    if has_champion:
        champion(services)
    _, outcome = trained(services)
    harm(services.fake_registry.twins, outcome.result["version"])
    refused = decided(services)
    assert refused.result["decision"] == "refuse"
    assert "twin" in refused.result["reasons"][0] or "changed" in refused.result["reasons"][0]


def test_a_twin_that_was_swapped_with_its_tag_is_not_the_ledgers(services: FakeServices) -> None:
    _, outcome = trained(services)
    version, registry = version_of(services, outcome), services.fake_registry
    _changed(registry.twins, "1")
    forged = {TWIN_TAG: sha256_of(registry.twins[MODEL, "1"]), "twin_train_end": "2000-01-01"}
    registry.set_tags(MODEL, "1", {**version.tags, **forged})
    found = judged(services, "1")
    assert (found.twin_sha256, found.train_end) == (None, KNOWN_TO)
    assert "so the refit stands for it" in str(found.finding)
    refused = decided(services, version="1", override="it is fine")
    assert (refused.result["decision"], services.ledger.champion("growth").version) == ("refuse", None)


def test_the_tag_of_a_twin_that_the_ledger_does_not_know_stands_for_no_digest(
    services: FakeServices, tmp_path: Path
) -> None:
    _, outcome = trained(services)
    version, registry = version_of(services, outcome), services.fake_registry
    file = tmp_path / TWIN_ARTIFACT
    file.write_bytes(registry.twins[MODEL, "1"])
    elsewhere = trained_model("of-another-ledger", model_name=MODEL, artifacts={TWIN_ARTIFACT: file})
    model, tags = loaded(registry, MODEL, "1"), dict(version.tags)
    registry.log_training(replace(elsewhere, model=model, tags=tags, metrics=dict(version.metrics)))
    found = judged(services, "2")
    assert (found.twin_sha256, found.train_end) == (None, KNOWN_TO)
    refused = decided(services, version="2")
    assert refused.result["decision"] == "refuse"
    assert "the ledger has no digest of one" in refused.result["reasons"][0]


def test_a_twins_tag_on_a_version_that_was_judged_itself_counts_for_nothing(services: FakeServices) -> None:
    services.with_policy(training=refitting(refit=False))
    _, outcome = trained(services)
    version = version_of(services, outcome)
    forged = {TWIN_TAG: "ab" * 32, "twin_train_end": "2000-01-01"}
    services.fake_registry.set_tags(MODEL, "1", {**version.tags, **forged})
    found = judged(services, "1")
    assert (found.twin_sha256, found.finding, found.train_end) == (None, None, TWIN_END)
    assert decided(services, version="1").result["promoted"]


def test_the_release_before_cannot_score_a_refit_on_dates_that_it_knows(services: FakeServices) -> None:
    _, outcome = trained(services)
    tags = version_of(services, outcome).tags
    # It reads the held-out dates so, and refuses the comparison where that fails.
    with pytest.raises(ValueError, match="of the judged twin"):
        np.datetime64(tags["holdout_start"], "D")
    with pytest.raises(ValueError, match="Invalid isoformat"):
        date.fromisoformat(tags["holdout_end"])
    assert tags["train_end"] == KNOWN_TO.isoformat()  # by which it leaves out what the champion knows
    assert judged_of(tags).holdout == HELD_OUT


# --------------------------------------------------------------------------- kept, continued


def test_the_twin_is_kept_with_the_champion_and_comes_back_with_it(services: FakeServices) -> None:
    version = services.registry.version(MODEL, champion(services))
    found = kept(services, version.identity)
    assert found is not None
    assert found.twin == services.fake_registry.twins[MODEL, "1"]
    services.fake_registry.forget(MODEL)
    again = services.registry.register_again(MODEL, version.identity, found)
    assert again is not None
    assert judged(services, again.version).twin_sha256 == sha256_of(found.twin)


def test_an_update_continues_the_champions_twin_to_be_judged_and_the_champion_to_be_registered(
    services: FakeServices,
) -> None:
    champion(services)
    services.with_policy(training=refitting(incremental_rounds=3, incremental_days=30))
    _, outcome = trained(services, incremental=True)
    registry = services.fake_registry

    def dump(model_file: bytes) -> list[str]:
        return list(xgb.Booster(model_file=bytearray(model_file)).get_dump())

    old, new = (registry.files[MODEL, version] for version in ("1", "2"))
    old_twin, new_twin = (registry.twins[MODEL, version] for version in ("1", "2"))
    assert (dump(new)[:5], dump(new_twin)[:5]) == (dump(old), dump(old_twin))
    assert dump(old) != dump(old_twin)
    assert outcome.result["incremental"]["base_model_sha256"] == sha256_of(old)
    assert (outcome.result["train_end"], outcome.result["n_train"]) == (KNOWN_TO.isoformat(), 30 * TICKERS)
    assert outcome.result["twin"]["n_train"] == 30 * TICKERS


def test_an_update_without_a_refit_continues_the_champions_twin(services: FakeServices) -> None:
    champion(services)
    services.with_policy(training=refitting(refit=False, incremental_rounds=3, incremental_days=30))
    _, outcome = trained(services, incremental=True)
    twin = services.fake_registry.twins[MODEL, "1"]
    assert outcome.result["incremental"]["base_model_sha256"] == sha256_of(twin)
    assert (outcome.result["train_end"], "twin" in outcome.result) == (TWIN_END.isoformat(), False)


def test_a_fit_alone_is_the_twins(services: FakeServices) -> None:
    rows, policy = rows_of(services), refitting()
    alone = fit(policy, rows, split_rows(rows, policy), settings=services.settings, control=RecordingControl())
    assert content(alone.model) == both(services, RecordingControl()).twin_file
