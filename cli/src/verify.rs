//! `stasis verify`: whether a case is what it was when it was sealed. Changes nothing.

use crate::args::{Common, Verify};
use crate::error::CliError;
use crate::place::{Place, key_in};
use crate::screen::Screen;
use crate::source::Source;
use crate::text::{bytes, safe};
use serde::Serialize;
use stasis_decide::proof::{Defect, Fault, Key, Proof, Unproven};
use stasis_model::ids::CaseId;
use std::path::{Path, PathBuf};

/// Checks a case or a folder; whether it is as it was sealed.
pub(crate) async fn run(common: &Common, screen: Screen, what: &Verify) -> Result<bool, CliError> {
    let folder = Path::new(&what.what);
    let outcome = match what.what.parse::<CaseId>() {
        Ok(case) if !folder.is_dir() => {
            if what.offline {
                return Err(CliError::Usage(format!(
                    "--offline checks a folder: fetch {case} first (stasis fetch {case} DIR), then stasis verify DIR --offline"
                )));
            }
            let place = Place::find(common, screen).await?;
            let trusted = place.trusted_key(what.public_key.as_deref()).await?;
            let source = Source::Bucket(&place, case);
            (source.prove(trusted.as_ref(), what.quick).await?, trusted)
        }
        Err(error) if !folder.exists() => {
            return Err(CliError::NotFound(format!(
                "{}: there is no such folder, and as a case {error}",
                safe(&what.what)
            )));
        }
        _ => {
            let trusted = trusted_for_folder(common, screen, what).await?;
            let source = Source::Folder(PathBuf::from(folder));
            (source.prove(trusted.as_ref(), what.quick).await?, trusted)
        }
    };
    tell(screen, &outcome.0, outcome.1.as_ref())
}

/// A folder is checked with the key that is named, or else with the stack's where AWS is there to be asked.
async fn trusted_for_folder(common: &Common, screen: Screen, what: &Verify) -> Result<Option<Key>, CliError> {
    if let Some(file) = &what.public_key {
        return key_in(file).map(Some);
    }
    if what.offline {
        return Ok(None);
    }
    match Place::find(common, screen).await {
        Ok(place) => place.trusted_key(None).await,
        Err(error) => {
            screen.note(format!("AWS cannot be asked for the stack's key, so the one in the folder is taken: {error}"));
            Ok(None)
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    /// Whether everything is as it was sealed.
    proven: bool,
    /// Whether the key was one that was trusted before, not the one beside the case.
    key_is_trusted: bool,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    proof: Option<&'a Proof>,
    #[serde(skip_serializing_if = "Option::is_none")]
    defects: Option<&'a [Defect]>,
}

/// Says what the check came to.
pub(crate) fn tell(screen: Screen, outcome: &Result<Proof, Unproven>, trusted: Option<&Key>) -> Result<bool, CliError> {
    let key_is_trusted = trusted.is_some();
    match outcome {
        Ok(proof) => {
            let proven = proof.defects.is_empty();
            screen.json(&Answer { proven, key_is_trusted, proof: Some(proof), defects: None })?;
            let by =
                if key_is_trusted { "the stack's own key or the one you named" } else { "the key beside the case" };
            let sealed = format!(
                "{} files, {}, as manifest {} of {} says, signed by {by} ({})",
                proof.files,
                bytes(proof.bytes),
                proof.sequence,
                proof.written_at.format("%Y-%m-%d %H:%M:%S UTC"),
                proof.fingerprint.get(..16).unwrap_or(&proof.fingerprint)
            );
            if proven {
                screen.say(format!("{} is as it was sealed: {sealed}", proof.case_id))?;
            } else {
                screen.say(format!("{} is NOT as it was sealed: {sealed}", proof.case_id))?;
                defects(screen, &proof.defects)?;
            }
            for note in &proof.notes {
                screen.say(format!("  note: {}", safe(note)))?;
            }
            let halves = proof.defects.iter().any(|defect| defect.file.ends_with(".part"));
            let missing = proof.defects.iter().filter(|defect| defect.fault == Fault::Missing).count();
            if halves || missing > 0 && missing == proof.defects.len() {
                screen
                    .say(format!("If the download was cut off, go on with it: stasis fetch {} DIR", proof.case_id))?;
            }
            Ok(proven)
        }
        Err(Unproven(found)) => {
            screen.json(&Answer { proven: false, key_is_trusted, proof: None, defects: Some(found) })?;
            screen.say("NOT PROVEN: no manifest can be believed, so nothing can be checked")?;
            defects(screen, found)?;
            screen.say("A folder that was not wholly downloaded: stasis fetch CASE DIR goes on with it. A case whose run has just begun has no manifest yet: stasis show CASE.")?;
            Ok(false)
        }
    }
}

fn defects(screen: Screen, defects: &[Defect]) -> Result<(), CliError> {
    for defect in defects {
        let fault = match defect.fault {
            Fault::Signature => "SIGNATURE",
            Fault::Missing => "MISSING",
            Fault::Changed => "CHANGED",
            Fault::Size => "SIZE",
            Fault::Added => "ADDED",
            Fault::Covered => "COVERED",
            Fault::Unlocked => "UNLOCKED",
            Fault::Chain => "CHAIN",
            Fault::Unreadable => "UNREADABLE",
        };
        screen.say(format!("  {fault:<10} {} {}", safe(&defect.file), safe(&defect.words)))?;
    }
    Ok(())
}
