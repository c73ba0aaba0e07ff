"""What `acis doctor` asks, and how what it finds is mended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from mlops.addresses import without_credentials
from mlops.bootstrap import Services
from mlops.diagnosis.answer import Answer, Level
from mlops.diagnosis.backlog import backlog, undelivered
from mlops.domain.columns import mark_row_numbers
from mlops.domain.errors import AcisError, DataError, RegistryForbidden
from mlops.domain.frame import column_roles, left_out, select_features
from mlops.domain.labels import parse_label
from mlops.domain.panel import counted_dates, date_facts
from mlops.domain.ports import Window
from mlops.domain.windows import drift_windows, resolve_as_of, training_window
from mlops.ledger.engine import Database
from mlops.ledger.schema import durability, schema_differences, schema_state
from mlops.redis_address import redis_client
from mlops.registry.registry_check import champion_in, missing_words
from mlops.stages.drift_windows import with_enough_rows
from mlops.volumes import volumes_of
from tasks.services import connect

if TYPE_CHECKING:
    from config.settings import Settings
    from mlops.domain.policies import Strategy
    from mlops.domain.ports import Column, ModelVersion

# ---- What PostgreSQL and Redis would lose when they crash or fail over: the ledger is only as safe as its server


def database_durability(database: Database) -> Iterator[Answer]:
    """Of PostgreSQL."""
    found = durability(database)
    if found.switched_off:
        yield Answer(
            subject="durability",
            level="error",
            found=f"PostgreSQL has {', '.join(found.switched_off)} off: a crash loses accepted runs, and may give a "
            "lease twice",
            mend=f"ALTER SYSTEM SET {found.switched_off[0]} = on, and reload",
        )
    if found.asynchronous and not found.synchronous:
        names = ", ".join(found.asynchronous)
        yield Answer(
            subject="failover",
            level="warning",
            found=f"all standbys ({names}) follow asynchronously: a failover loses the last runs",
            mend="name one in synchronous_standby_names, or accept that and look at runs after a failover",
        )
    if found.hidden:
        yield Answer(
            subject="failover",
            level="warning",
            found=f"{len(found.hidden)} standbys follow, and this user may not see whether synchronously",
            mend="GRANT pg_monitor TO the ledger's user; what follows asynchronously loses the last runs in a failover",
        )
    if not found.switched_off:
        yield Answer(subject="durability", level="ok", found="PostgreSQL keeps what it has committed")


def broker_durability(client: Any) -> Iterator[Answer]:  # noqa: ANN401 -- a redis client
    """Of Redis; what it loses is sent again, so only what loses in silence is an error. Raises RedisError."""
    # By INFO: CONFIG is for who may change it, too.
    memory = str(client.info("memory").get("maxmemory_policy", "unknown"))
    aof = "yes" if client.info("persistence").get("aof_enabled") else "no"
    replicas = int(client.info("replication").get("connected_slaves", 0))
    if memory != "noeviction":
        yield Answer(
            subject="broker",
            level="error",
            found=f"maxmemory-policy is {memory}: messages may be evicted",
            mend="CONFIG SET maxmemory-policy noeviction",
        )
    if aof != "yes":
        yield Answer(
            subject="broker",
            level="warning",
            found="no append-only file: a restart loses messages, and the reconciler has to send them again",
            mend="CONFIG SET appendonly yes",
        )
    if replicas:
        yield Answer(
            subject="broker failover",
            level="ok",
            found=f"{replicas} replicas follow asynchronously: what a failover loses is sent again",
        )
    if memory == "noeviction" and aof == "yes":
        yield Answer(subject="broker", level="ok", found="answers, noeviction, append-only file on")


log = structlog.get_logger(__name__)

#: Clocks further apart than this confuse people who read logs; leases use the database's alone.
_MAX_SKEW_S = 5.0
_SHOWN = 3
_NAMED = 12


def diagnose(settings: Settings) -> list[Answer]:
    """Every check, in the order in which they should be mended."""
    services = connect(settings)
    answers: list[Answer] = []
    checks: tuple[tuple[str, Callable[[Services], Iterator[Answer]]], ...] = (
        ("strategies", _strategies),
        ("ledger", _ledger),
        ("durability", lambda asked: database_durability(asked.ledger.database)),
        ("timetable", _timetable),
        ("broker", _broker),
        ("MLflow", _mlflow),
        ("artifacts", _artifacts),
        ("checkpoints", _checkpoints),
        ("volumes", _volumes),
        ("workers", _workers),
        ("backlog", backlog),
        ("outcomes", undelivered),
        ("features", _features),
    )
    for subject, check in checks:
        with _caught(subject, answers):
            answers.extend(check(services))
    return answers


@contextmanager
def _caught(subject: str, answers: list[Answer]) -> Iterator[None]:
    try:
        yield
    except AcisError as exc:
        answers.append(Answer(subject=subject, level="error", found=str(exc), mend=_about_certificate(str(exc))))
    except Exception as exc:
        # A defect of one question hides no other's answer.
        log.exception("doctor.question_crashed", subject=subject)
        found = f"this question itself failed: {type(exc).__name__}: {without_credentials(str(exc))}"
        answers.append(
            Answer(subject=subject, level="error", found=found, mend="report it, with the end of var/log/commands.log")
        )


def _about_certificate(found: str) -> str:
    """What to do about a server whose certificate was refused; empty where it was not."""
    words = found.lower()
    if "certificate" not in words:
        return ""
    if "expired" in words:
        return "the server's certificate has run out: renew it, and let the server read the new one"
    if "does not match" in words or "doesn't match" in words or "not valid for" in words or "mismatch" in words:
        return "the certificate is another host's: let the address name the host that the certificate names"
    return (
        "the certificate was not signed by an authority that is trusted here, or has run out: name the authority's "
        "file in the address (ssl_ca_certs for Redis, sslrootcert for PostgreSQL) or in "
        "MLFLOW_TRACKING_SERVER_CERT_PATH; look at it with `openssl s_client -connect HOST:PORT`"
    )


def _strategies(services: Services) -> Iterator[Answer]:
    names = list(services.strategies)
    named = ", ".join(names) if len(names) <= _NAMED else f"{len(names):,} ({', '.join(names[:_SHOWN])}, …)"
    found = f"{named} from {services.settings.strategies_file}"
    for name in services.strategies:
        parse_label(services.strategies[name].training.label)
    yield Answer(subject="strategies", level="ok", found=found)


def _ledger(services: Services) -> Iterator[Answer]:
    url = services.settings.database_url
    skew_s = (services.now() - services.ledger.now()).total_seconds()
    state = schema_state(url.get_secret_value()) if url else None
    if state is not None and not state.is_current:
        yield Answer(
            subject="ledger",
            level="error",
            found=f"tables at {state.current}, code at {state.head}",
            mend="acis migrate",
        )
    else:
        differences = schema_differences(services.ledger.database)
        for one in differences:
            yield Answer(subject="schema", level="error", found=one.found, mend=one.mend)
        if not differences:
            yield Answer(
                subject="ledger", level="ok", found="answers; tables, columns, constraints and indexes are whole"
            )
    if abs(skew_s) > _MAX_SKEW_S:
        yield Answer(
            subject="clock",
            level="warning",
            found=f"this machine and the database are {skew_s:+.0f} s apart",
            mend="let both follow NTP; leases use the database's clock alone",
        )


def _timetable(services: Services) -> Iterator[Answer]:
    """A clock that was ahead for a while leaves slots that have not come."""
    now = services.ledger.now()
    ahead = [entry for entry in services.ledger.schedule() if entry.is_ahead(now)]
    if ahead:
        last = max(entry.last_slot for entry in ahead if entry.last_slot)
        names = ", ".join(entry.key for entry in ahead[:_SHOWN]) + (", …" if len(ahead) > _SHOWN else "")
        yield Answer(
            subject="timetable",
            level="warning",
            found=f"the last slot of {names} is {last:%Y-%m-%d %H:%M} UTC, and the database's clock says "
            f"{now:%Y-%m-%d %H:%M}: it was ahead, or is behind now",
            mend="set the clocks right; beat, or the reconciler, then sets the slots back within seconds",
        )


def _broker(services: Services) -> Iterator[Answer]:
    import redis  # noqa: PLC0415 -- asked for here alone

    url = services.settings.celery_broker_url
    if url is None:
        yield Answer(
            subject="broker",
            level="error",
            found="CELERY_BROKER_URL is not set and no server is running",
            mend="start everything with `make run`, or set it; commands without --queue need no broker",
        )
        return
    try:
        client = redis_client(url.get_secret_value(), socket_timeout=3, socket_connect_timeout=3)
        answers = list(broker_durability(client))
    except redis.ResponseError as exc:
        yield Answer(
            subject="broker",
            level="warning",
            found=f"Redis answers, and does not say what it would lose: {exc}",
            mend="look yourself: maxmemory-policy noeviction, appendonly yes",
        )
        return
    except redis.RedisError as exc:
        found = f"Redis at {without_credentials(url.get_secret_value())} does not answer: {exc}"
        mend = _about_certificate(found) or "start Redis, or correct CELERY_BROKER_URL"
        yield Answer(subject="broker", level="error", found=found, mend=mend)
        return
    yield from answers


def _mlflow(services: Services) -> Iterator[Answer]:
    names = [services.strategies[name].model_name for name in services.strategies]
    versions = {name: services.registry.versions(name) for name in names}
    n_versions = sum(len(found) for found in versions.values())
    secret = services.settings.mlflow_tracking_uri
    uri = without_credentials(secret.get_secret_value()) if secret else "MLflow"
    yield Answer(subject="MLflow", level="ok", found=f"{uri} answers; {n_versions} versions of {len(names)} models")
    findings = services.ledger.registry_findings()
    for finding in services.ledger.damaged_targets():
        yield Answer(
            subject=f"registry of {finding.strategy}",
            level="warning",
            found=finding.words,
            mend="bring the file back; a rollback passes the version over until then",
            strategy=finding.strategy,
            kind="damaged target",
        )
    for strategy in (services.strategies[name] for name in services.strategies):
        of_it = {str(finding.kind): finding.words for finding in findings if finding.strategy == strategy.name}
        yield from _registry(services, strategy, versions[strategy.model_name], of_it)


def _registry(
    services: Services, strategy: Strategy, versions: Sequence[ModelVersion], findings: Mapping[str, str]
) -> Iterator[Answer]:
    """What stops the strategy's promotions: the champion is not in the registry, or a number is another model's."""
    found = dict(findings)
    champion = services.ledger.champion(strategy.name)
    if champion.version is not None and champion_in(versions, champion) is None:
        found.setdefault("champion_missing", missing_words(strategy, champion))
    for kind, words in found.items():
        yield Answer(
            subject=f"registry of {strategy.name}",
            level="error",
            found=words,
            mend="acis registry",
            strategy=strategy.name,
            kind=kind.replace("_", " "),
        )


def _artifacts(services: Services) -> Iterator[Answer]:
    try:
        services.registry.check_artifacts()
    except RegistryForbidden as exc:
        mend = "ask as the registrar, whose password `acis` at a terminal is given"
        yield Answer(subject="artifacts", level="warning", found=f"not looked at: {exc}", mend=mend)
        return
    yield Answer(subject="artifacts", level="ok", found="MLflow keeps files, gives them and removes them")


def _checkpoints(services: Services) -> Iterator[Answer]:
    place = services.checkpoints.check()
    is_shared = "://" in place and not place.startswith("file:")
    words = "" if is_shared else "; workers on other hosts must see the same folder to go on with them"
    yield Answer(subject="checkpoints", level="ok", found=f"can be written and read at {place}{words}")


def _volumes(services: Services) -> Iterator[Answer]:
    settings = services.settings
    place = settings.checkpoint_place
    folders = [settings.var_dir, settings.report_dir, *([] if "://" in place else [Path(place)])]
    volumes = volumes_of(folders)
    for volume in volumes:
        if volume.is_low:
            yield Answer(
                subject="volumes",
                level="error" if volume.is_full else "warning",
                found=str(volume),
                mend="free some space there; what waits for it goes on by itself",
            )
    if not any(volume.is_low for volume in volumes):
        yield Answer(subject="volumes", level="ok", found="; ".join(str(volume) for volume in volumes))


def _workers(services: Services) -> Iterator[Answer]:
    workers = services.ledger.workers(within_s=90.0)
    served = {queue for worker in workers for queue in worker.queues}
    missing = [queue for queue in ("control", "drift", "train.cpu", "promote") if queue not in served]
    if missing:
        yield Answer(
            subject="workers",
            level="warning",
            found=f"nobody was seen serving {', '.join(missing)} in the last 90 s",
            mend="python -m worker ROLE; the reconciler notes who is alive, so it must run too",
        )
    else:
        yield Answer(subject="workers", level="ok", found=f"{len(workers)} alive: {', '.join(sorted(served))}")


def _features(services: Services) -> Iterator[Answer]:
    columns = services.source.columns()
    for name in services.strategies:
        try:
            yield _strategy_features(services, services.strategies[name], columns)
        except DataError as exc:
            yield _about(name, "error", "the view's data are refused", str(exc), "see README, Your own data")


def _about(strategy: str, level: Level, kind: str, found: str, mend: str = "") -> Answer:
    return Answer(subject=f"features of {strategy}", level=level, found=found, mend=mend, strategy=strategy, kind=kind)


def _strategy_features(services: Services, strategy: Strategy, columns: Sequence[Column]) -> Answer:
    name = strategy.name
    as_of = resolve_as_of(None, strategy, services.source, today=services.feature_day())
    columns = mark_row_numbers(services.source, strategy.name, columns, strategy.data, as_of=as_of)
    features = select_features(columns, strategy.data)
    untold = left_out(column_roles(columns, strategy.data))
    label = parse_label(strategy.training.label)
    absent = sorted(set(label.columns) - {column.name for column in columns})
    if absent:
        words = f"the label {strategy.training.label!r} needs {', '.join(absent)}, which the view lacks"
        mend = "add the column to the view, or change training.label"
        return _about(name, "error", "the label needs a column that the view lacks", words, mend)
    data = with_enough_rows(services.source, strategy, as_of=as_of).data
    reference, current = drift_windows(as_of, data)
    training = training_window(as_of, strategy.training)
    window = Window(start=min(reference.start, training.start), end=as_of)
    dates = counted_dates(services.source, strategy.name, window, min_share=strategy.data.min_date_share)
    rows = {
        window_name: dates.count(strategy.name, window)
        for window_name, window in (("reference", reference), ("current", current), ("training", training))
    }
    counted = f"{len(features)} features{f'; {untold}' if untold else ''}"
    found = f"{counted}; as of {as_of} " + ", ".join(f"{n:,} {name} rows" for name, n in rows.items())
    if data.current_days != strategy.data.current_days:
        found += f" (window stretched from {strategy.data.current_days} to {data.current_days} days to have enough)"
    if not all(rows.values()):
        newest = services.source.latest_date(name)
        return _about(name, "error", "a window has no rows", f"{found}; newest row {newest}", "load its features")
    if rows["current"] < strategy.data.min_current_rows:
        words = (
            f"{found}; a verdict needs {data.min_current_rows} current rows, and the longest window of "
            f"{data.max_current_days} days has not so many either"
        )
        mend = "load more names or dates, raise data.max_current_days, or lower data.min_current_rows"
        return _about(name, "warning", "too few current rows for a verdict", words, mend)
    if dates.panel.is_stale(as_of, max_days=strategy.data.max_stale_days):
        words = f"{found}; the newest date that counts is {dates.panel.newest}"
        return _about(name, "warning", "the newest date that counts is too old", words, "load newer features")
    facts = date_facts(dates, as_of=as_of, today=services.feature_day())
    if facts:
        words = "; ".join([found, *(fact.words for fact in facts)])
        mend = "correct column date in the view or the feed"
        return _about(name, "warning", "some dates do not count", words, mend)
    return _about(name, "ok", "every window has its rows", found)
