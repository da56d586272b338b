//! What can be said on the command line.

use clap::{Args, Parser, Subcommand, ValueHint};
use stasis_model::ids::{AccountId, CaseId, InstanceId, Region, Ticket};
use std::path::PathBuf;

const EXIT_CODES: &str = "\
Exit codes:
  0  it is as it should be
  1  it was carried out, and the outcome is not what one hopes for: a run that is PARTIAL or failed, a case that is not as
     it was sealed, an instance that is not ready
  2  the command line or a value in it cannot be used
  3  what it names is not there
  4  you may not, or you have no credentials
  5  AWS or the disk failed; trying again may help

Account and region come from your AWS profile or environment, as for the AWS CLI; AWS_ENDPOINT_URL is obeyed.";

/// The analyst's command line of Stasis.
#[derive(Debug, Parser)]
#[command(name = "stasis", version, about = "Holds a compromised EC2 instance still, and proves what became of it", after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Common {
    /// Profile of ~/.aws/config
    #[arg(long, global = true, env = "AWS_PROFILE")]
    pub profile: Option<String>,
    /// Region that Stasis is deployed in
    #[arg(long, global = true)]
    pub region: Option<String>,
    /// The CloudFormation stack, whose outputs say where everything is
    #[arg(long, global = true, env = "STASIS_STACK", default_value = "stasis")]
    pub stack: String,
    /// The evidence bucket, instead of the stack's
    #[arg(long, global = true, env = "STASIS_EVIDENCE_BUCKET")]
    pub bucket: Option<String>,
    /// ARN of the state machine that contains, instead of the stack's
    #[arg(long, global = true, env = "STASIS_CONTAIN_STATE_MACHINE_ARN", hide = true)]
    pub contain_machine: Option<String>,
    /// ARN of the state machine that releases, instead of the stack's
    #[arg(long, global = true, env = "STASIS_RELEASE_STATE_MACHINE_ARN", hide = true)]
    pub release_machine: Option<String>,
    /// ARN of the key that signs manifests, instead of the stack's
    #[arg(long, global = true, env = "STASIS_SIGNING_KEY_ARN", hide = true)]
    pub signing_key: Option<String>,
    /// Answer in JSON on standard output
    #[arg(long, global = true)]
    pub json: bool,
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Contain an instance, whatever the policy says of findings: a request by hand is its own decision
    Contain(Contain),
    /// Put back what a case changed, for a false alarm; its evidence stays
    Release(Release),
    /// Say yes to a case that waits for approval
    Approve(Verdict),
    /// Say no to a case that waits for approval: what was done meanwhile is put back
    Reject(Verdict),
    /// The cases, newest first
    List(List),
    /// What is known of a case
    Show(One),
    /// Follow a case as it is worked on
    Watch(Watch),
    /// Check a case, in the bucket or in a folder: signature, chain, every hash and size, versions and Object Lock
    Verify(Verify),
    /// Download a case, and check it as it comes; begun again, it goes on where it was
    Fetch(Fetch),
    /// Before an incident: whether instances could be contained and captured now, and what is missing
    Ready(Ready),
    /// Print what makes your shell complete these commands
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// `stasis contain`
#[derive(Debug, Args)]
pub(crate) struct Contain {
    /// The instance
    pub instance: InstanceId,
    /// Say what would be done, and do nothing
    #[arg(long, conflicts_with_all = ["preserve", "ask"])]
    pub dry_run: bool,
    /// Protect and preserve it, and leave it on the network
    #[arg(long, conflicts_with = "ask")]
    pub preserve: bool,
    /// Ask an approver first
    #[arg(long)]
    pub ask: bool,
    /// The ticket that it is worked on under; without one, one is opened
    #[arg(long)]
    pub ticket: Option<Ticket>,
    /// Why
    #[arg(long)]
    pub reason: Option<String>,
    /// The account that the instance is in, where it is not that of Stasis
    #[arg(long)]
    pub account: Option<AccountId>,
    /// The region that the instance is in, where it is not that of Stasis
    #[arg(long)]
    pub instance_region: Option<Region>,
    /// Follow it to its end
    #[arg(long)]
    pub watch: bool,
}

/// `stasis ready`
#[derive(Debug, Args)]
pub(crate) struct Ready {
    /// The instances
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub instances: Vec<InstanceId>,
    /// Every running instance
    #[arg(long)]
    pub all: bool,
    /// The account that they are in, where it is not that of Stasis
    #[arg(long)]
    pub account: Option<AccountId>,
    /// The region that they are in, where it is not that of Stasis
    #[arg(long)]
    pub instance_region: Option<Region>,
}

/// `stasis release`
#[derive(Debug, Args)]
pub(crate) struct Release {
    /// The case
    pub case: CaseId,
    /// Why it was a false alarm, or is over
    #[arg(long)]
    pub reason: String,
    /// Start it, and do not wait for its end
    #[arg(long)]
    pub no_wait: bool,
}

/// `stasis approve` and `stasis reject`
#[derive(Debug, Args)]
pub(crate) struct Verdict {
    /// The case
    pub case: CaseId,
    /// Why
    #[arg(long)]
    pub reason: Option<String>,
    /// In whose name, if not in that of your AWS identity
    #[arg(long)]
    pub by: Option<String>,
}

/// `stasis list`
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only those that are open
    #[arg(long)]
    pub open: bool,
    /// At most so many
    #[arg(long, default_value_t = 50)]
    pub limit: usize,
}

/// A command on one case.
#[derive(Debug, Args)]
pub(crate) struct One {
    /// The case
    pub case: CaseId,
}

/// `stasis watch`
#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// The case
    pub case: CaseId,
}

/// `stasis verify`
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// A case, or a folder that one was fetched to
    #[arg(value_hint = ValueHint::DirPath)]
    pub what: String,
    /// The public key that you trust, in PEM; without it the stack's own is asked for
    #[arg(long, value_hint = ValueHint::FilePath)]
    pub public_key: Option<PathBuf>,
    /// Ask AWS for nothing: a folder is checked with --public-key, or with the key beside it
    #[arg(long)]
    pub offline: bool,
    /// Do not read files that are larger than 64 MiB; what was not read is said
    #[arg(long)]
    pub quick: bool,
}

/// `stasis fetch`
#[derive(Debug, Args)]
pub(crate) struct Fetch {
    /// The case
    pub case: CaseId,
    /// The folder; it is made where it is not there
    #[arg(value_hint = ValueHint::DirPath)]
    pub folder: PathBuf,
    /// The public key that you trust, in PEM; without it the stack's own is asked for
    #[arg(long, value_hint = ValueHint::FilePath)]
    pub public_key: Option<PathBuf>,
}
