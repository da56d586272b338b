# Made of infra/template.yaml by infra/installer/terraform.py: change it there.

variable "decision" {
  description = "What follows from a finding where the policy document has no rule for it. ask - the instance is protected and preserved, and contained once somebody approves; contain - at once; preserve - protected and preserved, never contained; notify - people are told; ignore - nothing. Requests by hand are their own decision."
  type        = string
  default     = "ask"

  validation {
    condition     = contains(["ask", "contain", "preserve", "notify", "ignore"], var.decision)
    error_message = "It must be one of ask, contain, preserve, notify, ignore."
  }
}

variable "minimum_severity" {
  description = "Findings below this severity, on GuardDuty's scale of 1 to 10, never contain or ask. Low ones (below 4) never do."
  type        = number
  default     = 4

  validation {
    condition     = var.minimum_severity >= 4 && var.minimum_severity <= 10
    error_message = "It must be a number between 4 and 10."
  }
}

variable "oldest_finding_hours" {
  description = "Findings that were last seen longer ago, in hours, never contain or ask."
  type        = number
  default     = 24

  validation {
    condition     = var.oldest_finding_hours >= 1 && var.oldest_finding_hours <= 87600
    error_message = "It must be a number between 1 and 87600."
  }
}

variable "policy_parameter" {
  description = "Name of the Systems Manager parameter (String) that holds the policy document, which goes before Decision, MinimumSeverity and OldestFindingHours. Where there is no such parameter, the built-in policy counts."
  type        = string
  default     = "/stasis/policy"

  validation {
    condition     = can(regex("^(/[A-Za-z0-9_.-]+){1,15}$", var.policy_parameter))
    error_message = "It must be a parameter's name that begins with a slash, such as /stasis/policy."
  }
}

variable "owner" {
  description = "Value of the tag Owner on everything that belongs to a case, the team that answers for it."
  type        = string
  default     = "SecurityTeam"

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9 +=._:/@-]{0,127}$", var.owner))
    error_message = "It must be 1 to 128 letters, digits, spaces or + = . _ : / @ -, beginning with a letter or digit."
  }
}

variable "egress" {
  description = "What a quarantined instance may still reach. endpoints - port 443 of the VPC's own Systems Manager endpoints and the S3 gateway, nothing where there are none; https - port 443 anywhere, which any C2 on 443 may use too; none - nothing."
  type        = string
  default     = "endpoints"

  validation {
    condition     = contains(["endpoints", "https", "none"], var.egress)
    error_message = "It must be one of endpoints, https, none."
  }
}

variable "tracked_connections" {
  description = "Connections that are open when the instance is cut off. cut - each interface passes for a moment through a group that is open to everything, in which AWS tracks no connection, so that they end; leave - they go on until they time out."
  type        = string
  default     = "cut"

  validation {
    condition     = contains(["cut", "leave"], var.tracked_connections)
    error_message = "It must be one of cut, leave."
  }
}

variable "remote_addresses" {
  description = "Addresses that a finding names. deny - the network ACLs of the instance's subnets deny them, for every instance there; leave - nothing of their own, the quarantine is for every address."
  type        = string
  default     = "leave"

  validation {
    condition     = contains(["leave", "deny"], var.remote_addresses)
    error_message = "It must be one of leave, deny."
  }
}

variable "minimum_size" {
  description = "An Auto Scaling group that needs the instance for its minimum. lower-min - the minimum is lowered by one until release; replace - the group starts a replacement."
  type        = string
  default     = "lower-min"

  validation {
    condition     = contains(["lower-min", "replace"], var.minimum_size)
    error_message = "It must be one of lower-min, replace."
  }
}

variable "credentials" {
  description = "The role of the instance. keep - it stays; revoke - once volatile data is read, the instance gets a profile for Systems Manager alone, and the role's older sessions are denied, unless other instances use the role."
  type        = string
  default     = "keep"

  validation {
    condition     = contains(["keep", "revoke"], var.credentials)
    error_message = "It must be one of keep, revoke."
  }
}

variable "revocation" {
  description = "Whether roles of instances may be touched at all. allowed - the stages revoke and release may write and delete an inline policy of any role but those of Stasis, and give an instance another profile, which is nearly the account; never - IAM denies them that, whatever a policy document asks for. Release first what was revoked before."
  type        = string
  default     = "allowed"

  validation {
    condition     = contains(["allowed", "never"], var.revocation)
    error_message = "It must be one of allowed, never."
  }
}

variable "quarantine_profile" {
  description = "Name of the instance profile and role of quarantined instances, as member.yaml makes them."
  type        = string
  default     = "stasis-quarantine"

  validation {
    condition     = can(regex("^[A-Za-z0-9_+=,.@-]{1,64}$", var.quarantine_profile))
    error_message = "It must be 1 to 64 letters, digits or _ + = , . @ -."
  }
}

variable "ticket_bus" {
  description = "Name of the event bus of this account and region on which events about cases may be put for a connector of your ticket system. Whether they are is up to the policy document (ticket)."
  type        = string
  default     = "default"

  validation {
    condition     = can(regex("^[A-Za-z0-9/_.-]{1,256}$", var.ticket_bus))
    error_message = "It must be the name of an event bus."
  }
}

variable "notification_email" {
  description = "Address that gets the reports and alarms. Empty - nobody is subscribed. AWS asks the address to confirm."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^$|^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", var.notification_email))
    error_message = "It must be an e-mail address, or nothing."
  }
}

variable "report_language" {
  description = "The language of each case's report. en - English; ja - Japanese. What AWS answered and what a stage recorded stays as it is."
  type        = string
  default     = "en"

  validation {
    condition     = contains(["en", "ja"], var.report_language)
    error_message = "It must be one of en, ja."
  }
}

variable "retention_days" {
  description = "Days for which S3 Object Lock and the lock of snapshots keep every piece of evidence from being deleted or overwritten. Changing it later changes only what is made from then on."
  type        = number
  default     = 365

  validation {
    condition     = var.retention_days >= 1 && var.retention_days <= 36500
    error_message = "It must be a number between 1 and 36500."
  }
}

variable "case_file_lock" {
  description = "How S3 Object Lock keeps the case file for the days of retention. governance - whoever has s3:BypassGovernanceRetention may delete it; compliance - nobody may, not even to save the costs. Changing it later changes only what is made from then on."
  type        = string
  default     = "governance"

  validation {
    condition     = contains(["governance", "compliance"], var.case_file_lock)
    error_message = "It must be one of governance, compliance."
  }
}

variable "snapshot_lock" {
  description = "How snapshots are locked for the days of retention. governance - whoever has ec2:UnlockSnapshot may unlock them; compliance - nobody may, not even to save the costs; none - they are not locked."
  type        = string
  default     = "governance"

  validation {
    condition     = contains(["governance", "compliance", "none"], var.snapshot_lock)
    error_message = "It must be one of governance, compliance, none."
  }
}

variable "snapshot_key" {
  description = "The customer key in the instance's own account and region (alias, key id or ARN) under which snapshots are copied that are not encrypted or that no other account could read. member.yaml makes alias/stasis-snapshots. Empty for none."
  type        = string
  default     = "alias/stasis-snapshots"

  validation {
    condition     = can(regex("^$|^alias/[A-Za-z0-9/_-]{1,250}$|^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:(key|alias)/[A-Za-z0-9/_-]{1,250}$|^[0-9a-f-]{36}$", var.snapshot_key))
    error_message = "It must be an alias, a key id, the ARN of a key, or nothing."
  }
}

variable "destination_account" {
  description = "The account that keeps copies of all snapshots, out of reach for whoever holds the instance's account; deploy evidence-account.yaml there. This account itself for copies in another region only. Empty for no copies."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^([0-9]{12})?$", var.destination_account))
    error_message = "It must be 12 digits, or nothing."
  }
}

variable "destination_region" {
  description = "The region of the copies. Needed where DestinationAccount is set."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^([a-z]{2}(-[a-z]+)+-[0-9]+)?$", var.destination_region))
    error_message = "It must be a region such as eu-west-1, or nothing."
  }
}

variable "destination_key" {
  description = "The customer key there that the copies are encrypted with, as alias or ARN. evidence-account.yaml makes alias/stasis-evidence-copies."
  type        = string
  default     = "alias/stasis-evidence-copies"

  validation {
    condition     = can(regex("^alias/[A-Za-z0-9/_-]{1,250}$|^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:(key|alias)/[A-Za-z0-9/_-]{1,250}$", var.destination_key))
    error_message = "It must be an alias or the ARN of a key."
  }
}

variable "request_sources" {
  description = "Sources of events whose detail is a request, {\"instanceId\": \"i-…\"} with what the manual input may hold besides, such as an EDR or a detection of your own puts on the default bus. Separated by commas. Empty for none."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for item in var.request_sources : can(regex("^([A-Za-z][A-Za-z0-9._/-]{0,127})?$", item))])
    error_message = "It must be event sources such as example.edr, separated by commas, or nothing."
  }
}

variable "drills" {
  description = "Whether events of the source stasis.drill start Stasis: what they name is contained like what a finding names, and whoever may put events on this account's default bus may send them. \"on\" while you drill, off otherwise."
  type        = string
  default     = "off"

  validation {
    condition     = contains(["off", "on"], var.drills)
    error_message = "It must be one of off, on."
  }
}

variable "security_hub_action" {
  description = "ARN of the custom action of Security Hub that starts Stasis for the findings that an analyst has selected. Empty for none."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^$|^arn:aws[a-z-]*:securityhub:[a-z0-9-]+:[0-9]{12}:action/custom/[A-Za-z0-9]{1,20}$", var.security_hub_action))
    error_message = "It must be the ARN of a custom action, or nothing."
  }
}

variable "security_hub_findings" {
  description = "Whether GuardDuty findings that Security Hub imports start Stasis. ignore - they come from GuardDuty itself already; act - for an account in which only Security Hub sees them."
  type        = string
  default     = "ignore"

  validation {
    condition     = contains(["ignore", "act"], var.security_hub_findings)
    error_message = "It must be one of ignore, act."
  }
}

variable "readiness_schedule" {
  description = "How often stasis-ready looks whether each running instance could be contained and captured, keeps what it finds and tells people, as a schedule of EventBridge, such as rate(7 days) or cron(0 6 ? * MON *). off - never by itself."
  type        = string
  default     = "rate(7 days)"

  validation {
    condition     = can(regex("^(off|rate\\([1-9][0-9]{0,4} (minute|hour|day)s?\\)|cron\\([A-Z0-9*?,/#L -]{9,60}\\))$", var.readiness_schedule))
    error_message = "It must be off, rate(7 days), or cron(0 6 ? * MON *) in UTC."
  }
}

variable "open_cases_schedule" {
  description = "How often stasis-ready looks whether the instances of open cases are still held as AWS confirmed it, and tells people of one that is not, at the second look that sees it, as a schedule of EventBridge, such as rate(5 minutes) or cron(0/30 * * * ? *), once a day at least. off - never by itself."
  type        = string
  default     = "rate(5 minutes)"

  validation {
    condition     = can(regex("^(off|rate\\([1-9][0-9]{0,4} (minute|hour|day)s?\\)|cron\\([A-Z0-9*?,/#L -]{9,60}\\))$", var.open_cases_schedule))
    error_message = "It must be off, rate(5 minutes), or cron(0/30 * * * ? *) in UTC."
  }
}

variable "permissions_boundary" {
  description = "ARN of a policy that bounds every role of this stack, where your organisation asks for one. It has to allow what the roles are granted (docs/permissions.md), or containment is refused. Empty for none."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^$|^arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/[A-Za-z0-9/_+=,.@-]{1,512}$", var.permissions_boundary))
    error_message = "It must be the ARN of a managed policy, or nothing."
  }
}

variable "organization_id" {
  description = "The organisation whose accounts may forward their GuardDuty findings here, by the rule that member.yaml makes where HubRegion is set. Stasis acts in accounts of no other organisation then. Empty where none may forward, and any account that has its roles is acted in."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(o-[a-z0-9]{10,32})?$", var.organization_id))
    error_message = "It must be the id of an organisation, such as o-a1b2c3d4e5, or nothing."
  }
}

variable "log_retention_days" {
  description = "Days for which the log groups keep what functions and state machine logged."
  type        = number
  default     = 365

  validation {
    condition     = contains([30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "It must be one of 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653."
  }
}

variable "capture_limit_seconds" {
  description = "Seconds after which the capture of volatile data is given up. Containment does not wait for it."
  type        = number
  default     = 600

  validation {
    condition     = var.capture_limit_seconds >= 60 && var.capture_limit_seconds <= 3600
    error_message = "It must be a number between 60 and 3600."
  }
}

variable "memory" {
  description = "Whether the memory of the instance is acquired: acquire, or leave. To acquire it, the collectors must lie in the evidence bucket (make collector; tools/collector/ and their SHA-256 as name)."
  type        = string
  default     = "acquire"

  validation {
    condition     = contains(["acquire", "leave"], var.memory)
    error_message = "It must be one of acquire, leave."
  }
}

variable "memory_format" {
  description = "lime is what Volatility reads. avml is compressed: faster where the network is slow, and to be converted (avml-convert) before it is read."
  type        = string
  default     = "lime"

  validation {
    condition     = contains(["lime", "avml"], var.memory_format)
    error_message = "It must be one of lime, avml."
  }
}

variable "memory_limit_seconds" {
  description = "Seconds after which an acquisition of memory is given up; what has arrived by then is kept."
  type        = number
  default     = 21600

  validation {
    condition     = var.memory_limit_seconds >= 60 && var.memory_limit_seconds <= 172800
    error_message = "It must be a number between 60 and 172800."
  }
}

variable "memory_mebibytes_per_second" {
  description = "At most so many MiB of memory a second leave the instance, where its other traffic is to be spared. 0 for no limit. A slower acquisition is a more blurred one."
  type        = number
  default     = 0

  validation {
    condition     = var.memory_mebibytes_per_second >= 0 && var.memory_mebibytes_per_second <= 12500
    error_message = "It must be a number between 0 and 12500."
  }
}

variable "windows_tool" {
  description = "SHA-256 of the memory tool for Windows hosts, such as winpmem, that you put into the evidence bucket as tools/collector/ and its SHA-256. It loads a driver. Empty for none: the memory of Windows hosts is then not acquired."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^([0-9a-f]{64})?$", var.windows_tool))
    error_message = "It must be 64 lower-case hexadecimal digits, or nothing."
  }
}

variable "windows_tool_arguments" {
  description = "Arguments of the memory tool, with {output} for where it writes to, such as \"{output}\" for winpmem_mini or \"acquire {output}\" for go-winpmem."
  type        = string
  default     = "{output}"

  validation {
    condition     = can(regex("^[A-Za-z0-9 ._/:=+-]{0,100}\\{output\\}[A-Za-z0-9 ._/:=+-]{0,100}$", var.windows_tool_arguments))
    error_message = "It must be words with {output} once among them."
  }
}

variable "windows_tool_output" {
  description = "file where the memory tool writes a file on the host, which is then sent and removed; stream where it writes to its standard output when {output} is -."
  type        = string
  default     = "file"

  validation {
    condition     = contains(["file", "stream"], var.windows_tool_output)
    error_message = "It must be one of file, stream."
  }
}
