"""Studies beside a real PostgreSQL ledger: a schema of their own, made once, and nothing outside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from mlops.domain.errors import ConfigurationError, LeaseLost, LedgerUnavailable
from mlops.domain.training.parameters import dimensions
from mlops.ledger.engine import parse_url
from mlops.ledger.schema import migrate
from mlops.ledger.studies import SCHEMA, Studies, Study

SPACE = dimensions({"x": [0.0, 1.0]})


def distance(params: Mapping[str, Any], told: Callable[[int, float], None]) -> float:
    """Least at 0.7."""
    return abs(float(params["x"]) - 0.7)


def searched(study: Study, n: int) -> list[float]:
    while len(study.finished) < n:
        study.run_next(SPACE, distance, first={"x": 0.5})
    return [trial.params["x"] for trial in study.finished]


def tables(url: str) -> dict[str, int]:
    engine = create_engine(parse_url(url))
    with engine.connect() as connection:
        found = connection.execute(
            text("SELECT table_schema, count(*) FROM information_schema.tables GROUP BY 1 ORDER BY 1")
        )
        counted = {schema: n for schema, n in found if schema not in {"pg_catalog", "information_schema"}}
    engine.dispose()
    return counted


def test_a_study_leaves_the_ledgers_schema_alone_and_is_taken_up_by_another_process(postgres_url: str) -> None:
    migrate(postgres_url)
    before = tables(postgres_url)
    first = Studies(postgres_url).open("run-1", maximise=False, seed=1)
    in_part = searched(first, 4)
    assert tables(postgres_url)["public"] == before["public"]
    assert tables(postgres_url)[SCHEMA] > 0
    again = Studies(postgres_url).open("run-1", maximise=False, seed=1)
    assert searched(again, 12)[:4] == in_part
    alone = Studies(postgres_url).open("run-2", maximise=False, seed=1)
    assert searched(alone, 12) == searched(again, 12)


def test_trials_on_other_rows_are_forgotten(postgres_url: str) -> None:
    searched(Studies(postgres_url).open("run-1", maximise=False, seed=1, data="monday"), 3)
    assert len(Studies(postgres_url).open("run-1", maximise=False, seed=1, data="monday").finished) == 3
    assert Studies(postgres_url).open("run-1", maximise=False, seed=1, data="tuesday").finished == ()


def test_a_running_trial_of_a_dead_worker_is_failed_and_does_not_count(postgres_url: str) -> None:
    def dies(params: Mapping[str, Any], told: Callable[[int, float], None]) -> float:
        raise KeyboardInterrupt

    study = Studies(postgres_url).open("run-1", maximise=False, seed=1)
    with pytest.raises(KeyboardInterrupt):
        study.run_next(SPACE, dies, first={"x": 0.5})
    again = Studies(postgres_url).open("run-1", maximise=False, seed=1)
    assert again.finished == ()
    assert searched(again, 1) == [0.5]


def test_two_workers_that_open_the_first_studies_at_once_both_get_theirs(postgres_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        studies = list(pool.map(lambda n: Studies(postgres_url).open(f"run-{n % 2}", maximise=False, seed=1), range(4)))
    assert all(study.finished == () for study in studies)
    assert sorted(Studies(postgres_url).names()) == ["run-0", "run-1"]


def test_a_deleted_study_is_gone_and_may_be_deleted_twice(postgres_url: str) -> None:
    studies = Studies(postgres_url)
    searched(studies.open("run-1", maximise=False, seed=1), 2)
    studies.delete("run-1")
    studies.delete("run-1")
    assert studies.names() == []


def test_a_user_who_may_not_make_the_schema_is_told_what_the_owner_must_do(postgres_url: str) -> None:
    url = parse_url(postgres_url)
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    role = f"reader_{url.database}"
    with engine.connect() as connection:
        connection.execute(text(f"CREATE ROLE \"{role}\" LOGIN PASSWORD 'x'"))
    try:
        restricted = url.set(username=role, password="x").render_as_string(hide_password=False)
        with pytest.raises(ConfigurationError, match="CREATE SCHEMA mlops_optuna AUTHORIZATION"):
            Studies(restricted).open("run-1", maximise=False, seed=1)
    finally:
        with engine.connect() as connection:
            connection.execute(text(f'DROP ROLE "{role}"'))
        engine.dispose()


def test_a_database_that_is_down_is_an_outage_that_the_stage_waits_out() -> None:
    with pytest.raises(LedgerUnavailable, match="do not answer"):
        Studies("postgresql://nobody@127.0.0.1:1/none").open("run-1", maximise=False, seed=1)


def test_a_stale_worker_whose_search_was_taken_over_adds_nothing(postgres_url: str) -> None:
    study = Studies(postgres_url).open("run-1", maximise=False, seed=1)

    def taken_over(params: Mapping[str, Any], told: Callable[[int, float], None]) -> float:
        Studies(postgres_url).open("run-1", maximise=False, seed=1)
        return distance(params, told)

    def taken_over_between_folds(params: Mapping[str, Any], told: Callable[[int, float], None]) -> float:
        taken_over(params, told)
        told(0, 0.5)
        return 0.5

    for evaluate in (taken_over, taken_over_between_folds):
        with pytest.raises(LeaseLost, match="taken over"):
            study.run_next(SPACE, evaluate, first={"x": 0.5})
    assert study.finished == ()


def test_studies_whose_tables_are_gone_are_begun_anew(postgres_url: str) -> None:
    studies = Studies(postgres_url)
    searched(studies.open("run-1", maximise=False, seed=1), 2)
    engine = create_engine(parse_url(postgres_url))
    with engine.begin() as connection:
        connection.execute(text(f"DROP SCHEMA {SCHEMA} CASCADE"))
    engine.dispose()
    with pytest.raises(LedgerUnavailable, match=r"tables of the studies .* are gone"):
        studies.open("run-1", maximise=False, seed=1)
    assert studies.open("run-1", maximise=False, seed=1).finished == ()
