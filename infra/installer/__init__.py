"""Packages Stasis, deploys it to an account and Region, and removes it again. What `make package`, `make deploy` and
`make uninstall` run.

It needs boto3 and no SAM CLI: the template is made plain CloudFormation when it is packaged, so that the same files serve a
pipeline, a stack set, Terraform and this program. It never deletes evidence, keys or snapshots.
"""


class InstallError(Exception):
    """Why it does not go on, in a sentence for the person at the terminal, with what to do."""
