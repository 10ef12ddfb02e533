"""The commands and their options; each imports what it needs when it runs."""

from typing import Annotated, Any

import typer

import trainable
from trainable.cli.command import Commands

app = typer.Typer(
    name="trainable",
    cls=Commands,
    help="Agents that explore, prepare and train on your data, step by step, in plain Python.",
    epilog="No key and no network needed: trainable demo",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
RUN, LOOK = "Run", "Look"


def _option(metavar: str, text: str, *names: str, **limits: Any) -> Any:
    return typer.Option(*names, metavar=metavar, help=text, **limits)


def _flag(text: str, *names: str) -> Any:
    return typer.Option(*names, metavar="", help=text)


Id = Annotated[str, typer.Argument(metavar="ID", help="Start of a session's id, or 'latest'.")]
Stages = Annotated[
    list[str] | None, _option("STAGE", "eda, prep or train; repeatable. All by default.", "--stage")
]
AsEvents = Annotated[bool, _flag("Print each event as a JSON line on stdout.", "--json")]
AsJson = Annotated[bool, _flag("Print JSON on stdout.", "--json")]
Quiet = Annotated[bool, _flag("Print nothing but errors.", "--quiet", "-q")]


def main() -> None:
    """Run the command line of this process."""
    app(prog_name="trainable")


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    version: Annotated[bool, _flag("Print the version.", "--version")] = False,
) -> None:
    """Answer a call without a command."""
    if version:
        typer.echo(f"trainable {trainable.__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(rich_help_panel=RUN)
def demo(as_json: AsEvents = False, quiet: Quiet = False) -> None:
    """Run all stages on a real dataset: no key, no network."""
    from trainable.cli.run import Output, run_demo

    raise typer.Exit(run_demo(Output(json=as_json, quiet=quiet)))


@app.command(rich_help_panel=RUN)
def run(  # noqa: PLR0913 - one for each option
    data: Annotated[
        list[str], typer.Argument(metavar="DATA", help="A file, a folder, or several files.")
    ],
    target: Annotated[str | None, _option("COLUMN", "What to predict; else EDA suggests.")] = None,
    task: Annotated[str | None, _option("TASK", "classification or regression.")] = None,
    group: Annotated[str | None, _option("COLUMN", "Keep its rows in one split.")] = None,
    time: Annotated[str | None, _option("COLUMN", "Split by it, the future last.")] = None,
    name: Annotated[str | None, _option("NAME", "Name of the session.")] = None,
    instructions: Annotated[str, _option("TEXT", "What you want, in your own words.")] = "",
    stage: Stages = None,
    agent: Annotated[str, _option("NAME", "Who does the work.")] = "auto",
    sandbox: Annotated[str, _option("NAME", "Where the code runs.")] = "auto",
    isolation: Annotated[
        str | None, _option("none", "Let code that a model wrote run without walls.")
    ] = None,
    timeout: Annotated[float, _option("SECONDS", "How long a step may take.")] = 600,
    max_turns: Annotated[int, _option("N", "Steps that an agent may take in a stage.")] = 30,
    as_json: AsEvents = False,
    quiet: Quiet = False,
) -> None:
    """Start a session over DATA: EDA, Prep, Train.

    Example: trainable run titanic.csv --target survived
    """
    from trainable.cli.run import Output, run_data

    code = run_data(
        data,
        stage or (),
        Output(json=as_json, quiet=quiet),
        target=target,
        task=task,
        group=group,
        time=time,
        name=name,
        instructions=instructions,
        agent=agent,
        sandbox=sandbox,
        isolation=isolation,
        timeout=timeout,
        max_turns=max_turns,
    )
    raise typer.Exit(code)


@app.command(rich_help_panel=RUN)
def resume(
    session_id: Id, stage: Stages = None, as_json: AsEvents = False, quiet: Quiet = False
) -> None:
    """Run the stages that are not done, or some again."""
    from trainable.cli.run import Output, run_again

    raise typer.Exit(run_again(session_id, stage or (), Output(json=as_json, quiet=quiet)))


@app.command(rich_help_panel=RUN)
def cancel(session_id: Id) -> None:
    """Stop a run, also one of another terminal."""
    from trainable.cli.show import cancel_session

    raise typer.Exit(cancel_session(session_id))


@app.command(rich_help_panel=LOOK)
def sessions(
    limit: Annotated[int, _option("N", "Most sessions to list.", min=1)] = 20,
    as_json: AsJson = False,
) -> None:
    """List the sessions, newest first."""
    from trainable.cli.listing import list_sessions

    list_sessions(limit, as_json=as_json)


@app.command(rich_help_panel=LOOK)
def show(session_id: Id) -> None:
    """Show a session: stages, findings, score, files."""
    from trainable.cli.show import show_session

    show_session(session_id)


@app.command(rich_help_panel=LOOK)
def events(
    session_id: Id,
    follow: Annotated[bool, _flag("Go on with new ones, until Ctrl-C.", "--follow", "-f")] = False,
    after: Annotated[int, _option("N", "Number of the event to start behind.", min=0)] = 0,
    as_json: AsEvents = False,
) -> None:
    """Print what happened in a session, and happens."""
    from trainable.cli.show import print_events

    print_events(session_id, follow=follow, after=after, as_json=as_json)


@app.command(rich_help_panel=LOOK)
def sql(
    session_id: Id,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="One SELECT, in DuckDB's SQL.")],
    limit: Annotated[int, _option("N", "Most rows to print.", min=1)] = 100,
    as_json: Annotated[bool, _flag("Print each row as a JSON line.", "--json")] = False,
) -> None:
    """Query the tables raw, train, val, test, all_data.

    Example: trainable sql latest "FROM train LIMIT 5"
    """
    from trainable.cli.query import print_query

    print_query(session_id, query, limit, as_json=as_json)


@app.command(rich_help_panel=LOOK)
def doctor(as_json: AsJson = False) -> None:
    """Check what works here, and what to do about the rest."""
    from trainable.cli.doctor import report

    raise typer.Exit(report(as_json=as_json))
