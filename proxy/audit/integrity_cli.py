"""`postern audit verify | gaps | prune`: is the trail whole, and how it is shortened."""

import json
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from proxy.audit import gaps as reconciliation
from proxy.audit import prune as pruning
from proxy.audit import verify as verification
from proxy.audit.checkpoint import Checkpoint, read_file
from proxy.audit.findings import describe
from proxy.audit.options import EXIT_FINDINGS, Access, runs, stop
from proxy.audit.render import shown
from proxy.audit.when import before
from registry.output import end_if_reader_left

_KEYS = click.option(
    "--key",
    "keys",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="Trusted public key; may be repeated. Default: those in the state directory.",
)
_CHECKPOINTS = click.option(
    "--checkpoints",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Checkpoint file kept outside.",
)


@click.command("verify")
@_KEYS
@_CHECKPOINTS
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option(
    "--most", default=100, show_default=True, type=click.IntRange(1), help="Most findings of each kind to list."
)
@click.pass_obj
@runs
async def verify(access: Access, *, keys: tuple[Path, ...], file: Path | None, as_json: bool, most: int) -> None:
    """Prove that no row was altered, removed, inserted, re-ordered or cut off."""
    trusted = access.public_keys(keys)
    with _progress() as progress:
        task = progress.add_task("verifying", total=None)
        async with access.opened() as database:
            report = await verification.verify(
                database,
                trusted,
                _read(file),
                lambda done, total: progress.update(task, completed=done, total=max(total, done)),
                most,
            )
    with _ending(has_findings=report.found > 0):
        if as_json:
            _print_json(report)
        else:
            _print_report(report, has_keys=bool(trusted))


@click.command("gaps")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
@click.pass_obj
@runs
async def gaps(access: Access, *, as_json: bool) -> None:
    """Hold what was counted and promised against the rows that are there."""
    async with access.opened() as database:
        found = await reconciliation.find_gaps(database, datetime.now(UTC))
    losses = sum(gap.is_loss for gap in found)
    with _ending(has_findings=losses > 0):
        for gap in found:
            line = {"code": gap.code, "is_loss": gap.is_loss, "message": gap.message}
            click.echo(json.dumps(line) if as_json else shown(f"{gap.code}: {gap.message}"))
        if not as_json:
            click.echo(f"{losses} gaps, {len(found) - losses} remarks" if found else "no gaps", err=True)


@click.command("prune")
@click.option("--keep", required=True, help="How much to keep, such as 90d; older whole partitions are dropped.")
@click.option("--dry-run", is_flag=True, help="Only list what would be dropped.")
@click.option("--signing-key", type=click.Path(path_type=Path), help="PEM; default: the one in the state directory.")
@click.option(
    "--checkpoint-file", type=click.Path(dir_okay=False, path_type=Path), help="Append the statement here, too."
)
@_KEYS
@click.pass_obj
@runs
async def prune(
    access: Access,
    *,
    keep: str,
    dry_run: bool,
    signing_key: Path | None,
    checkpoint_file: Path | None,
    keys: tuple[Path, ...],
) -> None:
    """Drop old partitions whole, and leave a signed statement so that the rest still verifies.

    Checkpoints about what is dropped go, too, if the signing key or a --key has signed them.
    Needs the owner of the tables. Run `verify` and `export` before: what is dropped is gone.
    """
    now = datetime.now(UTC)
    try:
        span = pruning.span_to_keep(keep)
        before(now, span)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--keep") from error
    signer = None if dry_run else access.signer(signing_key)
    trusted = access.public_keys(keys)
    if checkpoint_file is not None and not dry_run:
        _require_writable(checkpoint_file)
    refused = False
    async with access.opened(("owner",)) as database:
        cutoff = await pruning.cutoff(database, span, now)
        for period in await pruning.periods_before(database, cutoff):
            if signer is None:
                click.echo(f"would drop {period.label}: {', '.join(name for _, name in period.names)}")
                continue
            done = await pruning.prune(database, period, signer, trusted.including(signer), checkpoint_file, now)
            refused = refused or done.refusal is not None
            click.echo(_outcome(done))
        if left := await pruning.without_period(database, cutoff):
            refused = True
            click.echo(
                f"kept {left} entries in the default partitions: their periods have no partition (docs/audit.md)"
            )
    if refused:
        sys.exit(EXIT_FINDINGS)


def _outcome(done: pruning.Pruned) -> str:
    if done.refusal:
        return f"kept {done.period.label}, {done.rows} rows: {done.refusal}"
    return f"dropped {done.period.label}, {done.rows} rows" + f", {done.heads} checkpoints" * (done.heads > 0)


def _require_writable(file: Path) -> None:
    """End before anything is dropped where its statement would not reach the file."""
    try:
        file.open("ab").close()
    except OSError as error:
        stop(f"the checkpoint file cannot be written, nothing was dropped: {file}: {error.strerror}")


@contextmanager
def _ending(*, has_findings: bool) -> Generator[None]:
    """Exit with 1 for findings, also where the reader of the output has left before its end."""
    try:
        yield
    except BrokenPipeError as error:
        end_if_reader_left(error, EXIT_FINDINGS if has_findings else 0)
    if has_findings:
        sys.exit(EXIT_FINDINGS)


def _read(file: Path | None) -> Sequence[Checkpoint]:
    try:
        return read_file(file) if file else ()
    except ValueError as error:
        stop(str(error), EXIT_FINDINGS)


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


def _print_json(report: verification.Report) -> None:
    click.echo(
        json.dumps(
            {
                "entries": report.entries,
                "writers": report.writers,
                "checkpoints": report.checkpoints,
                "unchecked_signatures": report.unchecked,
                "entries_behind_last_checkpoint": report.uncovered,
                "found": report.found,
                "first": describe(report.first) if report.first else None,
                "findings": [describe(each) for each in report.findings],
            }
        )
    )


def _print_report(report: verification.Report, *, has_keys: bool) -> None:
    for finding in report.findings:
        click.echo(shown(describe(finding)))
    if more := report.found - len(report.findings):
        click.echo(f"{more} more findings of these kinds: --most")
    click.echo(f"{report.entries} entries of {report.writers} writers, {report.checkpoints} signed checkpoints")
    if report.entries and not report.checkpoints:
        click.echo("without a signed checkpoint a chain that was rewritten, or cut off at its end, would look the same")
    elif report.uncovered:
        click.echo(f"{report.uncovered} entries are newer than the last checkpoint of their writer")
    if report.checkpoints and not has_keys:
        click.echo("signatures were not checked: give the public key with --key")
    if report.first is None:
        click.echo("everything fits")
    else:
        click.echo(f"first bad entry: {shown(describe(report.first))}")
