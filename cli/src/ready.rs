//! `stasis ready`: asks the function `stasis-ready` whether instances could be contained and captured now. It answers with
//! the settings and the rights that count in an incident, which an analyst's own may not be.

use crate::args::Ready;
use crate::error::CliError;
use crate::place::Place;
use crate::text::safe;
use stasis_model::check::CheckStatus;
use stasis_model::ready::{Effect, MOST_INSTANCES, Readiness, ReadyCheck, ReadyRequest, Verdict};

/// Up to so many instances are told with every check; more as a table alone.
const IN_FULL: usize = 3;

/// Tells how ready instances are; whether all of them, and the place, are.
pub(crate) async fn run(place: &Place, what: &Ready) -> Result<bool, CliError> {
    let mut whole: Option<Readiness> = None;
    for request in requests(what) {
        let mut request = Some(request);
        while let Some(asked) = request.take() {
            let answer = place.cloud.ask_readiness(&asked).await?;
            if let Some(next) = answer.next.clone() {
                request = Some(ReadyRequest { next: Some(next), ..asked });
            }
            whole = Some(match whole.take() {
                Some(before) => joined(before, answer),
                None => answer,
            });
            if request.is_some() {
                let looked = whole.as_ref().map_or(0, |said| said.instances.len());
                place.screen.note(format!("{looked} instances looked at, and there are more"));
            }
        }
    }
    let said = whole.ok_or_else(|| CliError::Usage("name instances, or all of them (--all)".to_owned()))?;
    place.screen.json(&said)?;
    tell(place, &said)?;
    Ok(said.verdict == Verdict::Ready)
}

/// The calls that a command line becomes.
fn requests(what: &Ready) -> Vec<ReadyRequest> {
    let common =
        ReadyRequest { account: what.account.clone(), region: what.instance_region.clone(), ..ReadyRequest::default() };
    if what.all {
        return vec![ReadyRequest { all: true, ..common }];
    }
    what.instances
        .chunks(MOST_INSTANCES)
        .map(|some| ReadyRequest { instance_ids: some.to_vec(), ..common.clone() })
        .collect()
}

fn joined(mut before: Readiness, more: Readiness) -> Readiness {
    before.verdict = before.verdict.max(more.verdict);
    before.instances.extend(more.instances);
    if before.place.is_empty() {
        before.place = more.place;
    }
    before.next = None;
    before.unasked += more.unasked;
    before
}

fn tell(place: &Place, said: &Readiness) -> Result<(), CliError> {
    let screen = place.screen;
    let ready = said.instances.iter().filter(|one| one.verdict == Verdict::Ready).count();
    screen.say(format!(
        "{ready} of {} instances in account {}, {}, could be contained and captured in full now",
        said.instances.len(),
        said.account,
        said.region
    ))?;
    let gaps: Vec<&ReadyCheck> = said.place.iter().filter(|check| lacks(check)).collect();
    if !gaps.is_empty() {
        screen.say("\nfor every instance there:")?;
        checks(place, &gaps)?;
    }
    if !said.instances.is_empty() {
        screen.say("")?;
        let rows = said.instances.iter().map(|one| {
            let lacking: Vec<String> =
                one.checks.iter().filter(|check| lacks(check)).map(|check| safe(&check.check.name)).collect();
            let lacking =
                if lacking.is_empty() { "nothing".to_owned() } else { format!("not so: {}", lacking.join("; ")) };
            vec![one.instance_id.to_string(), safe(one.name.as_deref().unwrap_or("")), one.verdict.to_string(), lacking]
        });
        screen.table(&["INSTANCE", "NAME", "", "WHAT IS MISSING"], rows.collect())?;
    }
    if said.instances.len() <= IN_FULL {
        for one in &said.instances {
            screen.say(format!("\n{}", one.instance_id))?;
            checks(place, &one.checks.iter().collect::<Vec<_>>())?;
        }
    } else {
        screen.say("\nwhat to do about it: stasis ready INSTANCE, for each; all of it at once: --json")?;
    }
    Ok(())
}

/// Whether a check speaks against being ready.
fn lacks(check: &ReadyCheck) -> bool {
    !check.check.passed() && check.effect != Effect::Advice
}

fn checks(place: &Place, checks: &[&ReadyCheck]) -> Result<(), CliError> {
    for one in checks {
        let mark = match (one.check.status, one.effect) {
            (CheckStatus::Pass, _) => "ok",
            (_, Effect::Advice) => "note",
            (CheckStatus::Unknown, _) => "UNKNOWN",
            (CheckStatus::Fail | CheckStatus::Missing, _) => "MISSING",
        };
        place.screen.say(format!("  {mark:8} {}: {}", safe(&one.check.name), safe(&one.check.observed)))?;
        if let Some(remedy) = &one.remedy {
            place.screen.say(format!("           -> {}", safe(remedy)))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Arguments, Command};
    use clap::Parser as _;

    #[test]
    fn many_instances_become_several_calls_and_something_must_be_named() {
        let asked = |line: &str| {
            let arguments = Arguments::try_parse_from(line.split(' ')).map_err(|error| error.to_string())?;
            let Command::Ready(what) = arguments.command else { panic!("ready") };
            Ok::<_, String>(requests(&what))
        };
        assert!(asked("stasis ready").is_err() && asked("stasis ready --all i-0a1b2c3d").is_err());
        assert!(asked("stasis ready web-1").expect_err("no id").contains("i-"));
        assert_eq!(asked("stasis ready --all").expect("all").len(), 1);
        let many = format!("stasis ready{}", " i-0a1b2c3d".repeat(MOST_INSTANCES + 1));
        let calls = asked(&many).expect("many");
        assert_eq!(calls.iter().map(|call| call.instance_ids.len()).collect::<Vec<_>>(), [MOST_INSTANCES, 1]);
        assert!(calls.into_iter().all(|call| call.checked().is_ok()));
    }
}
