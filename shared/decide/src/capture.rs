//! Capture: volatile data through the agent that is there already, by Stasis' own Command document.
//! An agent that does not answer is a result, never a reason to wait for ever.

use stasis_model::Timestamp;
use stasis_model::action::Action;
use stasis_model::baseline::Observed;
use stasis_model::case::Case;
use stasis_model::evidence::{Evidence, EvidenceKind};
use stasis_model::facts::{CaptureFacts, Command, CommandStep};
use stasis_model::ids::InstanceId;
use stasis_model::stage::{Failure, Next, Plan};

/// Code of the obstacle that there is no agent to ask.
pub const AGENT_OFFLINE: &str = "AgentOffline";
/// The first wait, in seconds: reading volatile data takes a few seconds.
const FIRST_WAIT: u32 = 3;
/// The longest wait between two looks, in seconds.
const LONGEST_WAIT: u32 = 30;
/// AWS' least `TimeoutSeconds` of SendCommand
/// (<https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_SendCommand.html>).
const LEAST_DELIVERY_SECONDS: i64 = 30;

/// Where the agent itself puts its output: the prefix given to SendCommand, without closing slash.
pub fn output_prefix(case: &Case) -> String {
    format!("{}volatile/run-command", case.prefix())
}

/// Where a step's output is kept as Systems Manager has it.
pub fn output_key(case: &Case, step: &str) -> String {
    format!("{}volatile/{step}.txt", case.prefix())
}

/// What marks a command as ours for this case; SSM's Comment takes 100 characters.
pub fn comment(case: &Case) -> String {
    format!("stasis {}", case.case_id)
}

/// What capture does next, at the time `now`.
pub fn plan(case: &Case, facts: &CaptureFacts, now: Timestamp) -> Plan {
    match facts.command.as_ref().filter(|sent| sent.counts_for(case, delivery_seconds(case))) {
        Some(command) => follow(case, facts, command, now),
        None => start(case, facts),
    }
}

/// How long its delivery may take.
fn delivery_seconds(case: &Case) -> i32 {
    i32::try_from(case.policy.capture_limit_seconds.max(LEAST_DELIVERY_SECONDS)).unwrap_or(i32::MAX)
}

/// Sends the command, unless there is nobody to send it to.
fn start(case: &Case, facts: &CaptureFacts) -> Plan {
    let mut plan = Plan::nothing();
    let instance = &case.instance.instance_id;
    match &facts.agent {
        Observed::Known(None) => {
            plan.obstacles.push(Failure::lasting(
                AGENT_OFFLINE,
                format!("{instance} is not managed by Systems Manager, so nothing on it can be read: no volatile data was captured"),
            ));
            plan.step(console(instance));
            return plan;
        }
        Observed::Known(Some(agent)) if !agent.is_online() => {
            plan.obstacles.push(Failure::lasting(
                AGENT_OFFLINE,
                format!(
                    "the agent on {instance} is {}, so nothing on it can be read: no volatile data was captured",
                    agent.ping_status
                ),
            ));
            plan.step(console(instance));
            return plan;
        }
        Observed::Known(Some(_)) => {}
        // Asking costs nothing, and SendCommand itself says when there is nobody.
        Observed::Unknown(why) => plan
            .notes
            .push(format!("whether the agent is online could not be read ({why}); the command is sent all the same")),
    }
    plan.step(vec![Action::SendCommand {
        instance: instance.clone(),
        document: case.policy.capture_document.clone(),
        output_prefix: output_prefix(case),
        delivery_seconds: delivery_seconds(case),
    }]);
    plan.next = Next::Wait(FIRST_WAIT);
    plan
}

/// What EC2 has of the console needs no agent, and is all that there is without one.
fn console(instance: &InstanceId) -> Vec<Action> {
    [false, true].map(|screenshot| Action::KeepConsole { instance: instance.clone(), screenshot }).to_vec()
}

/// Waits for the command, or keeps what came of it.
fn follow(case: &Case, facts: &CaptureFacts, command: &Command, now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    plan.evidence.push(Evidence {
        kind: EvidenceKind::Command,
        id: command.command_id.clone(),
        description: format!("Run Command, {}", command.status),
        location: None,
        sha256: None,
        size: None,
    });
    let elapsed = (now - command.requested_at).num_seconds();
    if !command.is_over() && elapsed < case.policy.capture_limit_seconds {
        let wait = u32::try_from(elapsed / 4).unwrap_or(FIRST_WAIT).clamp(FIRST_WAIT, LONGEST_WAIT);
        plan.next = Next::Wait(wait);
        return plan;
    }
    if !command.is_over() {
        plan.obstacles.push(Failure::lasting(
            "CaptureTimedOut",
            format!(
                "command {} is still {} after {elapsed} s; what it has sent so far is kept, and what it sends later lands in {}",
                command.command_id,
                command.status,
                output_prefix(case)
            ),
        ));
    } else if command.status != "Success" {
        plan.obstacles.push(Failure::lasting(
            "CommandFailed",
            format!("command {} ended {}; what it printed is kept", command.command_id, command.status),
        ));
    }
    let steps: Vec<&CommandStep> = steps_of_platform(facts, command);
    for step in steps.iter().filter(|s| s.status != "Success" && command.status == "Success") {
        plan.obstacles.push(Failure::lasting(
            "StepFailed",
            format!("step {} ended {} with exit code {}", step.name, step.status, step.response_code),
        ));
    }
    let printed: Vec<&&CommandStep> = steps.iter().filter(|s| s.has_output).collect();
    if printed.is_empty() && command.is_over() {
        plan.obstacles.push(Failure::lasting(
            "NothingReceived",
            format!(
                "command {} ended {} and printed nothing: the host may be lying, or its tools are gone",
                command.command_id, command.status
            ),
        ));
    }
    plan.step(
        printed
            .into_iter()
            .map(|step| Action::KeepCommandOutput {
                instance: case.instance.instance_id.clone(),
                command_id: command.command_id.clone(),
                step: step.name.clone(),
            })
            .collect(),
    );
    plan
}

/// The steps meant for the host's platform: the others are skipped by their precondition, and Systems Manager
/// lists them all the same.
fn steps_of_platform<'a>(facts: &CaptureFacts, command: &'a Command) -> Vec<&'a CommandStep> {
    let platform = facts.agent.known().and_then(Option::as_ref).map(|agent| agent.platform_type.as_str());
    command.steps.iter().filter(|step| platform.is_none_or(|platform| step.name.ends_with(platform))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use chrono::TimeDelta;
    use stasis_model::baseline::Agent;
    use stasis_model::case::TakenOver;

    fn facts(status: Option<&str>, steps: &[(&str, &str, bool)]) -> CaptureFacts {
        let case = sample::case();
        CaptureFacts {
            agent: case.baseline.agent.clone(),
            command: status.map(|status| Command {
                command_id: "c-1".to_owned(),
                status: status.to_owned(),
                undelivered: false,
                requested_at: case.opened_at,
                steps: steps
                    .iter()
                    .map(|(name, status, has_output)| CommandStep {
                        name: (*name).to_owned(),
                        status: (*status).to_owned(),
                        response_code: i32::from(*status != "Success"),
                        has_output: *has_output,
                        said: String::new(),
                    })
                    .collect(),
            }),
        }
    }

    fn codes(plan: &Plan) -> Vec<&str> {
        plan.obstacles.iter().map(|o| o.code.as_str()).collect()
    }

    fn after(seconds: i64) -> Timestamp {
        sample::case().opened_at + TimeDelta::seconds(seconds)
    }

    #[test]
    fn what_no_agent_began_with_is_sent_again_by_a_later_run_once_it_cannot_be_delivered_any_more() {
        let taken_over = |seconds| {
            let at = sample::case().opened_at + TimeDelta::seconds(seconds);
            Case { taken_over: Some(TakenOver { number: 1, from: None, why: "w".to_owned(), at }), ..sample::case() }
        };
        let limit = sample::case().policy.capture_limit_seconds;
        let sends = |case: &Case, facts: &CaptureFacts| {
            let now = case.worked_on_since() + TimeDelta::seconds(1);
            plan(case, facts, now).actions().any(|action| matches!(action, Action::SendCommand { .. }))
        };
        let waits = facts(Some("Pending"), &[("unix", "Pending", false)]);
        let mut undelivered = facts(Some("TimedOut"), &[("unix", "TimedOut", false)]);
        assert!(!sends(&taken_over(limit + 61), &undelivered), "nobody says that it was not delivered");
        undelivered.command.as_mut().expect("one").undelivered = true;
        for never in [&waits, &undelivered] {
            assert!(!sends(&taken_over(limit + 60), never), "an agent may still take it");
            assert!(sends(&taken_over(limit + 61), never));
            assert!(!sends(&sample::case(), never), "it is this run's own");
        }
        let said = facts(Some("TimedOut"), &[("unix", "TimedOut", true)]);
        assert!(!sends(&taken_over(limit + 61), &said));
    }

    #[test]
    fn the_command_is_sent_once_and_then_waited_for() {
        let case = sample::case();
        let first = plan(&case, &facts(None, &[]), after(0));
        assert!(matches!(first.actions().next(), Some(Action::SendCommand { .. })), "{first:?}");
        assert_eq!(first.next, Next::Wait(FIRST_WAIT));
        for status in ["Pending", "InProgress", "Delayed", "Cancelling"] {
            let later = plan(&case, &facts(Some(status), &[]), after(60));
            assert_eq!((later.actions().count(), later.next), (0, Next::Wait(15)), "{status}");
        }
    }

    #[test]
    fn waits_grow_and_stay_bounded() {
        let waits: Vec<Next> = [1, 20, 80, 500]
            .iter()
            .map(|s| plan(&sample::case(), &facts(Some("InProgress"), &[]), after(*s)).next)
            .collect();
        assert_eq!(waits, [Next::Wait(3), Next::Wait(5), Next::Wait(20), Next::Wait(30)]);
    }

    #[test]
    fn an_agent_that_is_not_there_is_a_clear_result() {
        let case = sample::case();
        let mut none = facts(None, &[]);
        none.agent = Observed::Known(None);
        let mut lost = facts(None, &[]);
        lost.agent = Observed::Known(Some(Agent {
            ping_status: "ConnectionLost".to_owned(),
            platform_type: "Linux".to_owned(),
            platform_name: None,
            version: None,
        }));
        for facts in [none, lost] {
            let plan = plan(&case, &facts, after(0));
            assert_eq!((codes(&plan), plan.next), (vec![AGENT_OFFLINE], Next::Finish));
            assert!(plan.actions().all(|action| matches!(action, Action::KeepConsole { .. })), "{plan:?}");
            assert_eq!(plan.actions().count(), 2);
        }
    }

    #[test]
    fn an_agent_that_cannot_be_looked_up_is_asked_all_the_same() {
        let mut facts = facts(None, &[]);
        facts.agent = Observed::Unknown("InternalServerError".to_owned());
        let plan = plan(&sample::case(), &facts, after(0));
        assert!(matches!(plan.actions().next(), Some(Action::SendCommand { .. })), "{plan:?}");
    }

    #[test]
    fn what_the_host_printed_is_kept_and_steps_of_other_platforms_do_not_count() {
        let steps =
            [("clockLinux", "Success", true), ("socketsLinux", "Failed", true), ("clockWindows", "Failed", false)];
        let plan = plan(&sample::case(), &facts(Some("Success"), &steps), after(5));
        assert_eq!(codes(&plan), ["StepFailed"]);
        assert_eq!(plan.actions().count(), 2);
        assert_eq!(plan.next, Next::Finish);
    }

    #[test]
    fn a_host_that_reports_success_and_sends_nothing_is_not_believed() {
        let plan = plan(&sample::case(), &facts(Some("Success"), &[("clockLinux", "Success", false)]), after(5));
        assert_eq!(codes(&plan), ["NothingReceived"]);
    }

    #[test]
    fn a_command_that_never_ends_is_given_up_at_the_limit() {
        let case = sample::case();
        let plan = plan(&case, &facts(Some("InProgress"), &[]), after(case.policy.capture_limit_seconds));
        assert_eq!((codes(&plan), plan.next), (vec!["CaptureTimedOut"], Next::Finish));
    }
}
