//! `stasis`, the analyst's command line. It starts and answers the state machines and reads the case file; it touches no
//! instance itself.

mod answer;
mod args;
mod case;
mod contain;
mod digest;
mod error;
mod fetch;
mod list;
mod place;
mod ready;
mod release;
mod screen;
mod show;
mod source;
mod text;
mod verify;
mod watch;

use args::{Arguments, Command};
use clap::{CommandFactory as _, Parser as _};
use error::CliError;
use place::Place;
use screen::Screen;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let screen = Screen { json: arguments.common.json };
    match Box::pin(run(&arguments, screen)).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            screen.note(format!("stasis: {error}"));
            error.code()
        }
    }
}

/// Carries a command out; whether what came of it is as one hopes for.
async fn run(arguments: &Arguments, screen: Screen) -> Result<bool, CliError> {
    let common = &arguments.common;
    match &arguments.command {
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut Arguments::command(), "stasis", &mut std::io::stdout());
            Ok(true)
        }
        Command::Verify(what) => verify::run(common, screen, what).await,
        command => with_place(&Place::find(common, screen).await?, command).await,
    }
}

async fn with_place(place: &Place, command: &Command) -> Result<bool, CliError> {
    match command {
        Command::Contain(what) => contain::run(place, what).await,
        Command::Release(what) => release::run(place, what).await,
        Command::Approve(what) => answer::run(place, what, true).await,
        Command::Reject(what) => answer::run(place, what, false).await,
        Command::List(what) => list::run(place, what).await,
        Command::Show(what) => show::run(place, what).await,
        Command::Watch(what) => watch::run(place, &what.case).await,
        Command::Fetch(what) => fetch::run(place, what).await,
        Command::Ready(what) => ready::run(place, what).await,
        Command::Verify(_) | Command::Completions { .. } => Ok(true),
    }
}
