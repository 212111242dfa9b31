"""Acknowledging a cdk-nag finding, on one resource at a time and with a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk

if TYPE_CHECKING:
    from constructs import IConstruct


def acknowledge(resource: cdk.CfnResource, rule: str, reason: str) -> None:
    """Record why what an AwsSolutions rule finds in a resource is as it should be.

    A rule that finds several things in one resource takes an acknowledgement of each, named in brackets after it.
    """
    cdk.Validations.of(resource).acknowledge(cdk.Acknowledgment(id=f"AwsSolutions::AwsSolutions-{rule}", reason=reason))


def resource_of(construct: IConstruct) -> cdk.CfnResource:
    """The one CloudFormation resource that a construct is for."""
    resource = construct.node.default_child
    if not isinstance(resource, cdk.CfnResource):
        raise TypeError(f"{construct.node.path} is for no single resource")
    return resource
