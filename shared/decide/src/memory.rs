//! Memory: the collector streams the physical memory into one upload; this decides each next step of that, and what
//! to make of what arrived. Nothing that the host says counts until S3 or EC2 confirms it, and a host that stalls,
//! dies or lies is a result, never a reason to wait for ever.

use crate::capture::AGENT_OFFLINE;
use chrono::TimeDelta;
use stasis_acquisition::lime;
use stasis_acquisition::parts::{part_bytes, part_count, uploads_at_once};
use stasis_acquisition::summary::{GapKind, Part};
use stasis_model::action::Action;
use stasis_model::baseline::Observed;
use stasis_model::case::Case;
use stasis_model::evidence::{Evidence, EvidenceKind};
use stasis_model::facts::Command;
use stasis_model::memory::{
    Acquisition, AcquisitionStatus, FOLDER, Format, Image, Kernel, Machine, MemoryFacts, Summary, Taken, ToolOutput,
    Upload, format_of, image_name, is_windows,
};
use stasis_model::stage::{ActionRecord, Failure, Next, Outcome, Plan};
use stasis_model::{SCHEMA, Timestamp};

/// The first wait, in seconds: small hosts are through in a few.
const FIRST_WAIT: u32 = 3;
/// The longest wait between two looks, in seconds.
const LONGEST_WAIT: u32 = 60;
/// How much longer than the memory an image without headers may be, in bytes.
const RAW_HOLES: u64 = 4 << 30;
/// For how long nothing may arrive while the command runs.
const STALLED: TimeDelta = TimeDelta::minutes(10);
/// When the next manifest is written: addresses die with the signer's session, which lasts an hour.
const RENEWED: TimeDelta = TimeDelta::minutes(25);
/// Of the memory that EC2 says, the host must show this much, in percent: firmware and crash kernel take a little.
const LEAST_SHOWN: u64 = 90;
/// Of its memory, so much may be gaps, in percent; more is no longer the memory.
const MOST_GAPS: u64 = 5;
/// AWS' least `TimeoutSeconds` of SendCommand.
const DELIVERY_SECONDS: i32 = 60;
/// How much of what a failed host says is repeated, in characters.
const MOST_SAID: usize = 200;
/// S3's answer to an object that is not what the checksum says.
const BAD_DIGEST: &str = "BadDigest";

/// Where the image of a case is.
pub fn image_key(case: &Case) -> String {
    format!("{}{FOLDER}{}", case.prefix(), image_name(format_of(case)))
}

/// What marks the command as ours for this case.
pub fn comment(case: &Case) -> String {
    format!("stasis memory {}", case.case_id)
}

/// What memory does next, at the time `now`, after what was `tried` in this call.
pub fn plan(case: &Case, facts: &MemoryFacts, now: Timestamp, tried: &[ActionRecord]) -> Plan {
    if let Some(outcome) = &facts.outcome {
        return finished(case, outcome, facts.image.as_ref());
    }
    match facts.command.as_ref().filter(|sent| facts.has_arrived() || sent.counts_for(case, DELIVERY_SECONDS)) {
        None => start(case, facts, now),
        Some(command) => follow(case, facts, command, now, tried),
    }
}

/// The outcome stands: says it, and what is short of a whole image.
fn finished(case: &Case, outcome: &Acquisition, image: Option<&Image>) -> Plan {
    let mut plan = Plan::nothing();
    plan.notes.clone_from(&outcome.notes);
    if let Some(image) = image {
        let key = image_key(case);
        plan.evidence.push(Evidence {
            kind: EvidenceKind::Object,
            id: key.clone(),
            description: in_words(outcome),
            location: Some(format!("s3://{}/{key}", case.bucket)),
            sha256: outcome.sha256.clone(),
            size: Some(image.bytes),
        });
    }
    if let Some(failure) = failure(outcome) {
        plan.obstacles.push(failure);
    }
    plan
}

/// What the outcome is, in a few words.
pub fn in_words(outcome: &Acquisition) -> String {
    let gib = |bytes: u64| {
        let tenths = bytes.saturating_mul(10) >> 30;
        if tenths == 0 { format!("{} MiB", bytes >> 20) } else { format!("{}.{} GiB", tenths / 10, tenths % 10) }
    };
    let received = gib(outcome.received_bytes);
    match outcome.status {
        AcquisitionStatus::Captured if outcome.gap_bytes == 0 => format!("memory image, {received}, without a gap"),
        AcquisitionStatus::Captured => {
            format!("memory image, {received}, of which {} KiB could not be read", outcome.gap_bytes >> 10)
        }
        AcquisitionStatus::Partial => match outcome.expected_bytes {
            Some(expected) => format!("part of the memory, {received} of {}", gib(expected)),
            None => format!("part of the memory, {received}"),
        },
        AcquisitionStatus::Procmem => format!("memory of the processes, {received}"),
        AcquisitionStatus::Unsupported | AcquisitionStatus::Failed => "no memory".to_owned(),
    }
}

/// What keeps the stage from being done.
fn failure(outcome: &Acquisition) -> Option<Failure> {
    let code = match outcome.status {
        AcquisitionStatus::Captured => return None,
        AcquisitionStatus::Partial => "MemoryPartial",
        AcquisitionStatus::Procmem => "ProcessMemoryOnly",
        AcquisitionStatus::Unsupported => "MemoryUnsupported",
        AcquisitionStatus::Failed if outcome.reason.as_deref().is_some_and(|r| r.contains(AGENT_OFFLINE)) => {
            AGENT_OFFLINE
        }
        AcquisitionStatus::Failed => "MemoryFailed",
    };
    let reason = outcome.reason.as_deref().unwrap_or("no reason was given");
    Some(Failure::lasting(code, format!("{}: {reason}", in_words(outcome))))
}

/// Begins the upload, signs the addresses, sends the command, one after another; each is found again by what it made.
fn start(case: &Case, facts: &MemoryFacts, now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    let instance = case.instance.instance_id.clone();
    let (machine, collector) = match able(case, facts) {
        Ok(able) => able,
        Err(acquisition) => {
            plan.step(vec![Action::KeepAcquisition { instance, acquisition }]);
            plan.next = Next::ObserveAgain;
            return plan;
        }
    };
    let Some(upload) = &facts.upload else {
        plan.step(vec![Action::BeginUpload { instance, key: image_key(case) }]);
        plan.next = Next::ObserveAgain;
        return plan;
    };
    // Of a run that ended before it sent the command, the addresses may be dead by now.
    let newest = facts.manifests.iter().max_by_key(|(number, _)| *number);
    let number = match newest {
        Some((number, at)) if now - *at <= RENEWED => *number,
        older => {
            let next = older.map_or(1, |(number, _)| number + 1);
            plan.step(vec![manifest(case, upload, next, 1, machine)]);
            plan.next = Next::ObserveAgain;
            return plan;
        }
    };
    let tool = &case.policy.memory.windows_tool;
    plan.step(vec![Action::AcquireMemory {
        instance,
        document: case.policy.memory.document.clone(),
        collector: collector.to_owned(),
        windows_tool: is_windows(case).then(|| tool.clone()),
        delivery_seconds: DELIVERY_SECONDS,
        manifest: number,
    }]);
    plan.next = Next::Wait(FIRST_WAIT);
    plan
}

/// Why the memory could not be acquired, as far as that is known before anything is begun; none where it could.
pub(crate) fn obstacle(case: &Case, facts: &MemoryFacts) -> Option<String> {
    able(case, facts).err().and_then(|acquisition| acquisition.reason)
}

/// The machine and the collector for it, or why its memory cannot be acquired.
fn able<'a>(case: &'a Case, facts: &'a MemoryFacts) -> Result<(&'a Machine, &'a str), Box<Acquisition>> {
    let instance = &case.instance.instance_id;
    let policy = &case.policy.memory;
    let nothing = |status, reason: String| {
        let machine_bytes = facts.machine.known().map(|machine| machine.memory_mib << 20);
        Box::new(Acquisition { status, reason: Some(reason), machine_bytes, ..empty(case) })
    };
    let failed = |reason| nothing(AcquisitionStatus::Failed, reason);
    let unsupported = |reason| nothing(AcquisitionStatus::Unsupported, reason);
    match &facts.agent {
        Observed::Known(None) => {
            return Err(failed(format!("{AGENT_OFFLINE}: {instance} is not managed by Systems Manager")));
        }
        Observed::Known(Some(agent)) if !agent.is_online() => {
            return Err(failed(format!("{AGENT_OFFLINE}: the agent on {instance} is {}", agent.ping_status)));
        }
        Observed::Known(Some(agent)) if agent.platform_type == "MacOS" => {
            return Err(unsupported(
                "MacOS has no way to its physical memory that Stasis knows; its disks are preserved".to_owned(),
            ));
        }
        // The agent picks the step by what it runs on, and the image is read by what EC2 says.
        Observed::Known(Some(agent)) if agent.platform_type != if is_windows(case) { "Windows" } else { "Linux" } => {
            return Err(unsupported(format!(
                "the agent says that {instance} runs {}, and EC2 says {}",
                agent.platform_type,
                case.baseline.instance.platform.as_deref().unwrap_or("nothing of that")
            )));
        }
        // Asking costs nothing, and SendCommand itself says when there is nobody.
        Observed::Known(Some(_)) | Observed::Unknown(_) => {}
    }
    let machine = match &facts.machine {
        Observed::Known(machine) => machine,
        Observed::Unknown(why) => return Err(failed(format!("what machine {instance} is could not be read: {why}"))),
    };
    if is_windows(case) {
        return match policy.windows_tool.sha256.as_str() {
            "" => Err(unsupported(
                "Windows gives its memory to a driver alone, and no memory tool was deployed (docs/memory.md, Windows); \
                 its disks are preserved"
                    .to_owned(),
            )),
            tool => Ok((machine, tool)),
        };
    }
    let collector = match machine.architecture.as_str() {
        "x86_64" => &policy.collector_x86_64,
        "arm64" => &policy.collector_arm64,
        other => return Err(unsupported(format!("there is no collector for {other}"))),
    };
    if collector.is_empty() {
        return Err(unsupported(format!(
            "no collector for {} was deployed: make collector, then deploy with its SHA-256",
            machine.architecture
        )));
    }
    Ok((machine, collector))
}

/// The manifest of this number, with addresses from a part on.
fn manifest(case: &Case, upload: &Upload, number: u32, first_part: u32, machine: &Machine) -> Action {
    // An image without headers begins at address 0 and has the holes below 4 GiB in it.
    let memory = (machine.memory_mib << 20) + if is_windows(case) { RAW_HOLES } else { 0 };
    Action::WriteManifest {
        instance: case.instance.instance_id.clone(),
        number,
        key: image_key(case),
        upload_id: upload.upload_id.clone(),
        first_part,
        parts: part_count(memory).saturating_sub(first_part - 1),
        part_bytes: part_bytes(memory),
        uploads_at_once: uploads_at_once(memory),
    }
}

/// Waits for the collector, or makes an end.
fn follow(case: &Case, facts: &MemoryFacts, command: &Command, now: Timestamp, tried: &[ActionRecord]) -> Plan {
    let mut plan = Plan::nothing();
    let over = command.is_over();
    let elapsed = now - command.requested_at;
    let last = facts.upload.as_ref().map_or(command.requested_at, Upload::last_at).max(command.requested_at);
    // A tool that writes a file is through with it before anything is sent.
    let writes_file = is_windows(case) && case.policy.memory.windows_tool.output == ToolOutput::File;
    let nothing_yet = facts.upload.as_ref().is_none_or(|upload| upload.parts.is_empty());
    let stalled = now - last > STALLED && !(writes_file && nothing_yet);
    let late = elapsed.num_seconds() >= case.policy.memory.limit_seconds;
    if !over && !stalled && !late {
        wait(case, facts, elapsed, now, &mut plan);
        return plan;
    }
    if is_not_through(tried) {
        // The completion of a large upload takes S3 minutes; nothing may be made of it before.
        plan.progress = Some("memory: the image is being put together".to_owned());
        plan.next = Next::Wait(LONGEST_WAIT);
        return plan;
    }
    if let (Some(upload), None) = (&facts.upload, &facts.image)
        && !upload.in_order().is_empty()
        && let Some(action) = complete(case, facts, upload, tried)
    {
        plan.step(vec![action]);
        plan.next = Next::ObserveAgain;
        return plan;
    }
    let end = match (over, stalled) {
        (true, _) => format!("the command ended {}", command.status),
        (false, true) => format!("nothing arrived for {} minutes while the command ran", STALLED.num_minutes()),
        (false, false) => format!("it was not through after {} s", elapsed.num_seconds()),
    };
    let acquisition = judge(case, facts, command, &end, bad_digest(tried));
    plan.step(vec![Action::KeepAcquisition {
        instance: case.instance.instance_id.clone(),
        acquisition: Box::new(acquisition),
    }]);
    plan.next = Next::ObserveAgain;
    plan
}

fn wait(case: &Case, facts: &MemoryFacts, elapsed: TimeDelta, now: Timestamp, plan: &mut Plan) {
    let seconds = u32::try_from(elapsed.num_seconds() / 4).unwrap_or(FIRST_WAIT);
    plan.next = Next::Wait(seconds.clamp(FIRST_WAIT, LONGEST_WAIT));
    let (Some(upload), Observed::Known(machine)) = (&facts.upload, &facts.machine) else { return };
    let (received, _) = upload.received();
    let memory = machine.memory_mib << 20;
    let percent = received.saturating_mul(100) / memory.max(1);
    plan.progress =
        Some(format!("memory {}% ({} of {} MiB) received", percent.min(100), received >> 20, machine.memory_mib));
    let newest = facts.manifests.iter().max_by_key(|(number, _)| *number);
    if let Some((number, at)) = newest
        && now - *at > RENEWED
    {
        // What arrived needs no address any more, except that parts on their way may come again.
        let next = u32::try_from(upload.in_order().len()).unwrap_or(0).saturating_add(1);
        plan.step(vec![manifest(case, upload, number + 1, next, machine)]);
    }
}

/// Whether the completion failed in this call for a reason that passes.
fn is_not_through(tried: &[ActionRecord]) -> bool {
    tried.iter().any(|record| {
        matches!(record.action, Action::CompleteUpload { .. })
            && record.error.as_ref().is_some_and(|error| error.retryable)
    })
}

/// Whether S3 said that the image is not what the checksum says.
fn bad_digest(tried: &[ActionRecord]) -> bool {
    tried.iter().any(|record| {
        matches!(record.action, Action::CompleteUpload { .. })
            && record.error.as_ref().is_some_and(|error| error.code == BAD_DIGEST)
    })
}

/// Makes an object of the parts that arrived in order. S3 compares its checksum with the one that the host took
/// while sending; where they differ it is made without, and said. None where it failed otherwise: the outcome tells.
fn complete(case: &Case, facts: &MemoryFacts, upload: &Upload, tried: &[ActionRecord]) -> Option<Action> {
    let failed = |record: &&ActionRecord| {
        matches!(record.action, Action::CompleteUpload { .. }) && record.outcome == Outcome::Failed
    };
    let differs = bad_digest(tried);
    if tried.iter().filter(failed).count() > usize::from(differs) {
        return None;
    }
    let parts = upload.in_order();
    let (_, bytes) = upload.received();
    let crc64nvme = sent_up_to(facts, parts.len(), bytes).and_then(checksum).filter(|_| !differs);
    Some(Action::CompleteUpload {
        instance: case.instance.instance_id.clone(),
        key: image_key(case),
        upload_id: upload.upload_id.clone(),
        parts: u32::try_from(parts.len()).unwrap_or(u32::MAX),
        bytes,
        crc64nvme,
    })
}

/// What the host says of the stream up to the end of this part, where the sizes agree.
fn sent_up_to(facts: &MemoryFacts, parts: usize, bytes: u64) -> Option<&Part> {
    let said = facts.summary.as_ref()?.as_ref().ok()?.stream.parts.get(..parts)?;
    let sum = said.iter().fold(0_u64, |sum, part| sum.saturating_add(part.bytes));
    said.last().filter(|_| sum == bytes)
}

/// The checksum that the host says, where it has the form of one: it goes into a request.
fn checksum(part: &Part) -> Option<String> {
    let form =
        part.crc64nvme.len() == 12 && part.crc64nvme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b));
    form.then(|| part.crc64nvme.clone())
}

/// The SHA-256 that the host says, where it has the form of one.
fn sha256(part: &Part) -> Option<String> {
    let form = part.sha256.len() == 64 && part.sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
    form.then(|| part.sha256.clone())
}

/// A text of the host's, short and printable.
fn host_text(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MOST_SAID).collect()
}

fn empty(case: &Case) -> Acquisition {
    Acquisition {
        schema: SCHEMA,
        takeover: case.takeover(),
        status: AcquisitionStatus::Failed,
        reason: None,
        machine_bytes: None,
        host_bytes: None,
        expected_bytes: None,
        received_bytes: 0,
        gap_bytes: 0,
        gaps: 0,
        format: format_of(case),
        sha256: None,
        crc64nvme: None,
        version_id: None,
        kernel: None,
        command_id: None,
        undelivered: false,
        notes: Vec::new(),
    }
}

/// What to make of what arrived. `end` is why nothing more will; `differs` that S3 found another checksum.
fn judge(case: &Case, facts: &MemoryFacts, command: &Command, end: &str, differs: bool) -> Acquisition {
    let image = facts.image.as_ref();
    let mut acquisition = Acquisition {
        machine_bytes: facts.machine.known().map(|machine| machine.memory_mib << 20),
        received_bytes: image.map_or(0, |image| image.bytes),
        version_id: image.and_then(|image| image.version_id.clone()),
        command_id: Some(command.command_id.clone()),
        undelivered: command.never_began() && !facts.has_arrived(),
        ..empty(case)
    };
    let summary = match &facts.summary {
        Some(Ok(summary)) => summary,
        Some(Err(why)) => return without_summary(acquisition, &format!("the host's summary cannot be read: {why}")),
        None => {
            let said = said(command).map_or_else(String::new, |error| format!(": {error}"));
            return without_summary(acquisition, &format!("the host sent no summary, and {end}{said}"));
        }
    };
    acquisition.host_bytes = Some(summary.memory_bytes);
    acquisition.expected_bytes = Some(summary.stream.bytes);
    acquisition.gap_bytes = gap_bytes(summary);
    acquisition.gaps = summary.gaps.len();
    acquisition.kernel = Some(Kernel {
        release: host_text(&summary.kernel.release),
        machine: host_text(&summary.kernel.machine),
        lockdown: summary.kernel.lockdown.as_deref().map(host_text),
        ..summary.kernel.clone()
    });
    let reason = summary.reason.as_deref().map(host_text);
    acquisition.notes = notes(case, summary);
    let received = summary.stream.parts.iter().scan(0_u64, |sum, part| {
        *sum = sum.saturating_add(part.bytes);
        Some((*sum, part))
    });
    if let Some((_, part)) = received.into_iter().find(|(sum, _)| *sum == acquisition.received_bytes) {
        acquisition.sha256 = sha256(part);
        acquisition.crc64nvme = checksum(part);
    }
    let mut wrong = Vec::new();
    if !summary.stream.complete {
        wrong.push(reason.clone().unwrap_or_else(|| "the host did not send all of it".to_owned()));
    }
    if acquisition.received_bytes != summary.stream.bytes {
        wrong.push(format!("{} bytes arrived of {}", acquisition.received_bytes, summary.stream.bytes));
    }
    let other =
        image.and_then(|image| image.crc64nvme.as_ref()).is_some_and(|c| Some(c) != acquisition.crc64nvme.as_ref());
    if differs || other {
        wrong.push("what arrived has another checksum than what the host says to have sent".to_owned());
    }
    acquisition.status = match summary.taken {
        Taken::Nothing => {
            wrong.insert(0, reason.clone().unwrap_or_else(|| "nothing was sent".to_owned()));
            AcquisitionStatus::Failed
        }
        Taken::ProcessMemory if wrong.is_empty() => {
            wrong.push(reason.clone().unwrap_or_else(|| "the kernel refuses the physical memory".to_owned()));
            AcquisitionStatus::Procmem
        }
        Taken::Memory => {
            wrong.extend(short(summary, image, acquisition.machine_bytes, format_of(case)));
            if wrong.is_empty() { AcquisitionStatus::Captured } else { AcquisitionStatus::Partial }
        }
        Taken::ProcessMemory => AcquisitionStatus::Partial,
    };
    if acquisition.received_bytes == 0 && acquisition.status != AcquisitionStatus::Captured {
        acquisition.status = AcquisitionStatus::Failed;
    }
    acquisition.reason = (!wrong.is_empty()).then(|| wrong.join("; "));
    acquisition
}

/// Why the script or the collector says that it failed: one line of JSON with an `error`, from the host.
fn said(command: &Command) -> Option<String> {
    let lines = command.steps.iter().flat_map(|step| step.said.lines());
    let mut errors = lines.filter_map(|line| {
        serde_json::from_str::<serde_json::Value>(line).ok()?.get("error")?.as_str().map(str::to_owned)
    });
    let error = errors.next_back()?;
    Some(host_text(&error))
}

fn without_summary(mut acquisition: Acquisition, why: &str) -> Acquisition {
    if acquisition.has_image() {
        acquisition.status = AcquisitionStatus::Partial;
    }
    acquisition.reason = Some(why.to_owned());
    acquisition
}

/// How much could not be read: what the host says, or what its list comes to, whichever is more.
fn gap_bytes(summary: &Summary) -> u64 {
    let listed = summary.gaps.iter();
    listed.fold(0_u64, |sum, gap| sum.saturating_add(gap.end.saturating_sub(gap.start))).max(summary.gap_bytes)
}

/// What an image of the physical memory is short of.
fn short(summary: &Summary, image: Option<&Image>, machine_bytes: Option<u64>, format: Format) -> Vec<String> {
    let mut short = Vec::new();
    let memory = summary.memory_bytes;
    if let Some(machine) = machine_bytes
        && memory < machine / 100 * LEAST_SHOWN
    {
        short.push(format!("the host shows {} MiB of memory, and EC2 says {}", memory >> 20, machine >> 20));
    }
    if memory == 0 {
        short.push("the host shows no memory".to_owned());
    }
    let gaps = gap_bytes(summary);
    if gaps > memory / 100 * MOST_GAPS {
        short.push(format!("{} MiB of {} could not be read", gaps >> 20, memory >> 20));
    }
    let bytes = image.map_or(0, |image| image.bytes);
    if format == Format::Raw && bytes < memory {
        short.push(format!("the image has {} MiB, and the host {} MiB of memory", bytes >> 20, memory >> 20));
    }
    if format == Format::Lime {
        match image.and_then(|image| image.ranges.as_ref()) {
            Some(Ok(ranges)) => {
                let held: u64 = ranges.iter().map(|range| range.end - range.start).sum();
                let left_out = summary.gaps.iter().filter(|gap| gap.why == GapKind::NotMapped);
                let left_out = left_out.fold(0_u64, |sum, gap| sum.saturating_add(gap.end.saturating_sub(gap.start)));
                if held.saturating_add(left_out) < memory {
                    let said = "MiB of memory, less than the host has without its listed gaps";
                    short.push(format!("the image holds {} {said}", held >> 20));
                }
                if lime::image_bytes(ranges) != image.map_or(0, |image| image.bytes) {
                    short.push("the image is not as long as its records".to_owned());
                }
            }
            Some(Err(why)) => short.push(format!("the image is no whole LiME file: {why}")),
            None => short.push("the image could not be looked through".to_owned()),
        }
    }
    short
}

/// What the reader of the image must know.
fn notes(case: &Case, summary: &Summary) -> Vec<String> {
    let mut notes = Vec::new();
    let windows = is_windows(case);
    if windows {
        notes.push(format!(
            "the image was made by the memory tool with SHA-256 {}, which does not tell the pages that it could not read",
            case.policy.memory.windows_tool.sha256
        ));
    }
    let kernel = &summary.kernel;
    if kernel.five_level_paging {
        notes.push(
            "the kernel uses five levels of page tables, which Volatility up to 2.28 does not walk: its lists stay empty, \
             and that does not mean that there is nothing"
                .to_owned(),
        );
    }
    if !kernel.has_btf && !windows {
        notes.push(format!(
            "kernel {:.64} tells no types (BTF): symbols for the image need the distribution's debug package",
            kernel.release
        ));
    }
    if summary.taken == Taken::ProcessMemory {
        notes.push(format!("memory of {} processes and their executables, as a tar archive", summary.processes));
    }
    notes.push(
        "whoever holds root on the host can feed the collector false bytes: what is proven is what arrived".to_owned(),
    );
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use proptest::prelude::*;
    use stasis_acquisition::manifest::SCHEMA as WIRE;
    use stasis_acquisition::summary::{Gap, Stream};
    use stasis_model::baseline::Agent;
    use stasis_model::case::TakenOver;
    use stasis_model::memory::{MemoryChoice, UploadedPart, is_outcome, outcome_name};
    use std::collections::BTreeMap;
    use std::ops::Range;

    const MIB: u64 = 1 << 20;
    /// Memory of the sample: one range of 1 GiB less a page.
    const RANGE: Range<u64> = 0x1000..0x4000_0000;

    fn case() -> Case {
        let mut case = sample::case();
        case.policy.memory.choice = MemoryChoice::Acquire;
        case.policy.memory.document = "Stasis-AcquireMemory".to_owned();
        case.policy.memory.collector_x86_64 = "aa".repeat(32);
        case.policy.memory.limit_seconds = 3600;
        case
    }

    fn facts() -> MemoryFacts {
        let machine = Machine { architecture: "x86_64".to_owned(), memory_mib: 1024 };
        MemoryFacts::unbegun(case().baseline.agent, Observed::Known(machine))
    }

    fn after(seconds: i64) -> Timestamp {
        sample::case().opened_at + TimeDelta::seconds(seconds)
    }

    fn command(status: &str) -> Command {
        Command {
            command_id: "c".to_owned(),
            status: status.to_owned(),
            undelivered: false,
            requested_at: after(0),
            steps: Vec::new(),
        }
    }

    fn upload(sizes: &[u64]) -> Upload {
        let part = |(bytes, number): (&u64, u32)| UploadedPart { number, bytes: *bytes, at: after(5) };
        Upload { upload_id: "u".to_owned(), begun_at: after(0), parts: sizes.iter().zip(1..).map(part).collect() }
    }

    fn image_bytes() -> u64 {
        lime::image_bytes([&RANGE])
    }

    fn parts_of(bytes: u64) -> Vec<u64> {
        let part = 8 * MIB;
        (0..bytes.div_ceil(part)).map(|n| part.min(bytes - n * part)).collect()
    }

    fn summary() -> Summary {
        let parts = parts_of(image_bytes());
        Summary {
            schema: WIRE,
            collector: "0.1.0".to_owned(),
            began_unix_ms: 0,
            milliseconds: 1,
            kernel: Kernel { has_btf: true, ..Kernel::default() },
            taken: Taken::Memory,
            reason: None,
            memory_bytes: RANGE.end - RANGE.start,
            ranges: vec![RANGE],
            gap_bytes: 0,
            gaps: Vec::new(),
            stream: Stream {
                format: Format::Lime,
                bytes: image_bytes(),
                sha256: "all".to_owned(),
                part_bytes: 8 * MIB,
                parts: parts
                    .iter()
                    .enumerate()
                    .map(|(n, bytes)| Part {
                        bytes: *bytes,
                        sha256: format!("{n:064x}"),
                        crc64nvme: format!("{n:011}="),
                    })
                    .collect(),
                retries: 0,
                complete: true,
            },
            processes: 0,
            objects: BTreeMap::new(),
            errors: Vec::new(),
            peak_kib: None,
        }
    }

    fn image(bytes: u64) -> Image {
        Image { bytes, version_id: None, ranges: Some(Ok(vec![RANGE])), crc64nvme: None }
    }

    /// Everything arrived and is completed.
    fn arrived() -> MemoryFacts {
        MemoryFacts {
            command: Some(command("Success")),
            summary: Some(Ok(summary())),
            image: Some(image(image_bytes())),
            ..facts()
        }
    }

    fn kept(facts: &MemoryFacts) -> Acquisition {
        kept_of(&case(), facts)
    }

    fn kept_of(case: &Case, facts: &MemoryFacts) -> Acquisition {
        let plan = plan(case, facts, after(60), &[]);
        match plan.actions().next() {
            Some(Action::KeepAcquisition { acquisition, .. }) => (**acquisition).clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_step_after_another_until_the_collector_runs() {
        let mut facts = facts();
        let kinds = |facts: &MemoryFacts| {
            let plan = plan(&case(), facts, after(0), &[]);
            let names: Vec<String> = plan.actions().map(|a| a.to_string()).collect();
            (names, plan.next)
        };
        assert_eq!(kinds(&facts), (vec!["begin the upload of the memory image".to_owned()], Next::ObserveAgain));
        facts.upload = Some(upload(&[]));
        assert_eq!(
            kinds(&facts),
            (vec!["write manifest 1: addresses for 139 parts of 8 MiB".to_owned()], Next::ObserveAgain)
        );
        facts.manifests = vec![(1, after(0))];
        let (names, next) = kinds(&facts);
        assert_eq!((names.len(), next), (1, Next::Wait(FIRST_WAIT)));
        facts.command = Some(command("InProgress"));
        facts.upload = Some(upload(&[8 * MIB, 8 * MIB]));
        let waiting = plan(&case(), &facts, after(40), &[]);
        assert_eq!((waiting.actions().count(), waiting.next), (0, Next::Wait(10)));
        assert_eq!(waiting.progress.as_deref(), Some("memory 1% (16 of 1024 MiB) received"));
    }

    #[test]
    fn addresses_are_renewed_before_they_run_out() {
        let mut facts = facts();
        facts.command = Some(command("InProgress"));
        facts.manifests = vec![(1, after(0)), (2, after(1500))];
        let mut late = upload(&[8 * MIB; 5]);
        late.parts.iter_mut().for_each(|part| part.at = after(3000));
        facts.upload = Some(late);
        assert_eq!(plan(&case(), &facts, after(2900), &[]).actions().count(), 0);
        let renewed = plan(&case(), &facts, after(3100), &[]);
        let Some(Action::WriteManifest { number: 3, first_part: 6, parts: 134, .. }) = renewed.actions().next() else {
            panic!("{renewed:?}");
        };
    }

    #[test]
    fn what_cannot_be_acquired_is_written_down_with_the_reason() {
        let agent = |ping: &str, platform: &str| {
            Observed::Known(Some(Agent {
                ping_status: ping.to_owned(),
                platform_type: platform.to_owned(),
                platform_name: None,
                version: None,
            }))
        };
        let machine =
            |architecture: &str| Observed::Known(Machine { architecture: architecture.to_owned(), memory_mib: 1024 });
        let known = case().baseline.agent.clone();
        let table = [
            (Observed::Known(None), machine("x86_64"), AcquisitionStatus::Failed, "not managed"),
            (agent("ConnectionLost", "Linux"), machine("x86_64"), AcquisitionStatus::Failed, "ConnectionLost"),
            (agent("Online", "Windows"), machine("x86_64"), AcquisitionStatus::Unsupported, "Windows"),
            (agent("Online", "MacOS"), machine("arm64_mac"), AcquisitionStatus::Unsupported, "MacOS"),
            (known.clone(), machine("i386"), AcquisitionStatus::Unsupported, "no collector for i386"),
            (known.clone(), machine("arm64"), AcquisitionStatus::Unsupported, "no collector for arm64 was deployed"),
            (known, Observed::Unknown("denied".to_owned()), AcquisitionStatus::Failed, "denied"),
        ];
        for (agent, machine, status, part) in table {
            let outcome = kept(&MemoryFacts { agent, machine, ..facts() });
            assert_eq!(outcome.status, status, "{part}");
            assert!(outcome.reason.as_deref().is_some_and(|r| r.contains(part)), "{outcome:?}");
            let end = plan(&case(), &MemoryFacts { outcome: Some(outcome), ..facts() }, after(1), &[]);
            assert_eq!((end.obstacles.len(), end.next), (1, Next::Finish));
        }
    }

    #[test]
    fn where_nothing_was_begun_at_the_host_a_later_run_tries_again_and_what_was_begun_stands() {
        let over = |number| {
            let taken = TakenOver { number, from: None, why: "the agent is back".to_owned(), at: after(7200) };
            Case { taken_over: Some(taken), ..case() }
        };
        let offline = MemoryFacts { agent: Observed::Known(None), ..facts() };
        let first = kept(&offline);
        assert_eq!((first.takeover, first.stands(&case()), first.stands(&over(1))), (0, true, false));
        let Some(Action::KeepAcquisition { acquisition: second, .. }) =
            plan(&over(2), &offline, after(7200), &[]).actions().next().cloned()
        else {
            panic!("an outcome");
        };
        assert_eq!((second.takeover, second.stands(&over(2)), second.stands(&over(3))), (2, true, false));
        let begun = kept(&MemoryFacts { summary: None, image: None, ..arrived() });
        assert!(begun.stands(&over(1)), "its command was sent: {begun:?}");
        // Its agent had been killed: the command waits until the stall.
        let lost = MemoryFacts {
            command: Some(command("Pending")),
            upload: Some(upload(&[])),
            manifests: vec![(1, after(0))],
            ..facts()
        };
        let outcome = |facts: &MemoryFacts| match plan(&case(), facts, after(700), &[]).actions().next() {
            Some(Action::KeepAcquisition { acquisition, .. }) => (**acquisition).clone(),
            other => panic!("{other:?}"),
        };
        let never = outcome(&lost);
        assert!(!never.stands(&over(1)) && never.stands(&case()), "no agent began with it: {never:?}");
        let begun = MemoryFacts { command: Some(command("InProgress")), ..lost.clone() };
        assert!(outcome(&begun).stands(&over(1)));
        let sent = MemoryFacts { upload: Some(upload(&[8 * MIB])), ..lost };
        assert!(sent.has_arrived());
        // A later run does not follow it, and one that is not much later does.
        let next =
            |command: Command| plan(&over(1), &MemoryFacts { command: Some(command), ..facts() }, after(7201), &[]);
        for gone in [command("Pending"), Command { undelivered: true, ..command("TimedOut") }] {
            let next = next(gone);
            assert!(matches!(next.actions().next(), Some(Action::BeginUpload { .. })), "{next:?}");
        }
        for other in ["InProgress", "Failed", "TimedOut"] {
            let next = next(command(other));
            assert!(!matches!(next.actions().next(), Some(Action::BeginUpload { .. })), "{other}: {next:?}");
        }
        let soon = Command { requested_at: after(7100), ..command("Pending") };
        assert_eq!(next(soon).actions().count(), 0, "it may still be delivered");
        // Each has a file of its own.
        assert_eq!([0, 1, 12].map(outcome_name), ["acquisition.json", "acquisition-1.json", "acquisition-12.json"]);
        assert!([0, 1, 12].map(outcome_name).iter().all(|name| is_outcome(name)) && !is_outcome("manifest-1.json"));
    }

    #[test]
    fn no_command_is_sent_with_addresses_that_are_dead() {
        let mut facts = facts();
        facts.upload = Some(upload(&[]));
        facts.manifests = vec![(1, after(0)), (2, after(1500))];
        let sent = |seconds| plan(&case(), &facts, after(seconds), &[]).actions().next().cloned();
        match sent(3000) {
            Some(Action::AcquireMemory { manifest, .. }) => assert_eq!(manifest, 2),
            other => panic!("{other:?}"),
        }
        match sent(3001) {
            Some(Action::WriteManifest { number, first_part, .. }) => assert_eq!((number, first_part), (3, 1)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_whole_image_is_captured() {
        let outcome = kept(&arrived());
        assert_eq!((outcome.status, outcome.reason.as_deref()), (AcquisitionStatus::Captured, None));
        assert_eq!(outcome.sha256.as_deref(), Some(format!("{:064x}", 127).as_str()), "of the last part's end");
        let end = plan(&case(), &MemoryFacts { outcome: Some(outcome), ..arrived() }, after(61), &[]);
        assert_eq!((end.obstacles.len(), end.evidence.len(), end.next), (0, 1, Next::Finish));
    }

    /// Whatever is short of the whole memory is never called captured.
    #[test]
    fn anything_less_is_not_captured_and_the_reason_is_named() {
        type Change = fn(&mut MemoryFacts, &mut Summary);
        let table: [(&str, AcquisitionStatus, Change); 13] = [
            ("no summary", AcquisitionStatus::Partial, |f, _| f.summary = None),
            ("cannot be read", AcquisitionStatus::Partial, |f, _| f.summary = Some(Err("no JSON".to_owned()))),
            ("part 7: status 403", AcquisitionStatus::Partial, |_, s| {
                s.stream.complete = false;
                s.reason = Some("part 7: status 403".to_owned());
            }),
            ("bytes arrived of", AcquisitionStatus::Partial, |f, _| f.image = Some(image(8 * MIB))),
            ("EC2 says", AcquisitionStatus::Partial, |f, _| {
                f.machine = Observed::Known(Machine { architecture: "x86_64".to_owned(), memory_mib: 4096 });
            }),
            ("could not be read", AcquisitionStatus::Partial, |_, s| s.gap_bytes = 200 * MIB),
            ("less than the host has", AcquisitionStatus::Partial, |_, s| s.memory_bytes += 16 * MIB),
            ("no whole LiME", AcquisitionStatus::Partial, |f, _| {
                f.image =
                    Some(Image { ranges: Some(Err("no LiME header at byte 0".to_owned())), ..image(image_bytes()) });
            }),
            ("could not be looked through", AcquisitionStatus::Partial, |f, _| {
                f.image = Some(Image { ranges: None, ..image(image_bytes()) });
            }),
            ("another checksum", AcquisitionStatus::Partial, |f, _| {
                f.image = Some(Image { crc64nvme: Some("other".to_owned()), ..image(image_bytes()) });
            }),
            ("Operation not permitted", AcquisitionStatus::Procmem, |_, s| {
                s.taken = Taken::ProcessMemory;
                s.reason = Some("the kernel refuses: Operation not permitted".to_owned());
            }),
            ("nothing was sent", AcquisitionStatus::Failed, |f, s| {
                s.taken = Taken::Nothing;
                f.image = None;
            }),
            ("sent no summary, and the command ended Failed", AcquisitionStatus::Failed, |f, _| {
                f.summary = None;
                f.image = None;
                f.command = Some(command("Failed"));
            }),
        ];
        for (part, status, change) in table {
            let (mut facts, mut said) = (arrived(), summary());
            change(&mut facts, &mut said);
            if matches!(facts.summary, Some(Ok(_))) {
                facts.summary = Some(Ok(said));
            }
            let outcome = kept(&facts);
            assert_eq!(outcome.status, status, "{part}: {outcome:?}");
            assert!(outcome.reason.as_deref().is_some_and(|r| r.contains(part)), "{part}: {:?}", outcome.reason);
            assert!(failure(&outcome).is_some(), "{part}");
        }
    }

    #[test]
    fn a_failed_script_is_quoted() {
        let step = |said: &str| stasis_model::facts::CommandStep {
            name: "memoryLinux".to_owned(),
            status: "Failed".to_owned(),
            response_code: 20,
            has_output: true,
            said: said.to_owned(),
        };
        let printed = "{\"event\":\"failed\",\"error\":\"no tmpfs lets\\u0007 programs run\"}\nfailed to run commands: exit status 20";
        let failed = Command { steps: vec![step(printed), step("{}"), step("\u{0}[1]")], ..command("Failed") };
        let outcome = kept(&MemoryFacts { summary: None, image: None, command: Some(failed), ..arrived() });
        assert!(
            outcome.reason.as_deref().is_some_and(|r| r.ends_with("ended Failed: no tmpfs lets programs run")),
            "{outcome:?}"
        );
        let long = format!("{{\"error\":\"{}\"}}", "x".repeat(5000));
        let failed = Command { steps: vec![step(&long)], ..command("Failed") };
        let outcome = kept(&MemoryFacts { summary: None, image: None, command: Some(failed), ..arrived() });
        assert!(outcome.reason.expect("a reason").len() < 400);
    }

    #[test]
    fn a_gap_that_is_listed_does_not_make_an_image_partial() {
        let (mut facts, mut said) = (arrived(), summary());
        said.memory_bytes += 4096;
        said.gap_bytes = 4096;
        said.gaps = vec![Gap { start: 0, end: 4096, why: GapKind::NotMapped }];
        facts.summary = Some(Ok(said));
        assert_eq!(kept(&facts).status, AcquisitionStatus::Captured);
    }

    #[test]
    fn what_arrived_is_made_an_object_with_the_checksum_of_exactly_that() {
        let sizes = parts_of(image_bytes());
        let mut facts = MemoryFacts { image: None, ..arrived() };
        for (numbers, crc) in [(sizes.len(), Some("00000000127=")), (3, Some("00000000002="))] {
            facts.upload = Some(upload(&sizes[..numbers]));
            let plan = plan(&case(), &facts, after(60), &[]);
            let Some(Action::CompleteUpload { parts, crc64nvme, .. }) = plan.actions().next() else {
                panic!("{plan:?}")
            };
            assert_eq!((*parts as usize, crc64nvme.as_deref(), plan.next), (numbers, crc, Next::ObserveAgain));
        }
        // Sizes that do not agree with the summary: no checksum is claimed.
        facts.upload = Some(upload(&[8 * MIB, 5]));
        let plan = plan(&case(), &facts, after(60), &[]);
        let Some(Action::CompleteUpload { crc64nvme: None, .. }) = plan.actions().next() else { panic!("{plan:?}") };
    }

    #[test]
    fn another_checksum_keeps_the_image_and_is_said() {
        let mut facts = MemoryFacts { image: None, ..arrived() };
        facts.upload = Some(upload(&parts_of(image_bytes())));
        let first = plan(&case(), &facts, after(60), &[]);
        let action = first.actions().next().expect("complete").clone();
        let refused = ActionRecord {
            words: String::new(),
            target: String::new(),
            outcome: Outcome::Failed,
            error: Some(Failure::lasting(BAD_DIGEST, "x")),
            request_id: None,
            at: after(60),
            action,
        };
        let second = plan(&case(), &facts, after(60), std::slice::from_ref(&refused));
        let Some(Action::CompleteUpload { crc64nvme: None, .. }) = second.actions().next() else {
            panic!("{second:?}")
        };
        let ended = plan(&case(), &arrived(), after(61), std::slice::from_ref(&refused));
        let Some(Action::KeepAcquisition { acquisition, .. }) = ended.actions().next() else { panic!("{ended:?}") };
        assert_eq!(acquisition.status, AcquisitionStatus::Partial);
        assert!(acquisition.reason.as_deref().is_some_and(|r| r.contains("another checksum")));
    }

    #[test]
    fn a_completion_that_takes_its_time_is_waited_for() {
        let mut facts = MemoryFacts { image: None, ..arrived() };
        facts.upload = Some(upload(&parts_of(image_bytes())));
        let action = plan(&case(), &facts, after(60), &[]).actions().next().expect("complete").clone();
        let timed_out = ActionRecord {
            words: String::new(),
            target: String::new(),
            outcome: Outcome::Failed,
            error: Some(Failure { retryable: true, ..Failure::lasting("Timeout", "x") }),
            request_id: None,
            at: after(60),
            action,
        };
        let waiting = plan(&case(), &facts, after(61), std::slice::from_ref(&timed_out));
        assert_eq!((waiting.actions().count(), waiting.next), (0, Next::Wait(LONGEST_WAIT)));
        let next_call = plan(&case(), &facts, after(130), &[]);
        assert!(matches!(next_call.actions().next(), Some(Action::CompleteUpload { .. })), "{next_call:?}");
    }

    #[test]
    fn a_host_that_stalls_or_never_ends_is_given_up_and_what_came_is_kept() {
        let mut facts = facts();
        facts.command = Some(command("InProgress"));
        facts.manifests = vec![(1, after(0))];
        facts.upload = Some(upload(&[8 * MIB]));
        assert_eq!(plan(&case(), &facts, after(600), &[]).actions().count(), 0, "not yet");
        let stalled = plan(&case(), &facts, after(606), &[]);
        assert!(matches!(stalled.actions().next(), Some(Action::CompleteUpload { parts: 1, .. })), "{stalled:?}");
        let mut silent = facts.clone();
        silent.upload = Some(upload(&[]));
        let outcome = match plan(&case(), &silent, after(700), &[]).actions().next() {
            Some(Action::KeepAcquisition { acquisition, .. }) => (**acquisition).clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(outcome.status, AcquisitionStatus::Failed);
        assert!(outcome.reason.as_deref().is_some_and(|r| r.contains("nothing arrived for 10 minutes")), "{outcome:?}");
        let mut busy = facts;
        busy.upload.as_mut().expect("upload").parts[0].at = after(3590);
        assert!(plan(&case(), &busy, after(3600), &[]).actions().count() > 0, "the limit is over");
    }

    /// A Windows host with a memory tool of its operator's.
    fn windows() -> (Case, MemoryFacts) {
        let mut case = case();
        case.baseline.instance.platform = Some("Windows with SQL Server Standard".to_owned());
        case.policy.memory.windows_tool.sha256 = "cc".repeat(32);
        let agent = Observed::Known(Some(Agent {
            ping_status: "Online".to_owned(),
            platform_type: "Windows".to_owned(),
            platform_name: None,
            version: None,
        }));
        (case, MemoryFacts { agent, ..facts() })
    }

    #[test]
    fn windows_gives_its_memory_to_the_operators_tool_alone() {
        let (case, mut facts) = windows();
        facts.upload = Some(upload(&[]));
        facts.manifests = vec![(1, after(0))];
        let begun = plan(&case, &facts, after(1), &[]);
        let Some(Action::AcquireMemory { collector, windows_tool: Some(tool), .. }) = begun.actions().next() else {
            panic!("{begun:?}");
        };
        assert_eq!((collector, &tool.sha256), (&"cc".repeat(32), &"cc".repeat(32)));
        assert!(image_key(&case).ends_with("/memory/image.raw"));

        let mut without = case.clone();
        without.policy.memory.windows_tool.sha256.clear();
        let outcome = kept_of(&without, &facts);
        assert_eq!(outcome.status, AcquisitionStatus::Unsupported);
        assert!(outcome.reason.as_deref().is_some_and(|r| r.contains("no memory tool was deployed")), "{outcome:?}");

        // A collector is no tool for Windows, and a tool none for Linux, whatever the agent claims to run on.
        let other = MemoryFacts { agent: super::tests::facts().agent, ..facts };
        assert_eq!(kept_of(&case, &other).status, AcquisitionStatus::Unsupported);
    }

    #[test]
    fn an_image_without_headers_is_whole_where_it_is_as_long_as_the_memory() {
        let (case, facts) = windows();
        let judged = |bytes: u64, change: fn(&mut Summary)| {
            let mut said = summary();
            said.kernel.has_btf = false;
            said.memory_bytes = 1 << 30;
            said.ranges = Vec::new();
            said.stream.bytes = bytes;
            said.stream.parts.truncate(1);
            said.stream.parts[0].bytes = bytes;
            change(&mut said);
            let image = Image { ranges: None, ..image(bytes) };
            let arrived = MemoryFacts {
                command: Some(command("Success")),
                summary: Some(Ok(said)),
                image: Some(image),
                ..facts.clone()
            };
            kept_of(&case, &arrived)
        };
        let whole = judged((1 << 30) + (512 << 20), |_| {});
        assert_eq!((whole.status, whole.reason), (AcquisitionStatus::Captured, None));
        assert!(whole.notes.iter().all(|note| !note.contains("BTF")), "{:?}", whole.notes);
        assert!(whole.notes[0].contains(&"cc".repeat(32)), "{:?}", whole.notes);
        for (outcome, part) in [
            (judged((1 << 30) - 1, |_| {}), "the image has 1023 MiB"),
            (judged(1 << 30, |s| s.stream.complete = false), "did not send all"),
            (judged(1 << 29, |s| s.memory_bytes = 1 << 29), "EC2 says 1024"),
        ] {
            assert_eq!(outcome.status, AcquisitionStatus::Partial, "{part}");
            assert!(outcome.reason.as_deref().is_some_and(|r| r.contains(part)), "{outcome:?}");
        }
    }

    #[test]
    fn a_tool_that_writes_a_file_first_is_given_the_whole_time() {
        let (mut case, mut facts) = windows();
        facts.command = Some(command("InProgress"));
        facts.manifests = vec![(1, after(0))];
        facts.upload = Some(upload(&[]));
        let ends = |case: &Case, facts: &MemoryFacts, at| {
            plan(case, facts, after(at), &[]).actions().any(|a| matches!(a, Action::KeepAcquisition { .. }))
        };
        assert!(!ends(&case, &facts, 1000));
        assert!(ends(&case, &facts, 3600), "the limit is over");
        case.policy.memory.windows_tool.output = ToolOutput::Stream;
        assert!(ends(&case, &facts, 1000), "a stream begins at once");
    }

    /// Gaps that are listed and not added up: the image is small, and the host says that nothing is missing.
    #[test]
    fn a_host_cannot_hide_the_memory_in_gaps() {
        let small = 0x1000..0x10_1000;
        let mut said = summary();
        said.stream.bytes = lime::image_bytes([&small]);
        said.gaps = vec![Gap { start: 0, end: 1 << 40, why: GapKind::NotMapped }];
        let image = Image { ranges: Some(Ok(vec![small])), ..image(said.stream.bytes) };
        let outcome = kept(&MemoryFacts { summary: Some(Ok(said)), image: Some(image), ..arrived() });
        assert_eq!(outcome.status, AcquisitionStatus::Partial, "{outcome:?}");
        assert!(outcome.gap_bytes >= 1 << 40);
    }

    #[test]
    fn texts_of_the_host_stay_short_and_hashes_are_hashes() {
        let mut said = summary();
        said.stream.complete = false;
        said.reason = Some("x\u{7}\n".repeat(100_000));
        said.kernel.release = "y".repeat(100_000);
        for part in &mut said.stream.parts {
            part.sha256 = "<script>".repeat(1000);
            part.crc64nvme = "a\r\nx-amz-acl: public-read".to_owned();
        }
        let mut facts = MemoryFacts { summary: Some(Ok(said)), ..arrived() };
        let outcome = kept(&facts);
        assert!(serde_json::to_vec(&outcome).expect("JSON").len() < 2000, "{outcome:?}");
        assert_eq!((outcome.sha256, outcome.crc64nvme), (None, None));
        facts.image = None;
        facts.upload = Some(upload(&parts_of(image_bytes())));
        let plan = plan(&case(), &facts, after(60), &[]);
        let Some(Action::CompleteUpload { crc64nvme: None, .. }) = plan.actions().next() else { panic!("{plan:?}") };
    }

    proptest! {
        /// Whatever a host writes into its summary, the plan is an answer, and captured only if the bytes are there.
        #[test]
        fn nothing_that_a_host_says_makes_less_look_whole(
            memory in prop_oneof![any::<u64>(), 900 * MIB..1024 * MIB], gap in prop_oneof![any::<u64>(), 0..20 * MIB],
            bytes in any::<u64>(), complete in any::<bool>(), agree in any::<bool>(),
            received in 0_u64..4096 * MIB, gaps in proptest::collection::vec(any::<(u64, u64)>(), 0..4),
        ) {
            let mut said = summary();
            said.memory_bytes = memory;
            said.gap_bytes = gap;
            said.stream.bytes = bytes;
            said.stream.complete = complete;
            said.gaps = gaps.into_iter().map(|(start, end)| Gap { start, end, why: GapKind::NotMapped }).collect();
            // An image that is sound in itself, of as much memory as was received.
            let range = 0x1000..0x1000 + received;
            let image = Image { ranges: Some(Ok(vec![range.clone()])), ..image(lime::image_bytes([&range])) };
            if agree { said.stream.bytes = image.bytes; }
            let facts = MemoryFacts { summary: Some(Ok(said)), image: Some(image), ..arrived() };
            let outcome = kept(&facts);
            if outcome.status == AcquisitionStatus::Captured {
                prop_assert!(complete && (agree || received + 32 == bytes));
                prop_assert!(received >= 850 * MIB, "{} of 1024 MiB", received >> 20);
            }
        }
    }
}
