//! `stasis watch`: a case as it is worked on. On a terminal redrawn in place, with bars for what takes long; in a pipe a line
//! for each change. Only looks.

use crate::case::{Row, Standing, standing};
use crate::error::CliError;
use crate::place::Place;
use crate::show::headline;
use crate::text::safe;
use futures::future::join;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::Serialize;
use stasis_cloud::Cloud;
use stasis_model::ids::CaseId;
use stasis_model::now;
use stasis_model::outcome::RunStatus;
use stasis_model::stage::Stage;
use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

/// How long between two looks at first, and once the work has become slow.
const LOOK: Duration = Duration::from_secs(1);
const SLOW_LOOK: Duration = Duration::from_secs(5);
/// How many looks are quick ones.
const QUICK_LOOKS: u32 = 60;
/// How often a wait on the terminal is redrawn.
const REDRAW: Duration = Duration::from_millis(200);

/// Something slow, and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Slow {
    what: String,
    done: u64,
    of: u64,
    words: String,
}

/// Follows a case to the end of its run; whether that is a good one.
pub(crate) async fn run(place: &Place, id: &CaseId) -> Result<bool, CliError> {
    let mut view = if place.screen.json || !std::io::stderr().is_terminal() || !std::io::stdout().is_terminal() {
        View::Lines { place, seen: BTreeMap::new() }
    } else {
        View::Live(Box::new(Live::new()))
    };
    let mut looks = 0_u32;
    loop {
        let standing = standing(place, id, true).await?;
        let slow = slow(place, &standing).await;
        view.draw(&standing, &slow)?;
        if !standing.is_running {
            view.end();
            let headline = headline(&standing);
            if place.screen.json {
                return Ok(is_good(&standing));
            }
            place.screen.say(format!("{id}  {headline}"))?;
            place.screen.say(format!("  {}", safe(&standing.conclusion.reason)))?;
            if let Some(failure) = &standing.failure {
                place.screen.say(format!("  the execution failed: {}", safe(failure)))?;
            }
            return Ok(is_good(&standing));
        }
        looks += 1;
        let pause = if looks < QUICK_LOOKS { LOOK } else { SLOW_LOOK };
        view.pause(&standing, pause).await?;
    }
}

fn is_good(standing: &Standing) -> bool {
    standing.failure.is_none() && standing.conclusion.status != RunStatus::Partial
}

/// What takes long, as far as it can be seen from here.
async fn slow(place: &Place, standing: &Standing) -> Vec<Slow> {
    let case = &standing.case;
    let is_open = |stage: &Stage| {
        let done = case.stages.get(stage).is_some_and(|outcome| outcome.status.to_string() == "DONE");
        standing.is_running && !done && !case.is_dry_run()
    };
    let beside: Cloud = place.cloud.in_region(&case.instance.region);
    let at_home = case.instance.account == place.account;
    let memory = async {
        if !is_open(&Stage::Memory) {
            return None;
        }
        place.cloud.in_region(&case.instance.region).memory_arrived(case).await.ok().flatten()
    };
    let snapshots = async {
        if !at_home || !is_open(&Stage::Preserve) {
            return Vec::new();
        }
        // Who watches need not be able to see everything; what stages say is shown in any case.
        beside.snapshots_on_their_way(case).await.unwrap_or_default()
    };
    let (memory, snapshots) = join(memory, snapshots).await;
    let mut found = Vec::new();
    if let Some(arrived) = memory {
        let of = arrived.of.unwrap_or(0).max(arrived.bytes);
        let words = format!("{} of about {}", crate::text::bytes(arrived.bytes), crate::text::bytes(of));
        found.push(Slow { what: "memory".to_owned(), done: arrived.bytes, of, words });
    }
    found.extend(snapshots.iter().map(|snapshot| Slow {
        what: snapshot.snapshot_id.to_string(),
        done: u64::from(snapshot.progress),
        of: 100,
        words: format!("{}% of {} GiB, {}", snapshot.progress, snapshot.size_gib, safe(&snapshot.state)),
    }));
    found
}

enum View<'a> {
    Lines { place: &'a Place, seen: BTreeMap<String, String> },
    Live(Box<Live>),
}

impl View<'_> {
    fn draw(&mut self, standing: &Standing, slow: &[Slow]) -> Result<(), CliError> {
        match self {
            Self::Live(live) => {
                live.draw(standing, slow);
                Ok(())
            }
            Self::Lines { place, seen } => lines(place, seen, standing, slow),
        }
    }

    /// Waits for the next look; on a terminal the seconds go on.
    async fn pause(&mut self, standing: &Standing, pause: Duration) -> Result<(), CliError> {
        let Self::Live(live) = self else {
            wait(pause).await;
            return Ok(());
        };
        let mut left = pause;
        while !left.is_zero() {
            let step = left.min(REDRAW);
            wait(step).await;
            left = left.saturating_sub(step);
            live.redraw(standing);
        }
        Ok(())
    }

    fn end(&mut self) {
        if let Self::Live(live) = self {
            live.head.finish();
            live.rows.values().for_each(ProgressBar::finish);
            live.bars.values().for_each(ProgressBar::finish_and_clear);
        }
    }
}

/// Waits. A command for people is no function of the state machine.
#[expect(clippy::disallowed_methods, reason = "the analyst's command line waits between two looks; no function does")]
pub(crate) async fn wait(time: Duration) {
    tokio::time::sleep(time).await;
}

/// One line for each thing that became another.
fn lines(
    place: &Place,
    seen: &mut BTreeMap<String, String>,
    standing: &Standing,
    slow: &[Slow],
) -> Result<(), CliError> {
    let at = now();
    let elapsed = (at - standing.case.opened_at).as_seconds_f64();
    let mut changed = |key: String, value: String| seen.insert(key, value.clone()).is_none_or(|before| before != value);
    for row in standing.rows(at) {
        if row.status != "to come" && changed(row.stage.to_string(), format!("{} {}", row.status, row.summary)) {
            place.screen.json(&row)?;
            place.screen.say(format!(
                "{elapsed:8.1} s  {:<10} {:<10} {}",
                row.stage.to_string(),
                row.status,
                safe(&row.summary)
            ))?;
        }
    }
    for one in slow {
        if changed(one.what.clone(), one.words.clone()) {
            place.screen.json(one)?;
            place.screen.say(format!("{elapsed:8.1} s  {:<10} {}", one.what, one.words))?;
        }
    }
    Ok(())
}

/// What is redrawn in place.
struct Live {
    all: MultiProgress,
    head: ProgressBar,
    rows: BTreeMap<Stage, ProgressBar>,
    bars: BTreeMap<String, ProgressBar>,
}

impl Live {
    fn new() -> Self {
        let all = MultiProgress::new();
        let head = all.add(line());
        Self { all, head, rows: BTreeMap::new(), bars: BTreeMap::new() }
    }

    fn draw(&mut self, standing: &Standing, slow: &[Slow]) {
        self.redraw(standing);
        for one in slow {
            let bar = self.bars.entry(one.what.clone()).or_insert_with(|| {
                let bar = self.all.add(ProgressBar::new(one.of));
                if let Ok(style) = ProgressStyle::with_template("  {prefix:<24} {bar:30} {msg}") {
                    bar.set_style(style);
                }
                bar.set_prefix(one.what.clone());
                bar
            });
            bar.set_length(one.of);
            bar.set_position(one.done);
            bar.set_message(one.words.clone());
        }
        self.bars.retain(|what, bar| {
            let stays = slow.iter().any(|one| one.what == *what);
            if !stays {
                bar.finish_and_clear();
            }
            stays
        });
    }

    fn redraw(&mut self, standing: &Standing) {
        let at = now();
        let elapsed = (at - standing.case.opened_at).as_seconds_f64();
        self.head.set_message(format!("{}  {}  {elapsed:.1} s", standing.case.case_id, headline(standing)));
        let mut before = self.head.clone();
        for row in standing.rows(at) {
            let bar = self.rows.entry(row.stage).or_insert_with(|| self.all.insert_after(&before, line()));
            bar.set_message(words(&row));
            before = bar.clone();
        }
    }
}

fn line() -> ProgressBar {
    let bar = ProgressBar::new(1);
    if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
        bar.set_style(style);
    }
    bar
}

fn words(row: &Row) -> String {
    let took = row.took.map_or_else(String::new, |took| format!("{took:.1} s"));
    format!("  {:<10} {:<10} {took:>9}  {}", row.stage.to_string(), row.status, safe(&row.summary))
}
