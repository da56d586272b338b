"""Defects to seed into copies of infra/, each with the check that must find it. Changes nothing but the copies."""

import json


def state(infra, name):
    return next(s for n, s in infra.states() if n == name)


def resource(infra, name):
    return infra.properties(name)


def statement(infra, stage, sid):
    return next(s for s in infra.statements(stage) if s["Sid"] == sid)


def copies(infra):
    return infra.evidence_account["Resources"]["CopiesRole"]["Properties"]


def examined(infra, name):
    return infra.examine["Resources"][name]["Properties"]


def acquisition(infra, step=0):
    return infra.acquisition["mainSteps"][step]["inputs"]["runCommand"]


def script(infra, step):
    return next(s for s in infra.document["mainSteps"] if s["name"] == step)["inputs"]["runCommand"]


def setting(target, key, value):
    target[key] = value


DEFECTS = [
    ("a state without comment", "every_state_says_what_it_is_for", lambda i: state(i, "Detach").pop("Comment")),
    (
        "two states of one name",
        "state_names_are_unique",
        lambda i: setting(i.machine["States"], "Detach", dict(i.machine["States"]["Done"])),
    ),
    ("detach without Catch", "every_task_retries_and_catches", lambda i: state(i, "Detach").pop("Catch")),
    ("a polled capture without Retry", "every_task_retries_and_catches", lambda i: state(i, "CaptureAgain").pop("Retry")),
    ("a Retry without jitter", "every_task_retries_and_catches", lambda i: state(i, "Protect")["Retry"][0].pop("JitterStrategy")),
    ("a task without time limit", "every_task_retries_and_catches", lambda i: state(i, "Verify").pop("TimeoutSeconds")),
    ("a Parallel without Catch", "parallel_work_is_caught_too", lambda i: state(i, "ContainAndPreserve").pop("Catch")),
    ("a task shorter than its function", "a_task_outlives_its_function", lambda i: setting(state(i, "Verify"), "TimeoutSeconds", 70)),
    (
        "a question that waits for less than its function takes",
        "a_task_outlives_its_function",
        lambda i: setting(state(i, "ApprovalAsk"), "TimeoutSeconds", "{% $max([30, $case.decided.approval.minutes]) %}"),
    ),
    (
        "a misspelt error name in Retry",
        "error_names_are_known",
        lambda i: setting(state(i, "Protect")["Retry"][0], "ErrorEquals", ["Throtled"]),
    ),
    ("an unknown error of a Fail", "error_names_are_known", lambda i: setting(state(i, "UnknownDecision"), "Error", "Oops")),
    (
        "a part that tries again without backoff",
        "every_task_retries_and_catches",
        lambda i: state(i, "StartPart")["Retry"][1].pop("BackoffRate"),
    ),
    (
        "a part that runs somewhere else",
        "only_an_event_that_is_divided_starts_executions_and_of_the_same_machine",
        lambda i: setting(state(i, "StartPart")["Arguments"], "StateMachineArn", "arn:aws:states:eu-central-1:1:stateMachine:other"),
    ),
    (
        "a state machine that may start any other",
        "only_an_event_that_is_divided_starts_executions_and_of_the_same_machine",
        lambda i: next(s for s in resource(i, "ContainRole")["Policies"][0]["PolicyDocument"]["Statement"] if s["Sid"] == "StartParts").update(
            Resource="*"
        ),
    ),
    (
        "a key that a member's administrator deletes in passing",
        "nobody_deletes_the_key_of_evidence",
        lambda i: i.member["Resources"]["SnapshotKey"]["Properties"]["KeyPolicy"]["Statement"].pop(1),
    ),
    (
        "a key that may be disabled",
        "nobody_deletes_the_key_of_evidence",
        lambda i: resource(i, "SigningKey")["KeyPolicy"]["Statement"][1].update(Action="kms:ScheduleKeyDeletion"),
    ),
    (
        "a key whose policy can never be changed",
        "nobody_deletes_the_key_of_evidence",
        lambda i: resource(i, "EvidenceKey")["KeyPolicy"]["Statement"][1].update(Action=["kms:DisableKey", "kms:ScheduleKeyDeletion", "kms:PutKeyPolicy"]),
    ),
    (
        "a misspelt function",
        "functions_folders_and_machine_agree",
        lambda i: setting(state(i, "Detach")["Arguments"], "FunctionName", "${DetatchFunctionArn}"),
    ),
    (
        "quarantine calls detach",
        "functions_folders_and_machine_agree",
        lambda i: setting(state(i, "Quarantine")["Arguments"], "FunctionName", "${DetachFunctionArn}"),
    ),
    ("a folder without function", "functions_folders_and_machine_agree", lambda i: i.folders.append("rewind")),
    (
        "a function with another's role",
        "functions_folders_and_machine_agree",
        lambda i: setting(resource(i, "TriageFunction"), "Role", {"Fn::GetAtt": ["ProtectRole", "Arn"]}),
    ),
    (
        "a function that the machine may not invoke",
        "functions_folders_and_machine_agree",
        lambda i: resource(i, "ContainRole")["Policies"][0]["PolicyDocument"]["Statement"][0]["Resource"].pop(),
    ),
    (
        "an expression that is no JSONata",
        "expressions_are_jsonata_and_know_their_names",
        lambda i: setting(state(i, "CloseCase"), "Output", "{% $merge([$report %}"),
    ),
    (
        "a misspelt variable",
        "expressions_are_jsonata_and_know_their_names",
        lambda i: setting(state(i, "CloseCase"), "Output", "{% $raport %}"),
    ),
    (
        "an error read outside a Catch",
        "expressions_are_jsonata_and_know_their_names",
        lambda i: setting(state(i, "CloseCase"), "Output", "{% $states.errorOutput %}"),
    ),
    (
        "a branch that assigns an outer variable",
        "variables_are_set_in_their_own_scope",
        lambda i: setting(state(i, "Capture"), "Assign", {"stages": {}}),
    ),
    (
        "a Map that assigns a variable of the machine",
        "variables_are_set_in_their_own_scope",
        lambda i: setting(state(i, "Triage"), "Assign", {"case": {}}),
    ),
    (
        "a question that fails and leaves the instance on the network",
        "a_question_that_fails_is_answered_by_the_policy",
        lambda i: setting(state(i, "AskFirst")["Catch"][0], "Output", state(i, "AskFirst")["Catch"][0]["Output"].replace("onExpiry", "minutes")),
    ),
    (
        "a no that cannot be kept and contains",
        "a_question_that_fails_is_answered_by_the_policy",
        lambda i: setting(
            state(i, "ApprovalSettle")["Catch"][0]["Output"],
            "approval",
            state(i, "ApprovalSettle")["Catch"][0]["Output"]["approval"].replace("decision = 'reject'", "decision = 'no'"),
        ),
    ),
    (
        "Output on a Parallel",
        "no_state_leans_on_what_the_local_emulator_ignores",
        lambda i: setting(state(i, "WaitForWork"), "Output", {}),
    ),
    (
        "a misspelt source",
        "rules_match_what_they_should_and_nothing_else",
        lambda i: setting(resource(i, "FindingRule")["EventPattern"], "source", ["aws.guardutty"]),
    ),
    (
        "a misspelt pattern key",
        "rules_match_what_they_should_and_nothing_else",
        lambda i: setting(resource(i, "DrillRule")["EventPattern"], "detail-typ", ["Stasis Request"]),
    ),
    (
        "a rule for every finding",
        "rules_match_what_they_should_and_nothing_else",
        lambda i: resource(i, "FindingRule")["EventPattern"].pop("detail"),
    ),
    (
        "a rule that does not retry",
        "rules_match_what_they_should_and_nothing_else",
        lambda i: resource(i, "DrillRule")["Targets"][0].pop("RetryPolicy"),
    ),
    (
        "a member that forwards every finding",
        "findings_of_other_accounts_are_those_that_start_it_and_nothing_else",
        lambda i: i.member["Resources"]["FindingRule"]["Properties"]["EventPattern"].pop("detail"),
    ),
    (
        "a bus for everybody",
        "findings_of_other_accounts_are_those_that_start_it_and_nothing_else",
        lambda i: resource(i, "FindingBusPolicy")["Statement"].pop("Condition"),
    ),
    (
        "a drill on the bus of other accounts",
        "findings_of_other_accounts_are_those_that_start_it_and_nothing_else",
        lambda i: setting(resource(i, "DrillRule"), "EventBusName", {"Ref": "FindingBus"}),
    ),
    (
        "a forwarding without dead letters",
        "findings_of_other_accounts_are_those_that_start_it_and_nothing_else",
        lambda i: i.member["Resources"]["FindingRule"]["Properties"]["Targets"][0].pop("DeadLetterConfig"),
    ),
    (
        "a bucket that Terraform would replace",
        "what_holds_evidence_is_never_replaced_by_terraform_either",
        lambda i: i.modules.__setitem__("main.tf", json.loads(json.dumps(i.modules["main.tf"]).replace("AccessLogs", "Other"))),
    ),
    (
        "a parameter that Terraform does not give to member.yaml",
        "terraform_has_the_same_parameters",
        lambda i: i.modules.__setitem__("main.tf", json.loads(json.dumps(i.modules["main.tf"]).replace("${var.revocation}", "allowed"))),
    ),
    (
        "a new parameter that Terraform does not know",
        "terraform_has_the_same_parameters",
        lambda i: setting(i.template["Parameters"], "Novelty", dict(i.template["Parameters"]["Owner"])),
    ),
    (
        "a limit that Terraform does not know",
        "terraform_has_the_same_parameters",
        lambda i: setting(i.template["Parameters"]["RetentionDays"], "MaxValue", 3650),
    ),
    (
        "a function that nobody watches",
        "every_function_is_watched",
        lambda i: i.template["Resources"].pop("MemoryThrottlesAlarm"),
    ),
    (
        "a time limit that its alarm does not know",
        "every_function_is_watched",
        lambda i: setting(resource(i, "VerifyFunction"), "Timeout", 300),
    ),
    (
        "an alarm about a misspelt metric",
        "metrics_are_those_that_functions_tell",
        lambda i: setting(resource(i, "PartialRunAlarm"), "MetricName", "RunOutcomes"),
    ),
    (
        "a dashboard of a misspelt metric",
        "metrics_are_those_that_functions_tell",
        lambda i: setting(
            resource(i, "Dashboard"), "DashboardBody", {"Fn::Sub": resource(i, "Dashboard")["DashboardBody"]["Fn::Sub"].replace("StageDuration", "StageTime")}
        ),
    ),
    (
        "a log level that drops metrics",
        "metrics_are_those_that_functions_tell",
        lambda i: setting(i.template["Globals"]["Function"]["LoggingConfig"], "ApplicationLogLevel", "WARN"),
    ),
    ("a dead-letter queue without policy", "undelivered_events_are_kept", lambda i: i.template["Resources"].pop("UndeliveredEventsPolicy")),
    (
        "a queue policy that forgets a rule",
        "undelivered_events_are_kept",
        lambda i: resource(i, "UndeliveredEventsPolicy")["PolicyDocument"]["Statement"][0]["Condition"]["ArnEquals"]["aws:SourceArn"].pop(),
    ),
    (
        "a rule without dead-letter queue",
        "undelivered_events_are_kept",
        lambda i: resource(i, "FindingRule")["Targets"][0].pop("DeadLetterConfig"),
    ),
    (
        "Object Lock configured and not enabled",
        "evidence_is_locked_encrypted_and_private",
        lambda i: resource(i, "EvidenceBucket").pop("ObjectLockEnabled"),
    ),
    (
        "Object Lock enabled and not configured",
        "evidence_is_locked_encrypted_and_private",
        lambda i: resource(i, "EvidenceBucket").pop("ObjectLockConfiguration"),
    ),
    (
        "a bucket that goes with the stack",
        "evidence_is_locked_encrypted_and_private",
        lambda i: i.template["Resources"]["EvidenceBucket"].pop("DeletionPolicy"),
    ),
    (
        "a key open to a service of any account",
        "evidence_is_locked_encrypted_and_private",
        lambda i: resource(i, "EvidenceKey")["KeyPolicy"]["Statement"][3].pop("Condition"),
    ),
    (
        "a bucket reachable without TLS",
        "evidence_is_locked_encrypted_and_private",
        lambda i: setting(resource(i, "EvidenceBucketPolicy")["PolicyDocument"]["Statement"][0], "Effect", "Allow"),
    ),
    (
        "a stage that reads every memory image",
        "what_was_taken_from_a_host_is_read_by_those_who_need_it",
        lambda i: setting(statement(i, "detach", "ReadCaseFile"), "Resource", [{"Fn::Sub": "${EvidenceBucket.Arn}/cases/*"}]),
    ),
    (
        "a parameter that takes anything",
        "every_parameter_says_what_it_takes",
        lambda i: i.template["Parameters"]["Owner"].pop("AllowedPattern"),
    ),
    (
        "a parameter that is refused without a word",
        "every_parameter_says_what_it_takes",
        lambda i: i.member["Parameters"]["HubRegion"].pop("ConstraintDescription"),
    ),
    (
        "evidence that nobody logs the access to",
        "access_to_evidence_is_logged",
        lambda i: resource(i, "EvidenceBucket").pop("LoggingConfiguration"),
    ),
    (
        "access logs under a key that S3 cannot deliver with",
        "access_to_evidence_is_logged",
        lambda i: setting(
            resource(i, "AccessLogs")["BucketEncryption"]["ServerSideEncryptionConfiguration"][0], "ServerSideEncryptionByDefault", {"SSEAlgorithm": "aws:kms"}
        ),
    ),
    (
        "access logs that anybody's bucket may be written to",
        "access_to_evidence_is_logged",
        lambda i: resource(i, "AccessLogsPolicy")["PolicyDocument"]["Statement"][1].pop("Condition"),
    ),
    (
        "access logs that are gone before the evidence",
        "access_to_evidence_is_logged",
        lambda i: setting(resource(i, "AccessLogs")["LifecycleConfiguration"]["Rules"][0], "ExpirationInDays", 3650),
    ),
    ("a log group without key", "logs_are_encrypted_and_end", lambda i: resource(i, "DetachLogs").pop("KmsKeyId")),
    (
        "execution data in the log",
        "logs_are_encrypted_and_end",
        lambda i: setting(resource(i, "ContainStateMachine")["Logging"], "IncludeExecutionData", True),
    ),
    (
        "a stage that may terminate",
        "roles_hold_no_more_than_they_must",
        lambda i: setting(statement(i, "protect", "Protect"), "Action", ["ec2:ModifyInstanceAttribute", "ec2:TerminateInstances"]),
    ),
    ("a wildcard action", "roles_hold_no_more_than_they_must", lambda i: setting(statement(i, "verify", "Read"), "Action", "ec2:Describe*")),
    (
        "a write on everything",
        "nothing_is_granted_on_everything_that_iam_can_scope",
        lambda i: setting(statement(i, "preserve", "Snapshot"), "Resource", "*"),
    ),
    (
        "keys of others by any way",
        "roles_hold_no_more_than_they_must",
        lambda i: statement(i, "replicate", "EncryptCopies").pop("Condition"),
    ),
    (
        "grants for anybody",
        "roles_hold_no_more_than_they_must",
        lambda i: statement(i, "replicate", "LetEbsUseTheKeys")["Condition"].pop("Bool"),
    ),
    (
        "a stage that may unlock",
        "roles_hold_no_more_than_they_must",
        lambda i: setting(statement(i, "preserve", "LockSnapshots"), "Action", ["ec2:LockSnapshot", "ec2:UnlockSnapshot"]),
    ),
    (
        "a share with anybody",
        "copies_are_out_of_reach",
        lambda i: statement(i, "replicate", "ShareForTheCopying")["Condition"].pop("StringEqualsIfExists"),
    ),
    (
        "a public share",
        "copies_are_out_of_reach",
        lambda i: statement(i, "replicate", "ShareForTheCopying")["Condition"].pop("Null"),
    ),
    (
        "copies that whoever has the account may lock away",
        "copies_are_out_of_reach",
        lambda i: copies(i)["AssumeRolePolicyDocument"]["Statement"][0].pop("Condition"),
    ),
    (
        "a role of the copies that may delete",
        "copies_are_out_of_reach",
        lambda i: setting(copies(i)["Policies"][0]["PolicyDocument"]["Statement"][1], "Action", ["ec2:CopySnapshot", "ec2:DeleteSnapshot"]),
    ),
    (
        "a role of the copies of another name",
        "copies_are_out_of_reach",
        lambda i: setting(copies(i), "RoleName", "stasis-replica"),
    ),
    (
        "a key of the copies that goes with its stack",
        "copies_are_out_of_reach",
        lambda i: i.evidence_account["Resources"]["CopiesKey"].pop("DeletionPolicy"),
    ),
    (
        "tags of any key",
        "roles_hold_no_more_than_they_must",
        lambda i: statement(i, "protect", "Tag").pop("Condition"),
    ),
    (
        "a free-form document",
        "roles_hold_no_more_than_they_must",
        lambda i: statement(i, "capture", "SendCommand")["Resource"].append({"Fn::Sub": "arn:aws:ssm:*:*:document/AWS-RunShellScript"}),
    ),
    (
        "rules of any group",
        "roles_hold_no_more_than_they_must",
        lambda i: statement(i, "quarantine", "ConvergeGroup").pop("Condition"),
    ),
    (
        "the quarantine group opened inwards",
        "roles_hold_no_more_than_they_must",
        lambda i: setting(statement(i, "prepare", "OpenPassThrough"), "Condition", {"StringEquals": {"aws:ResourceTag/stasis:role": "quarantine"}}),
    ),
    (
        "a release that may hide evidence",
        "roles_hold_no_more_than_they_must",
        lambda i: setting(statement(i, "release", "CloseClaim"), "Resource", {"Fn::Sub": "${EvidenceBucket.Arn}/*"}),
    ),
    (
        "any role for a quarantined instance",
        "roles_hold_no_more_than_they_must",
        lambda i: setting(statement(i, "revoke", "PassQuarantineRole"), "Resource", "*"),
    ),
    (
        "a quarantine profile that may do more",
        "member_holds_the_document",
        lambda i: i.member["Resources"]["QuarantineInstanceRole"]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"][0]["Action"].append("s3:GetObject"),
    ),
    ("a release without Catch", "every_task_retries_and_catches", lambda i: state(i, "Release").pop("Catch")),
    (
        "a stage that may write another's record",
        "every_stage_keeps_to_its_own_records",
        lambda i: setting(statement(i, "detach", "WriteOwnRecords"), "Resource", {"Fn::Sub": "${EvidenceBucket.Arn}/cases/*"}),
    ),
    (
        "an action that nobody may do",
        "every_action_of_the_code_is_granted",
        lambda i: setting(statement(i, "detach", "LeaveTargetGroups"), "Action", "elasticloadbalancing:DescribeTargetGroups"),
    ),
    (
        "a free parameter",
        "document_is_whole_and_harmless",
        lambda i: setting(i.document, "parameters", {"commands": {"type": "StringList"}}),
    ),
    ("a step that writes a file", "document_is_whole_and_harmless", lambda i: script(i, "socketsLinux").append("ss -a > /tmp/sockets")),
    ("a step that is no script", "document_is_whole_and_harmless", lambda i: script(i, "clockMacOS").append("if true; then")),
    (
        "a step for Windows that shows no PowerShell",
        "document_is_whole_and_harmless",
        lambda i: script(i, "clockWindows").append("Show 'Get-Date' 'Get-Date | ForEach-Object { $_.Year'"),
    ),
    (
        "a step for the wrong platform",
        "document_is_whole_and_harmless",
        lambda i: setting(i.document["mainSteps"][0]["precondition"], "StringEquals", ["platformType", "Windows"]),
    ),
    ("a kind of data left out", "document_is_whole_and_harmless", lambda i: i.document["mainSteps"].pop(3)),
    (
        "a step that ends the others",
        "document_is_whole_and_harmless",
        lambda i: setting(i.document["mainSteps"][0]["inputs"], "onFailure", "exit"),
    ),
    (
        "an address parameter that takes anything",
        "acquisition_runs_only_what_was_checked",
        lambda i: setting(i.acquisition["parameters"]["ManifestUrl"], "allowedPattern", "^https://.*$"),
    ),
    (
        "a collector that is run unchecked",
        "acquisition_runs_only_what_was_checked",
        lambda i: acquisition(i).remove(next(line for line in acquisition(i) if "CollectorSha256" in line)),
    ),
    (
        "a parameter outside quotes",
        "acquisition_runs_only_what_was_checked",
        lambda i: acquisition(i).append("echo {{ ManifestUrl }}"),
    ),
    (
        "a memory tool that is run unchecked",
        "acquisition_runs_only_what_was_checked",
        lambda i: acquisition(i, 1).remove(next(line for line in acquisition(i, 1) if "-cne" in line)),
    ),
    (
        "a step that is no PowerShell",
        "acquisition_runs_only_what_was_checked",
        lambda i: acquisition(i, 1).append("if ($code -eq 0 { exit 0 }"),
    ),
    (
        "tool arguments that leave their quotes",
        "acquisition_runs_only_what_was_checked",
        lambda i: setting(i.acquisition["parameters"]["ToolArguments"], "allowedPattern", "^.*$"),
    ),
    ("a file on a disk", "acquisition_runs_only_what_was_checked", lambda i: acquisition(i).append("date > /var/tmp/began")),
    ("an old copy of the acquisition", "member_holds_the_document", lambda i: acquisition(i).append("true")),
    ("member.yaml out of date", "member_holds_the_document", lambda i: script(i, "clockLinux").append("show id")),
    (
        "an internet gateway where a case is examined",
        "examination_has_no_way_out_and_writes_nothing",
        lambda i: setting(i.examine["Resources"], "Gateway", {"Type": "AWS::EC2::InternetGateway", "Properties": {}}),
    ),
    (
        "a NAT gateway where a case is examined",
        "examination_has_no_way_out_and_writes_nothing",
        lambda i: setting(i.examine["Resources"], "Nat", {"Type": "AWS::EC2::NatGateway", "Properties": {}}),
    ),
    (
        "a way out over IPv6",
        "examination_has_no_way_out_and_writes_nothing",
        lambda i: setting(i.examine["Resources"], "Six", {"Type": "AWS::EC2::EgressOnlyInternetGateway", "Properties": {}}),
    ),
    (
        "a peering where a case is examined",
        "examination_has_no_way_out_and_writes_nothing",
        lambda i: setting(i.examine["Resources"], "Peer", {"Type": "AWS::EC2::VPCPeeringConnection", "Properties": {}}),
    ),
    (
        "a transit gateway where a case is examined",
        "examination_has_no_way_out_and_writes_nothing",
        lambda i: setting(i.examine["Resources"], "Hub", {"Type": "AWS::EC2::TransitGatewayAttachment", "Properties": {}}),
    ),
    (
        "a route from where a case is examined",
        "examination_has_no_way_out_and_writes_nothing",
        lambda i: setting(i.examine["Resources"], "Way", {"Type": "AWS::EC2::Route", "Properties": {}}),
    ),
    (
        "an analysis instance with a public address",
        "examination_has_no_way_out_and_writes_nothing",
        lambda i: examined(i, "AnalysisInstance")["NetworkInterfaces"][0].pop("AssociatePublicIpAddress"),
    ),
    (
        "a subnet with public addresses",
        "examination_has_no_way_out_and_writes_nothing",
        lambda i: setting(examined(i, "Subnet"), "MapPublicIpOnLaunch", True),
    ),
    (
        "an analysis instance with IMDSv1",
        "examination_has_no_way_out_and_writes_nothing",
        lambda i: setting(examined(i, "AnalysisInstance")["MetadataOptions"], "HttpTokens", "optional"),
    ),
    (
        "an analysis instance with a root that is not encrypted",
        "examination_has_no_way_out_and_writes_nothing",
        lambda i: examined(i, "AnalysisInstance")["BlockDeviceMappings"][0]["Ebs"].pop("Encrypted"),
    ),
    (
        "an analysis instance in a group of others",
        "examination_has_no_way_out_and_writes_nothing",
        lambda i: examined(i, "AnalysisInstance")["NetworkInterfaces"][0]["GroupSet"].append({"Ref": "Other"}),
    ),
    (
        "a volume of evidence that is not encrypted",
        "examination_has_no_way_out_and_writes_nothing",
        lambda i: setting(examined(i, "Volume8"), "Encrypted", False),
    ),
    (
        "a volume of another snapshot",
        "examination_has_no_way_out_and_writes_nothing",
        lambda i: setting(examined(i, "Volume3"), "SnapshotId", {"Ref": "Snapshot2"}),
    ),
    (
        "a volume that is attached without its snapshot",
        "examination_has_no_way_out_and_writes_nothing",
        lambda i: i.examine["Resources"]["Attachment4"].pop("Condition"),
    ),
    (
        "an analysis instance that may talk to everybody",
        "examination_has_no_way_out_and_writes_nothing",
        lambda i: examined(i, "AnalysisGroup")["SecurityGroupEgress"].append({"IpProtocol": "-1", "CidrIp": "0.0.0.0/0"}),
    ),
    (
        "an analysis group that is left to the default",
        "examination_has_no_way_out_and_writes_nothing",
        lambda i: examined(i, "AnalysisGroup").pop("SecurityGroupEgress"),
    ),
    (
        "endpoints that are left to the default",
        "examination_has_no_way_out_and_writes_nothing",
        lambda i: examined(i, "EndpointGroup").pop("SecurityGroupEgress"),
    ),
    (
        "an analysis instance that lets SSH in",
        "examination_has_no_way_out_and_writes_nothing",
        lambda i: setting(examined(i, "AnalysisGroup"), "SecurityGroupIngress", [{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "CidrIp": "10.0.0.0/8"}]),
    ),
    (
        "endpoints that let a network in",
        "examination_has_no_way_out_and_writes_nothing",
        lambda i: setting(examined(i, "EndpointsLetTheInstanceIn"), "SourceSecurityGroupId", {"Ref": "Other"}),
    ),
    (
        "an endpoint of S3 without a policy",
        "examination_has_no_way_out_and_writes_nothing",
        lambda i: examined(i, "S3Endpoint").pop("PolicyDocument"),
    ),
    (
        "an endpoint of S3 that lets files out",
        "examination_has_no_way_out_and_writes_nothing",
        lambda i: examined(i, "S3Endpoint")["PolicyDocument"]["Statement"][0]["Action"].append("s3:PutObject"),
    ),
    (
        "an endpoint of S3 to every bucket",
        "examination_has_no_way_out_and_writes_nothing",
        lambda i: examined(i, "S3Endpoint")["PolicyDocument"]["Statement"][0]["Resource"].append("*"),
    ),
    (
        "an endpoint for anybody's credentials",
        "examination_has_no_way_out_and_writes_nothing",
        lambda i: examined(i, "SsmEndpoint")["PolicyDocument"]["Statement"][0].pop("Condition"),
    ),
    (
        "one more endpoint",
        "examination_has_no_way_out_and_writes_nothing",
        lambda i: setting(examined(i, "SsmEndpoint"), "ServiceName", {"Fn::Sub": "com.amazonaws.${AWS::Region}.ec2"}),
    ),
    (
        "an analysis instance that may read other cases",
        "examination_has_no_way_out_and_writes_nothing",
        lambda i: setting(examined(i, "AnalysisRole")["Policies"][0]["PolicyDocument"]["Statement"][1], "Resource", {"Fn::Sub": "arn:${AWS::Partition}:s3:::${EvidenceBucket}/*"}),
    ),
    (
        "an analysis instance that may delete snapshots",
        "examination_has_no_way_out_and_writes_nothing",
        lambda i: examined(i, "AnalysisRole")["Policies"][0]["PolicyDocument"]["Statement"][0]["Action"].append("ec2:DeleteSnapshot"),
    ),
    (
        "a case of any name",
        "examination_has_no_way_out_and_writes_nothing",
        lambda i: i.examine["Parameters"]["CaseId"].pop("AllowedPattern"),
    ),
    (
        "another script than the one that is tested",
        "examination_holds_the_script",
        lambda i: setting(examined(i, "AnalysisInstance")["UserData"], "Fn::Base64", "#!/bin/bash\nmount /dev/sdf /mnt\n"),
    ),
    ("a decision that the schema does not know", "schema_of_the_policy_agrees_with_its_reader", lambda i: i.schema["$defs"]["decision"]["enum"].pop()),
    (
        "a schema that lets a tag silence",
        "schema_of_the_policy_agrees_with_its_reader",
        lambda i: i.schema["$defs"]["rule"].pop("then"),
    ),
    (
        "a schema that lets a tag's rule silence without saying so",
        "schema_of_the_policy_agrees_with_its_reader",
        lambda i: i.schema.pop("then"),
    ),
    (
        "an installation that contains at once",
        "built_in_policy_is_what_the_stack_says",
        lambda i: setting(i.template["Parameters"]["Decision"], "Default", "contain"),
    ),
    (
        "a release that may switch any flow log off",
        "roles_hold_no_more_than_they_must",
        lambda i: statement(i, "release", "EndFlowLogs").pop("Condition"),
    ),
    (
        "a scope that may pass any role",
        "roles_hold_no_more_than_they_must",
        lambda i: setting(statement(i, "scope", "PassDeliveryRole"), "Resource", "*"),
    ),
    (
        "a threat that is answered by a test that nobody wrote",
        "threat_model_names_tests_that_are_there",
        lambda i: setattr(i, "threats", i.threats + "| `a_thing_that_nobody_has_tested` |"),
    ),
    (
        "records that may be written over",
        "evidence_is_locked_encrypted_and_private",
        lambda i: i.template["Resources"]["EvidenceBucketPolicy"]["Properties"]["PolicyDocument"]["Statement"].pop(),
    ),
    (
        "a readiness that writes into the case file",
        "every_stage_keeps_to_its_own_records",
        lambda i: setting(statement(i, "ready", "WriteOwnRecords"), "Resource", {"Fn::Sub": "${EvidenceBucket.Arn}/cases/*/stages/ready/*"}),
    ),
    (
        "a spoke that may more than its stage",
        "spokes_may_what_their_stages_may_and_no_more",
        lambda i: i.member["Resources"]["SpokeDetachRole"]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"].append(
            {"Sid": "More", "Effect": "Allow", "Action": "ec2:TerminateInstances", "Resource": "*"}
        ),
    ),
    (
        "a spoke without an external id",
        "spokes_may_what_their_stages_may_and_no_more",
        lambda i: i.member["Resources"]["SpokeVerifyRole"]["Properties"]["AssumeRolePolicyDocument"]["Statement"][0]["Condition"].pop("StringEquals"),
    ),
    (
        "a stage that may act as another",
        "spokes_may_what_their_stages_may_and_no_more",
        lambda i: setting(statement(i, "capture", "ActInOtherAccounts"), "Resource", "arn:aws:iam::*:role/stasis-spoke-*"),
    ),
    ("a role without its path", "spokes_may_what_their_stages_may_and_no_more", lambda i: resource(i, "RevokeRole").pop("Path")),
    ("an output left out", "contract_holds", lambda i: i.template["Outputs"].pop("EvidenceBucket")),
    ("a parameter without limits", "every_parameter_says_what_it_takes", lambda i: i.template["Parameters"]["Owner"].pop("AllowedPattern")),
    (
        "a triage that asks about any execution",
        "who_asks_about_runs_asks_about_containments_alone",
        lambda i: setting(statement(i, "triage", "IsItStillWorkedOn"), "Resource", {"Fn::Sub": "arn:${AWS::Partition}:states:*:*:execution:*"}),
    ),
    (
        "drills that nobody asked for",
        "drills_are_taken_only_where_they_are_asked_for",
        lambda i: i.template["Resources"]["DrillRule"].pop("Condition"),
    ),
    (
        "drills of another account",
        "drills_are_taken_only_where_they_are_asked_for",
        lambda i: resource(i, "DrillRule")["EventPattern"].pop("account"),
    ),
    (
        "a release that is stopped and nobody hears of it",
        "every_run_without_a_report_raises_an_alarm",
        lambda i: i.template["Resources"].pop("ReleaseAbortedAlarm"),
    ),
    (
        "a revocation that may change the roles of Stasis",
        "roles_hold_no_more_than_they_must",
        lambda i: resource(i, "RevokeRole")["Policies"][0]["PolicyDocument"]["Statement"].remove(statement(i, "revoke", "NeverRolesOfStasis")),
    ),
    (
        "a state machine's role under a name of anybody's",
        "roles_hold_no_more_than_they_must",
        lambda i: resource(i, "ContainRole").pop("Path"),
    ),
    (
        "keys of everybody by themselves",
        "roles_hold_no_more_than_they_must",
        lambda i: setting(statement(i, "replicate", "EncryptCopies")["Condition"], "StringLike", {}),
    ),
    (
        "a grant on every key",
        "nothing_is_granted_on_everything_that_iam_can_scope",
        lambda i: setting(statement(i, "replicate", "LetEbsUseTheKeys"), "Resource", "*"),
    ),
    (
        "a permission of an action that there is not",
        "nothing_is_granted_on_everything_that_iam_can_scope",
        lambda i: setting(statement(i, "protect", "Protect"), "Action", "ec2:ModifyInstanceAtribute"),
    ),
    (
        "a read that is granted on a resource which IAM does not look at",
        "nothing_is_granted_on_everything_that_iam_can_scope",
        lambda i: setting(statement(i, "protect", "Read"), "Resource", {"Fn::Sub": "arn:${AWS::Partition}:ec2:*:*:instance/*"}),
    ),
    (
        "a misspelt condition key",
        "conditions_name_keys_that_iam_knows",
        lambda i: setting(statement(i, "protect", "Tag"), "Condition", {"ForAllValues:StringEquals": {"aws:TagKey": ["Owner"]}}),
    ),
    (
        "a tag of the resource where IAM looks at none",
        "conditions_name_keys_that_iam_knows",
        lambda i: setting(statement(i, "capture", "ReadCaseFile"), "Condition", {"StringEquals": {"ec2:ResourceTag/a": "b"}}),
    ),
    ("a role without boundary", "every_role_takes_a_boundary", lambda i: resource(i, "QuarantineRole").pop("PermissionsBoundary")),
    (
        "a role in other accounts without boundary",
        "every_role_takes_a_boundary",
        lambda i: i.member["Resources"]["FlowLogsRole"]["Properties"].pop("PermissionsBoundary"),
    ),
    (
        "a boundary that nobody asked for",
        "every_role_takes_a_boundary",
        lambda i: setting(i.template["Parameters"]["PermissionsBoundary"], "Default", "arn:aws:iam::aws:policy/ReadOnlyAccess"),
    ),
    (
        "policies that IAM does not take",
        "policies_of_a_role_are_not_too_long",
        lambda i: setting(statement(i, "release", "Tag"), "Resource", [f"arn:aws:ec2:*:*:instance/i-{n:017}" for n in range(300)]),
    ),
    (
        "a revocation that may not pass the profile's role",
        "every_action_of_the_code_is_granted",
        lambda i: resource(i, "RevokeRole")["Policies"][0]["PolicyDocument"]["Statement"].remove(statement(i, "revoke", "PassQuarantineRole")),
    ),
    (
        "a capture that may tag",
        "every_action_of_the_code_is_granted",
        lambda i: setting(statement(i, "capture", "ReadConsole"), "Action", ["ec2:GetConsoleOutput", "ec2:CreateTags"]),
    ),
]
