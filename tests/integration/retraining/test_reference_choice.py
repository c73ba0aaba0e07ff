"""The champion's profile as a check's reference: made by the training, kept near the check, never a failed run."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mlops.domain.drift.training_profile import profile_digest, read_profile
from mlops.domain.errors import RegistryUnavailable, UnusableProfile
from mlops.domain.policies import DataPolicy, DriftPolicy
from mlops.domain.ports import PROFILE_TAG, Window
from mlops.domain.records import Kind, Stage, StageOutcome
from mlops.reporting.narrative import drift_lines
from mlops.stages import drift_windows
from mlops.stages.champion import ProfileStore
from mlops.stages.drift import check_drift
from mlops.stages.train import train
from tests.support.features import InMemoryFeatures
from tests.support.ledgers import decision_for, promoting
from tests.support.models import trained_model
from tests.support.registry import FakeRegistry
from tests.support.services import FEATURES, FIRST, LAST, MODEL, TICKERS, FakeServices, panel

TRAINED_AS_OF = LAST - timedelta(days=30)
CHAMPION = DataPolicy(as_of="latest", min_current_rows=40, reference="champion")


class WatchedFeatures(InMemoryFeatures):
    """Keeps the windows that are read."""

    def __init__(self, table: Any) -> None:
        super().__init__(table)
        self.windows: list[Window] = []

    def read(self, strategy: str, window: Window, *rest: Any, **how: Any) -> Any:
        self.windows.append(window)
        return super().read(strategy, window, *rest, **how)


def with_trained_champion(services: FakeServices) -> None:
    services.with_policy(data=CHAMPION)
    grant = services.granted(Kind.TRAIN, Stage.TRAIN, as_of=TRAINED_AS_OF)
    services.ledger.finish(grant, train(grant, services, services.keeper(grant)))
    identity = services.ledger.recorded_model(MODEL, "1")
    services.ledger.decide(promoting(services.ledger), decision_for("1", identity=identity))


def logged_digest(services: FakeServices) -> str:
    return profile_digest(services.registry.drift_profile(MODEL, "1"))


def checked(services: FakeServices, **asked: Any) -> StageOutcome:
    grant = services.granted(Kind.CHECK, Stage.DRIFT, **asked)
    outcome = check_drift(grant, services, services.keeper(grant))
    services.ledger.finish(grant, outcome)
    return outcome


def finding(outcome: StageOutcome) -> str:
    found = [item for item in (outcome.drift_report or {})["findings"] if item["code"] == "reference_unavailable"]
    assert len(found) == 1
    message: str = found[0]["message"]
    return message


def falls_back(outcome: StageOutcome, why: str) -> None:
    assert why in finding(outcome)
    assert finding(outcome).endswith("compared with the trailing window in its place")
    assert outcome.result["reference"]["choice"] == "champion"
    assert outcome.result["reference"]["used"] == "trailing"
    assert outcome.result["n_reference"] == 90 * TICKERS
    assert outcome.result["verdict"] in ("drifted", "stable")


def test_a_training_logs_the_profile_of_its_dates_with_its_digest(services: FakeServices) -> None:
    with_trained_champion(services)
    version = services.registry.version(MODEL, "1")
    content = services.registry.drift_profile(MODEL, "1")
    assert version.tags[PROFILE_TAG] == profile_digest(content)
    profile = read_profile(content)
    assert tuple(profile.features) == FEATURES
    assert (profile.strategy, profile.as_of) == ("growth", TRAINED_AS_OF)
    assert profile.dates[0].item() == FIRST
    assert profile.dates[-1].item() == TRAINED_AS_OF  # nothing of the future
    assert (profile.trained.start + timedelta(days=1)).isoformat() == version.tags["train_start"]
    assert profile.trained.end.isoformat() == version.tags["train_end"]
    assert profile.n_rows == profile.n_trained * TICKERS


def test_a_check_against_the_champion_reads_current_rows_alone(services: FakeServices) -> None:
    with_trained_champion(services)
    # The watch on newly known labels reads the champion's own dates, whatever the reference.
    services.with_policy(drift=replace(services.strategies["growth"].drift, label_alpha=0.0))
    source = WatchedFeatures(panel())
    vars(services)["source"] = source
    outcome = checked(services)
    newest = Window(start=LAST - timedelta(days=1), end=LAST)  # whether a column only counts rows
    assert source.windows == [newest, Window(start=LAST - timedelta(days=7), end=LAST)]
    reference = outcome.result["reference"]
    assert (reference["used"], reference["model_version"]) == ("champion", "1")
    assert reference["profile_sha256"] == profile_digest(services.registry.drift_profile(MODEL, "1"))
    assert (outcome.drift_report or {})["data"]["reference"] == reference
    assert not [item for item in (outcome.drift_report or {})["findings"] if item["code"] == "reference_unavailable"]


def test_a_check_against_the_champion_says_that_predictions_and_targets_are_not_compared(
    services: FakeServices,
) -> None:
    with_trained_champion(services)
    said = {item["code"]: item["message"] for item in (checked(services).drift_report or {})["findings"]}
    assert said["predictions_not_compared"].startswith("the champion's predictions are not compared: the reference is")
    assert said["targets_not_compared"].startswith("target_return not compared: the reference is")
    services.with_policy(drift=DriftPolicy(predictions=False), data=CHAMPION)
    codes = [item["code"] for item in (checked(services).drift_report or {})["findings"]]
    assert "predictions_not_compared" not in codes
    assert "targets_not_compared" in codes


def test_a_shift_is_seen_against_the_champion(services: FakeServices) -> None:
    with_trained_champion(services)
    services.with_source(panel(shift=3.0))
    assert checked(services).result["verdict"] == "drifted"


def test_the_registry_is_asked_once_for_a_version(services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    with_trained_champion(services)
    checked(services)

    def asked(*_: object) -> bytes:
        raise AssertionError("the registry was asked")

    monkeypatch.setattr(services.fake_registry, "drift_profile", asked)
    checked(services)
    del vars(services)["profiles"]  # another process
    assert checked(services).result["reference"]["used"] == "champion"


def test_without_a_champion_the_trailing_window_stands_in(services: FakeServices) -> None:
    services.with_policy(data=CHAMPION)
    falls_back(checked(services), "there is no champion")


def test_a_version_without_a_profile_is_compared_with_the_trailing_window(services: FakeServices) -> None:
    services.with_policy(data=CHAMPION)
    services.registry.log_training(trained_model("run-1"))
    services.ledger.decide(promoting(services.ledger), decision_for("1"))
    falls_back(checked(services), f"the ledger has no digest of the profile of version 1 of {MODEL}")


def test_a_profile_that_is_gone_or_was_changed_is_a_finding(services: FakeServices) -> None:
    with_trained_champion(services)
    content = services.fake_registry.profiles.pop((MODEL, "1"))
    falls_back(checked(services), "is gone")
    services.fake_registry.profiles[MODEL, "1"] = content[:-1] + b"x"
    falls_back(checked(services), "changed")


def test_a_profile_that_was_changed_with_its_tag_is_a_finding(services: FakeServices) -> None:
    with_trained_champion(services)
    changed = services.registry.drift_profile(MODEL, "1")[:-1] + b"x"
    services.fake_registry.profiles[MODEL, "1"] = changed
    tags = {**services.registry.version(MODEL, "1").tags, PROFILE_TAG: profile_digest(changed)}
    services.fake_registry.set_tags(MODEL, "1", tags)
    falls_back(checked(services), "changed")


def test_a_registry_that_is_down_is_a_finding_and_no_failed_run(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_trained_champion(services)

    def silent(*_: object) -> bytes:
        raise RegistryUnavailable("MLflow does not answer")

    monkeypatch.setattr(services.fake_registry, "drift_profile", silent)
    falls_back(checked(services), "MLflow does not answer")


def test_a_check_of_a_day_before_the_champion_was_trained_does_not_use_what_came_later(services: FakeServices) -> None:
    with_trained_champion(services)
    falls_back(checked(services, as_of=TRAINED_AS_OF - timedelta(days=1)), "would know what came after")


def test_the_default_is_the_trailing_window(services: FakeServices) -> None:
    reference = checked(services).result["reference"]
    assert (reference["choice"], reference["used"]) == ("trailing", "trailing")


# ---- the store


def stored(folder: Path, registry: FakeRegistry, origin: str = "http://one") -> ProfileStore:
    return ProfileStore(folder, lambda: registry, origin=origin)


def test_a_file_that_was_changed_is_fetched_again(services: FakeServices, tmp_path: Path) -> None:
    with_trained_champion(services)
    sha256 = logged_digest(services)
    first = stored(tmp_path, services.fake_registry).get(MODEL, "1", seq=1, sha256=sha256)
    (path,) = (tmp_path / MODEL).glob("*.arrow")
    path.write_bytes(b"torn")
    assert stored(tmp_path, services.fake_registry).get(MODEL, "1", seq=1, sha256=sha256).sha256 == first.sha256
    assert profile_digest(path.read_bytes()) == first.sha256


def test_a_registry_made_anew_or_another_one_shares_no_file(services: FakeServices, tmp_path: Path) -> None:
    with_trained_champion(services)
    sha256 = logged_digest(services)
    stored(tmp_path, services.fake_registry).get(MODEL, "1", seq=1, sha256=sha256)
    empty = FakeRegistry()
    empty.log_training(trained_model("run-1"))
    for store, seq in ((stored(tmp_path, empty), 2), (stored(tmp_path, empty, "http://two"), 1)):
        with pytest.raises(UnusableProfile):
            store.get(MODEL, "1", seq=seq, sha256=sha256)


def test_a_folder_that_cannot_be_written_costs_a_download(services: FakeServices, tmp_path: Path) -> None:
    with_trained_champion(services)
    (tmp_path / "file").write_text("")
    store = stored(tmp_path / "file", services.fake_registry)
    assert store.get(MODEL, "1", seq=1, sha256=logged_digest(services)).profile.strategy == "growth"


def test_the_newest_four_files_of_a_model_are_kept(services: FakeServices, tmp_path: Path) -> None:
    with_trained_champion(services)
    store = stored(tmp_path, services.fake_registry)
    for seq in range(1, 8):
        store.get(MODEL, "1", seq=seq, sha256=logged_digest(services))
    assert len(list((tmp_path / MODEL).iterdir())) == 4


def test_a_policy_of_an_earlier_version_is_the_trailing_reference() -> None:
    from mlops.domain.policies import Strategy
    from mlops.strategies.file import restore, snapshot

    kept = snapshot(Strategy(name="growth"))
    del kept["data"]["reference"], kept["data"]["season_years"]
    assert restore(kept).data == replace(DataPolicy(), reference="trailing")


# ---- the same season of earlier years

SEASON = DataPolicy(as_of="latest", min_current_rows=40, reference="season", season_years=2, reference_days=30)


def with_long_panel(services: FakeServices, n_dates: int = 1400) -> None:
    """Rows up to a later day, which is today: those of the future do not count."""
    services.with_source(panel(n_dates=n_dates))
    services.today = FIRST + timedelta(days=n_dates - 1)


def test_a_check_against_the_season_has_the_rows_of_both_years(services: FakeServices) -> None:
    services.with_policy(data=SEASON, drift=DriftPolicy(calibration_days=400))
    with_long_panel(services)
    outcome = checked(services)
    assert outcome.result["reference"]["words"] == "the same season of 2 earlier years"
    assert outcome.result["n_reference"] == 2 * 30 * TICKERS
    assert len((outcome.drift_report or {})["windows"]["reference_parts"]) == 2
    assert outcome.result["calibrated_verdict"] in ("stable", "drifted")


def test_a_long_history_is_read_in_pieces_and_says_the_same(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.with_policy(data=SEASON, drift=DriftPolicy(calibration_days=400))
    with_long_panel(services)
    whole = checked(services).result
    monkeypatch.setattr(drift_windows, "ONE_READ_ROWS", 100)
    pieces = checked(services).result
    assert {key: pieces[key] for key in ("p_value", "drift_ratio", "n_reference", "n_placements")} == {
        key: whole[key] for key in ("p_value", "drift_ratio", "n_reference", "n_placements")
    }


def test_a_season_without_enough_years_is_insufficient_in_words(services: FakeServices) -> None:
    services.with_policy(data=SEASON, drift=DriftPolicy(calibration_days=400))
    with_long_panel(services, n_dates=500)
    outcome = checked(services)
    assert outcome.result["verdict"] == "insufficient"
    assert "the seasons of 2 earlier years are asked for" in outcome.result["verdict_reason"]


def test_a_season_of_which_no_year_is_there_falls_back_to_the_trailing_window(services: FakeServices) -> None:
    services.with_policy(data=SEASON)
    outcome = checked(services)
    assert "there are no rows of this season of 2 earlier years" in finding(outcome)
    assert (outcome.result["reference"]["choice"], outcome.result["reference"]["used"]) == ("season", "trailing")


def test_a_reference_that_was_given_counts_for_the_run_alone(services: FakeServices) -> None:
    with_trained_champion(services)
    assert checked(services, reference="trailing").result["reference"]["used"] == "trailing"
    assert checked(services).result["reference"]["used"] == "champion"


@pytest.mark.parametrize("reference", ["champion", "season"])
def test_its_report_has_a_page_too(services: FakeServices, reference: Any) -> None:
    with_trained_champion(services)
    services.with_policy(data=replace(SEASON, reference=reference), drift=DriftPolicy(calibration_days=400))
    with_long_panel(services)
    outcome = checked(services)
    assert outcome.result["reference"]["used"] == reference
    page = Path(outcome.result["report_path"]).with_suffix(".html")
    assert "</html>" in page.read_text()


def test_the_summary_names_a_reference_that_is_not_the_documented_one(services: FakeServices) -> None:
    assert not any("Reference:" in line for line in drift_lines(checked(services).result))
    with_trained_champion(services)
    (line,) = [line for line in drift_lines(checked(services).result) if "Reference:" in line]
    assert line.startswith("  Reference: training profile of version 1, ")
