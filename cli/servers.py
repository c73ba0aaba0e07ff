"""What starts, prepares and shows servers: `acis up`, `status`, `stop`, `secrets`, `clean`, `migrate`, `demo`, …"""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Annotated

import typer

from mlops.runs.command_line import AsJson, command

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path
    from types import FrameType

    from pydantic import SecretStr

    from cli.up_display import UpDisplay
    from config.endpoints import Endpoints
    from config.settings import Settings
    from devstack.demo import Pass
    from devstack.plan import StackOptions
    from devstack.stack import Stack
    from mlops.bootstrap import Services
    from mlops.domain.records import RunView

_ALREADY_RUNNING = 3
"""Exit code of a second start."""


@command
def up(
    once: Annotated[bool, typer.Option("--once", help="End after the summary, with the pipeline's exit code.")] = False,
    json: AsJson = False,
) -> int:
    """Start servers, workers, beat, reconciler, Flower, admin page, predictions; run the loop until Ctrl-C."""
    from cli.up_display import UpDisplay
    from config.settings import load_settings
    from mlops.domain.errors import AlreadyRunning

    # Ctrl-C too: a shell starts its background jobs with it ignored, and then Python would never hear of it.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupt)
    display = UpDisplay(quiet=json)
    try:
        return _serve(load_settings(), display, once=once, json=json)
    except AlreadyRunning as exc:
        display.say(str(exc))
        return _ALREADY_RUNNING


@command
def status(json: AsJson = False) -> int:
    """Say what runs here: each server and role, its address, since when, and whether it answers.

    Exit code 0 where all of it answers, 1 where something does not or nothing runs.
    """
    from cli.up_display import show_status
    from config.settings import load_settings
    from devstack.layout import Layout
    from devstack.status import stack_status
    from mlops.reporting.terminal import FINDING, OK, print_json

    found = stack_status(Layout(var_dir=load_settings().var_dir))
    if json:
        print_json(found)
    else:
        show_status(found)
    return OK if found.answers else FINDING


@command
def stop(json: AsJson = False) -> int:
    """Stop the servers and roles that `make run` or `acis up` started in another terminal; nothing of them is left."""
    from config.settings import load_settings
    from devstack.layout import Layout, holder
    from devstack.stack import stop_running
    from mlops.reporting.terminal import err, out, print_json

    layout = Layout(var_dir=load_settings().var_dir)
    if not json and holder(layout.lock_file) is not None:
        err.print("Stopping; a worker may finish what it does, for up to 15 s.")
    stopped = stop_running(layout)
    if json:
        print_json({"stopped": stopped, "folder": str(layout.var_dir)})
    else:
        words = f"Stopped; no process of {layout.var_dir} is left."
        out.print(words if stopped else f"Nothing runs in {layout.var_dir}.", markup=False)
    return 0


@command
def secrets(
    env: Annotated[bool, typer.Option("--env", help="Print random secrets for .env, and keep none.")] = False,
    missing: Annotated[
        str | None, typer.Option(metavar="FILE", help="With --env: write into FILE those that it lacks, keep the rest.")
    ] = None,
    compose: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER", help="Complete .env in the folder of docker-compose.yml, and write its secrets."
        ),
    ] = None,
    kubernetes: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Print the Secrets of Kubernetes, from the passwords of --missing FILE."),
    ] = None,
    database: Annotated[
        str | None, typer.Option(metavar="URL", help="With --kubernetes: PostgreSQL, as postgresql://HOST:5432/acis.")
    ] = None,
    broker: Annotated[
        str | None, typer.Option(metavar="URL", help="With --kubernetes: Redis, as rediss://HOST:6379.")
    ] = None,
    namespace: Annotated[str, typer.Option(help="With --kubernetes: where the Secrets belong.")] = "acis-ai",
    json: AsJson = False,
) -> int:
    """Make random secrets (mode 600) and print the sign-in once."""
    from pathlib import Path

    from config.settings import load_settings
    from devstack import secrets as made_secrets
    from devstack.layout import Layout
    from devstack.secrets import FILE, ROLE_FILES, add_missing, ensure_secrets, env_lines, write_compose_secrets
    from mlops.domain.errors import ConfigurationError
    from mlops.reporting.terminal import out, print_json

    if missing is not None and not env:
        raise ConfigurationError("--missing FILE goes with --env")
    if kubernetes is not None:
        where = {"database": database or made_secrets.DATABASE, "broker": broker or made_secrets.BROKER}
        manifest = made_secrets.kubernetes_secrets(Path(kubernetes), namespace=namespace, **where)
        out.print(manifest, markup=False, soft_wrap=True, highlight=False)
        return 0
    if compose is not None:
        added = write_compose_secrets(Path(compose))
        if json:
            print_json({"folder": compose, "added": added})
        else:
            out.print(
                f"{len(added)} added to {Path(compose, '.env')}; each container's are in {Path(compose, ROLE_FILES)}.\n"
                "To sign in, .env has FLOWER_BASIC_AUTH, ACIS_ADMIN_AUTH and, for `viewer` at MLflow, "
                "MLFLOW_VIEWER_PASSWORD.",
                markup=False,
            )
        return 0
    if missing is not None:
        added = add_missing(Path(missing))
        if json:
            print_json({"file": missing, "added": added})
        else:
            out.print(f"{len(added)} added to {missing}: {', '.join(added) or 'it had all'}.", markup=False)
        return 0
    if env:
        out.print("\n".join(env_lines()), markup=False, soft_wrap=True)
        return 0
    settings = load_settings()
    Layout(var_dir=settings.var_dir).make()
    made, is_new = ensure_secrets(settings.var_dir)
    path = settings.var_dir / FILE
    if json:
        print_json({"file": str(path), "made": is_new})
    elif is_new:
        out.print(
            f"Secrets written to {path} (mode 600).\nFlower sign-in, shown once: {made.flower_basic_auth}\n"
            f"Admin page's first user, shown once: {made.admin_auth}\n"
            f"MLflow's viewer, shown once: {made.mlflow_auth('viewer')}"
        )
    else:
        out.print(f"Secrets are in {path} already.")
    return 0


@command
def clean(json: AsJson = False) -> int:
    """Remove everything that `make run` wrote; refused while it runs."""
    from config.settings import load_settings
    from devstack.layout import Layout
    from devstack.stack import remove_var
    from mlops.reporting.terminal import out, print_json

    var_dir = load_settings().var_dir
    removed = remove_var(Layout(var_dir=var_dir))
    if json:
        print_json({"removed": removed, "folder": str(var_dir)})
    else:
        out.print(f"Removed {var_dir}." if removed else f"There is no {var_dir}.")
    return 0


@command
def migrate(
    wait: Annotated[
        bool, typer.Option("--wait", help="Change nothing: wait until another process has done it.")
    ] = False,
    json: AsJson = False,
) -> int:
    """Make or upgrade the ledger's tables (`mlops_*`) in DATABASE_URL, beside workers that run; safe to repeat."""
    from config.settings import load_settings
    from mlops.domain.errors import NothingConfigured
    from mlops.ledger.grants import let_features_be_read
    from mlops.ledger.schema import await_migration
    from mlops.ledger.schema import migrate as migrate_ledger
    from mlops.reporting.terminal import err, out, print_json

    settings = load_settings()
    if settings.database_url is None:
        raise NothingConfigured
    url = settings.database_url.get_secret_value()
    carry_out = await_migration if wait else migrate_ledger
    state = carry_out(url, say=lambda words: err.print(words, markup=False))
    if not wait:
        let_features_be_read(url, settings.feature_relation)
    if json:
        print_json(state)
    else:
        out.print(f"The ledger's tables are at revision {state.current}.")
    return 0


@command
def load_sample(json: AsJson = False) -> int:
    """Put the demo's features, of real daily prices, into DATABASE_URL as `ml_training_features`; safe to repeat."""
    from config.settings import load_settings
    from mlops.domain.errors import NothingConfigured
    from mlops.features.sample import RELATION
    from mlops.reporting.terminal import out, print_json

    settings = load_settings()
    if settings.database_url is None:
        raise NothingConfigured
    _load_sample(settings.database_url.get_secret_value())
    if json:
        print_json({"relation": RELATION})
    else:
        out.print(f"The sample is in {RELATION}.")
    return 0


@command
def demo(json: AsJson = False) -> int:
    """Run the loop on the sample, by workers that run already: what `make run` shows, in Compose; safe to repeat."""
    from cli.up_display import UpDisplay
    from config.settings import load_settings
    from mlops.reporting.narrative import is_error
    from mlops.reporting.terminal import FINDING, OK
    from tasks.services import connect

    services, display = connect(load_settings()), UpDisplay(quiet=json)
    since = services.ledger.now()
    results, scored = _demonstrate(services, display, sample=True, since=since, look=lambda: None)
    display.end(results, sample=True, json=json)
    views = [*scored, *(view for _, views in results for view in views)]
    return FINDING if any(is_error(view) for view in views) else OK


@command
def server_users(json: AsJson = False) -> int:
    """Make the database and Redis users of the roles, with passwords from the environment; safe to repeat.

    DATABASE_URL and CELERY_BROKER_URL are of users that may make users; a server whose URL is not set is left alone.
    Then `acis migrate`, as acis_owner, says what each may do in the ledger.
    """
    import os

    from config.roles import DATABASE_USERS, REDIS_USERS, password_variable
    from config.settings import load_settings
    from devstack import postgres, redis_users
    from mlops.domain.errors import ConfigurationError, NothingConfigured
    from mlops.reporting.terminal import out, print_json

    settings = load_settings()
    database, broker = settings.database_url, settings.celery_broker_url
    if database is None and broker is None:
        raise NothingConfigured
    users = [*(DATABASE_USERS if database else ()), *(REDIS_USERS if broker else ())]
    passwords = {user: os.environ.get(password_variable(user), "") for user in users}
    missing = [password_variable(user) for user, password in passwords.items() if not password]
    if missing:
        raise ConfigurationError(
            f"{', '.join(missing)} must be set; `acis secrets --env --missing FILE` makes random ones"
        )
    if database is not None:
        postgres.set_up_users(database.get_secret_value(), passwords)
    if broker is not None:
        redis_users.set_up_users(broker.get_secret_value(), passwords)
    if json:
        print_json({"users": users})
    else:
        out.print(f"{len(users)} users have their passwords: {', '.join(users)}.")
    return 0


def _serve(settings: Settings, display: UpDisplay, *, once: bool, json: bool) -> int:
    from config.settings import load_settings
    from devstack.secrets import ensure_secrets
    from devstack.stack import Stack
    from mlops.domain.errors import ServerFailed
    from mlops.reporting.narrative import is_error
    from mlops.reporting.terminal import ERROR, FINDING, OK
    from tasks.services import connect

    # Where either the database or the features are the user's, the data is.
    sample = settings.feature_url is None
    stack = Stack(_options(settings, sample=sample), prepare=lambda found: _prepare(found, sample=sample))
    try:
        stack.layout.make()
        secrets, are_new = ensure_secrets(settings.var_dir)
        if are_new:
            display.sign_in("Flower", secrets.flower_basic_auth)
            display.sign_in("Admin page", secrets.admin_auth)
            display.sign_in("MLflow", secrets.mlflow_auth("viewer"))
        with display.starting() as on_step:
            stack.start(on_step)
            stack.wait_healthy(on_step=on_step)
        services = connect(load_settings())
        display.addresses(stack.endpoints, settings.var_dir)
        since = services.ledger.now()
        look = _watch(stack, display)
        results, scored = _demonstrate(services, display, sample=sample, since=since, look=look)
        # What an earlier start has run and shown is not shown again.
        is_news = any(view.created_at >= since for _, views in results for view in views)
        display.end(results, sample=sample and is_news, json=json)
        errors = sum(is_error(view) for views in (scored, *(views for _, views in results)) for view in views)
        if once:
            return FINDING if errors else OK
        if is_news:  # it has scrolled the first ones away
            display.addresses(stack.endpoints, settings.var_dir)
        display.serving()
        while True:
            look()
            time.sleep(1.0)
    except KeyboardInterrupt:
        display.say("Stopping every process that was started…")
    except ServerFailed as exc:
        display.say(str(exc))
        return ERROR
    finally:
        if stack.endpoints is not None:  # else `start` has stopped what it started
            with display.stopping():
                stack.stop()
    return OK


def _demonstrate(
    services: Services, display: UpDisplay, *, sample: bool, since: datetime, look: Callable[[], None]
) -> tuple[list[tuple[Pass, list[RunView]]], list[RunView]]:
    """Run passes with their predictions, and score those; each pass with its terminal runs, and the scorings."""
    from devstack.demo import own_data_pass, predict_past, run_pass, sample_passes, score_past

    results: list[tuple[Pass, list[RunView]]] = []
    scored: list[RunView] = []
    for one in sample_passes() if sample else own_data_pass(services):
        with display.working(one, since=since) as on_change:
            views = run_pass(services, one, on_change=on_change, check=look)
        results.append((one, views))
        display.pass_summary(one, views, since=since)
        with display.predicting() as on_date:
            predict_past(services, one, on_date=on_date, check=look)
    if sample:
        with display.scoring(since=since) as on_change:
            scored = score_past(services, on_change=on_change, check=look)
        display.live_summary(services.ledger.live_lines([view.strategy for view in scored]), scored, since=since)
    return results, scored


def _watch(stack: Stack, display: UpDisplay) -> Callable[[], None]:
    """A look at the programs and the volumes: says what went down or full, and came back, since the last.

    It raises ServerFailed when the supervisor, which starts them again, has died.
    """
    from mlops.volumes import full_in_words

    down: set[str] = set()
    full: set[Path] = set()

    def look() -> None:
        volumes = {volume.mount: volume for volume in stack.full_volumes()}
        for mount in sorted(volumes.keys() - full):
            display.say(full_in_words([volumes[mount]]))
        for mount in sorted(full - volumes.keys()):
            display.say(f"The volume at {mount} has room again; what waited for it goes on.")
        full.clear()
        full.update(volumes)
        now = {trouble.name: trouble.log_tail for trouble in stack.troubles()}
        for name in sorted(now.keys() - down):
            display.say(f"{name} is down and is started again; the end of its log:\n{now[name]}")
        for name in sorted(down - now.keys()):
            display.say(f"{name} is back.")
        down.clear()
        down.update(now)

    return look


def _options(settings: Settings, *, sample: bool) -> StackOptions:
    from config.settings import ROOT
    from devstack.plan import StackOptions

    def text(secret: SecretStr | None) -> str | None:
        return None if secret is None else secret.get_secret_value()

    chosen = sample and "strategies_file" not in settings.model_fields_set
    return StackOptions(
        var_dir=settings.var_dir,
        strategies_file=ROOT / "config" / "strategies_sample.toml" if chosen else settings.strategies_file,
        origin=settings.servers,
        database_url=text(settings.database_url),
        celery_broker_url=text(settings.celery_broker_url),
        celery_result_backend=text(settings.celery_result_backend),
        mlflow_tracking_uri=text(settings.mlflow_tracking_uri),
        mlflow_auth=f"{settings.mlflow_tracking_username}:{text(settings.mlflow_tracking_password) or ''}"
        if settings.mlflow_tracking_username
        else "",
        mlflow_artifact_root=settings.mlflow_artifact_root,
        flower_port=settings.flower_port,
        admin_port=settings.admin_port,
        serve_port=settings.serve_port,
    )


def _prepare(endpoints: Endpoints, *, sample: bool) -> None:
    from mlops.ledger.schema import migrate as migrate_ledger

    migrate_ledger(endpoints.database_url)
    if sample:
        _load_sample(endpoints.database_url)


def _load_sample(database_url: str) -> None:
    from mlops.features.sample import RELATION, load_sample
    from mlops.ledger.grants import let_features_be_read

    load_sample(database_url)
    let_features_be_read(database_url, RELATION)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
