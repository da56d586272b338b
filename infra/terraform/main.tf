# Stasis by Terraform: the package (make package) put into a bucket, and its two stacks. All that Stasis is stands in the
# CloudFormation templates of the package; this only hands them what they need.

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

variable "package_folder" {
  description = "The folder that make package made."
  type        = string
}

variable "artefact_bucket" {
  description = "An existing bucket in the provider's Region that the package is put into. Its objects are no evidence."
  type        = string
}

variable "artefact_prefix" {
  description = "The folder of the package in that bucket, with a slash at its end. Empty for the bucket's root."
  type        = string
  default     = "stasis/"

  validation {
    condition     = can(regex("^([A-Za-z0-9_.-]+/)*$", var.artefact_prefix))
    error_message = "It must be folders, each with a slash at its end, or nothing."
  }
}

data "aws_caller_identity" "current" {}

data "aws_s3_bucket" "artefacts" {
  bucket = var.artefact_bucket
}

locals {
  collectors = {
    CollectorX8664 = "${var.package_folder}/collectors/stasis-collector-x86_64"
    CollectorArm64 = "${var.package_folder}/collectors/stasis-collector-aarch64"
  }
  # By their hash, so that a stack is changed where its template was.
  templates = { for name in ["hub.json", "member.yaml"] : name => {
    file = "${var.package_folder}/${name}"
    key  = "${var.artefact_prefix}templates/${substr(filesha256("${var.package_folder}/${name}"), 0, 16)}-${name}"
  } }
  # What holds or signs evidence is never replaced or dropped by an update.
  stack_policy = { for stack, kept in {
    hub    = ["AccessLogs", "EvidenceBucket", "EvidenceKey", "SigningKey"]
    member = ["SnapshotKey"]
    } : stack => jsonencode({
      Statement = [
        { Effect = "Allow", Action = "Update:*", Principal = "*", Resource = "*" },
        {
          Effect    = "Deny"
          Action    = ["Update:Replace", "Update:Delete"]
          Principal = "*"
          Resource  = [for name in kept : "LogicalResourceId/${name}"]
        },
      ]
  }) }
}

resource "aws_s3_object" "function" {
  for_each    = fileset(var.package_folder, "functions/*.zip")
  bucket      = data.aws_s3_bucket.artefacts.id
  key         = "${var.artefact_prefix}${each.value}"
  source      = "${var.package_folder}/${each.value}"
  source_hash = filesha256("${var.package_folder}/${each.value}")
}

resource "aws_s3_object" "template" {
  for_each    = local.templates
  bucket      = data.aws_s3_bucket.artefacts.id
  key         = each.value.key
  source      = each.value.file
  source_hash = filesha256(each.value.file)
}

# First what the hub leans on: its documents, the quarantine profile, the key of snapshots.
resource "aws_cloudformation_stack" "member" {
  name         = "stasis-member"
  template_url = "https://${data.aws_s3_bucket.artefacts.bucket_regional_domain_name}/${aws_s3_object.template["member.yaml"].key}"
  capabilities = ["CAPABILITY_NAMED_IAM"]
  policy_body  = local.stack_policy["member"]
  parameters = {
    HubAccount          = data.aws_caller_identity.current.account_id
    RetentionDays       = var.retention_days
    Revocation          = var.revocation
    QuarantineProfile   = var.quarantine_profile
    DestinationAccount  = var.destination_account
    PermissionsBoundary = var.permissions_boundary
  }
}

resource "aws_cloudformation_stack" "hub" {
  name         = "stasis"
  template_url = "https://${data.aws_s3_bucket.artefacts.bucket_regional_domain_name}/${aws_s3_object.template["hub.json"].key}"
  capabilities = ["CAPABILITY_NAMED_IAM"]
  policy_body  = local.stack_policy["hub"]
  parameters = merge(
    local.parameters,
    { for name, file in local.collectors : name => filesha256(file) },
    { ArtefactBucket = data.aws_s3_bucket.artefacts.id, ArtefactPrefix = var.artefact_prefix },
  )
  depends_on = [aws_s3_object.function, aws_cloudformation_stack.member]
}

# The functions were told these hashes, and take nothing else.
resource "aws_s3_object" "collector" {
  for_each           = local.collectors
  bucket             = aws_cloudformation_stack.hub.outputs["EvidenceBucket"]
  key                = "tools/collector/${filesha256(each.value)}"
  source             = each.value
  source_hash        = filesha256(each.value)
  checksum_algorithm = "SHA256"
}

output "outputs" {
  description = "The outputs of the hub's stack: state machines, evidence bucket, topic, signing key."
  value       = aws_cloudformation_stack.hub.outputs
}
