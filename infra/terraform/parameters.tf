# Made of infra/template.yaml by infra/installer/terraform.py: change it there.

locals {
  parameters = {
    Decision                 = var.decision
    MinimumSeverity          = var.minimum_severity
    OldestFindingHours       = var.oldest_finding_hours
    PolicyParameter          = var.policy_parameter
    Owner                    = var.owner
    Egress                   = var.egress
    TrackedConnections       = var.tracked_connections
    RemoteAddresses          = var.remote_addresses
    MinimumSize              = var.minimum_size
    Credentials              = var.credentials
    Revocation               = var.revocation
    QuarantineProfile        = var.quarantine_profile
    TicketBus                = var.ticket_bus
    NotificationEmail        = var.notification_email
    ReportLanguage           = var.report_language
    RetentionDays            = var.retention_days
    CaseFileLock             = var.case_file_lock
    SnapshotLock             = var.snapshot_lock
    SnapshotKey              = var.snapshot_key
    DestinationAccount       = var.destination_account
    DestinationRegion        = var.destination_region
    DestinationKey           = var.destination_key
    RequestSources           = join(",", var.request_sources)
    Drills                   = var.drills
    SecurityHubAction        = var.security_hub_action
    SecurityHubFindings      = var.security_hub_findings
    ReadinessSchedule        = var.readiness_schedule
    OpenCasesSchedule        = var.open_cases_schedule
    PermissionsBoundary      = var.permissions_boundary
    OrganizationId           = var.organization_id
    LogRetentionDays         = var.log_retention_days
    CaptureLimitSeconds      = var.capture_limit_seconds
    Memory                   = var.memory
    MemoryFormat             = var.memory_format
    MemoryLimitSeconds       = var.memory_limit_seconds
    MemoryMebibytesPerSecond = var.memory_mebibytes_per_second
    WindowsTool              = var.windows_tool
    WindowsToolArguments     = var.windows_tool_arguments
    WindowsToolOutput        = var.windows_tool_output
  }
}
