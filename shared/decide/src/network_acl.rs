//! Network ACL entries that deny the remote addresses of a finding, by policy `deny`. An ACL is stateless, so it
//! cuts what a security group cannot; and it is for the whole subnet, so only public addresses are denied, and
//! never more than a few. Existing entries keep their numbers.

use stasis_model::action::{AclEntry, Action};
use stasis_model::baseline::Observed;
use stasis_model::case::{Case, RemoteAddresses};
use stasis_model::facts::{NetworkAcl, QuarantineFacts};
use stasis_model::stage::{Failure, Plan};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How many addresses of a finding are denied. Its text is influenced by the attacker, the subnet is others' too.
const ADDRESSES_MOST: usize = 4;
/// How many entries an ACL takes for each direction unless AWS raised it
/// (<https://docs.aws.amazon.com/vpc/latest/userguide/amazon-vpc-limits.html>); the final entry `*` not counted.
const ENTRIES_MOST: usize = 20;
/// The number of the final entry `*`, which cannot be changed.
const FINAL_ENTRY: i32 = 32_767;

/// The entries that are missing.
pub(crate) fn denials(case: &Case, facts: &QuarantineFacts, plan: &mut Plan) -> Vec<Action> {
    if case.policy.remote_addresses == RemoteAddresses::Leave || case.remote_addresses.is_empty() {
        return Vec::new();
    }
    let acls = match &facts.acls {
        Observed::Known(acls) => acls,
        Observed::Unknown(why) => {
            plan.obstacles.push(Failure::lasting(
                "Unreadable",
                format!("the network ACLs could not be read, so the finding's addresses are not denied: {why}"),
            ));
            return Vec::new();
        }
    };
    let (public, others): (Vec<&IpAddr>, Vec<&IpAddr>) =
        case.remote_addresses.iter().partition(|address| is_public(address));
    for address in others {
        plan.notes.push(format!("{address} is not denied in the network ACLs: it is not a public address"));
    }
    for address in public.iter().skip(ADDRESSES_MOST) {
        plan.notes.push(format!("{address} is not denied in the network ACLs: at most {ADDRESSES_MOST} are"));
    }
    let mut actions = Vec::new();
    for acl in acls {
        for egress in [false, true] {
            actions.extend(missing(acl, egress, public.iter().take(ADDRESSES_MOST), plan));
        }
    }
    actions
}

/// The entries of one direction, numbered downwards from the lowest that is there, so that they decide first.
fn missing<'a>(
    acl: &NetworkAcl,
    egress: bool,
    addresses: impl Iterator<Item = &'a &'a IpAddr>,
    plan: &mut Plan,
) -> Vec<Action> {
    let here: Vec<_> = acl.entries.iter().filter(|e| e.egress == egress && e.rule_number < FINAL_ENTRY).collect();
    let first_allow = here.iter().filter(|e| !e.deny).map(|e| e.rule_number).min().unwrap_or(FINAL_ENTRY);
    let mut lowest = here.iter().map(|e| e.rule_number).min().unwrap_or(100);
    let mut count = here.len();
    let mut actions = Vec::new();
    for address in addresses {
        let cidr = cidr(address);
        if here.iter().any(|e| e.deny && e.protocol == "-1" && e.cidr == cidr && e.rule_number < first_allow) {
            continue;
        }
        if lowest <= 1 || count >= ENTRIES_MOST {
            let why = if lowest <= 1 { "entry 1 is taken" } else { "it has as many entries as AWS allows" };
            plan.obstacles.push(Failure::lasting(
                "NetworkAclFull",
                format!("{address} could not be denied in network ACL {}: {why}", acl.id),
            ));
            continue;
        }
        lowest -= 1;
        count += 1;
        let entry = AclEntry { network_acl: acl.id.clone(), rule_number: lowest, egress, cidr };
        actions.push(Action::DenyAddress { entry });
    }
    actions
}

fn cidr(address: &IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("{address}/32"),
        IpAddr::V6(address) => format!("{address}/128"),
    }
}

/// Whether an address is one of the Internet's: denying any other could cut production off from itself.
fn is_public(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let shared = v4.octets()[0] == 100 && (64..128).contains(&v4.octets()[1]);
            let reserved = v4.octets()[0] == 0 || v4.octets()[0] >= 240;
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || *v4 == Ipv4Addr::BROADCAST
                || shared
                || reserved)
        }
        // Global unicast is 2000::/3 (RFC 4291); addresses that map IPv4 are outside it.
        IpAddr::V6(v6) => v6.segments()[0] & 0xe000 == 0x2000 && *v6 != Ipv6Addr::UNSPECIFIED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use stasis_model::facts::NetworkAclEntry;

    fn entry(rule_number: i32, egress: bool, deny: bool, cidr: &str) -> NetworkAclEntry {
        NetworkAclEntry { rule_number, egress, deny, protocol: "-1".to_owned(), cidr: cidr.to_owned() }
    }

    fn acl(entries: Vec<NetworkAclEntry>) -> NetworkAcl {
        NetworkAcl { id: "acl-1".to_owned(), entries }
    }

    fn planned(addresses: &[&str], entries: Vec<NetworkAclEntry>) -> (Vec<AclEntry>, Plan) {
        let mut case = sample::case();
        case.policy.remote_addresses = RemoteAddresses::Deny;
        case.remote_addresses = addresses.iter().map(|a| a.parse().expect("an address")).collect();
        let mut facts = sample::quarantine_facts(None);
        facts.acls = Observed::Known(vec![acl(entries)]);
        let mut plan = Plan::nothing();
        let entries = denials(&case, &facts, &mut plan)
            .into_iter()
            .map(|action| match action {
                Action::DenyAddress { entry } => entry,
                other => panic!("{other:?}"),
            })
            .collect();
        (entries, plan)
    }

    fn ordinary() -> Vec<NetworkAclEntry> {
        [false, true]
            .into_iter()
            .flat_map(|egress| [entry(100, egress, false, "0.0.0.0/0"), entry(FINAL_ENTRY, egress, true, "0.0.0.0/0")])
            .collect()
    }

    #[test]
    fn both_directions_are_denied_before_what_is_there_and_only_once() {
        let (entries, _) = planned(&["198.51.100.7", "2001:db8::7"], ordinary());
        let numbers: Vec<(i32, bool, &str)> =
            entries.iter().map(|e| (e.rule_number, e.egress, e.cidr.as_str())).collect();
        assert_eq!(
            numbers,
            [
                (99, false, "198.51.100.7/32"),
                (98, false, "2001:db8::7/128"),
                (99, true, "198.51.100.7/32"),
                (98, true, "2001:db8::7/128")
            ]
        );
        let mut after = ordinary();
        after.extend(entries.iter().map(|e| entry(e.rule_number, e.egress, true, &e.cidr)));
        assert!(planned(&["198.51.100.7", "2001:db8::7"], after).0.is_empty());
    }

    #[test]
    fn addresses_that_are_not_of_the_internet_are_never_denied() {
        for inner in [
            "10.0.0.1",
            "172.16.9.1",
            "192.168.1.1",
            "127.0.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "::1",
            "fe80::1",
            "fd00:ec2::254",
            "::ffff:10.0.0.1",
            "ff02::1",
        ] {
            let (entries, plan) = planned(&[inner], ordinary());
            assert!(entries.is_empty() && plan.notes.len() == 1, "{inner}");
        }
    }

    #[test]
    fn a_full_acl_is_an_obstacle_and_nothing_is_overwritten() {
        let (entries, plan) = planned(&["198.51.100.7"], vec![entry(1, false, false, "0.0.0.0/0")]);
        assert_eq!((entries.len(), plan.obstacles.len()), (1, 1), "outwards there is room");
        let many = (0..20).map(|n| entry(100 + n, false, false, "10.0.0.0/8")).collect();
        assert_eq!(planned(&["198.51.100.7"], many).1.obstacles.len(), 1);
    }

    #[test]
    fn without_the_policy_nothing_is_touched() {
        let mut case = sample::case();
        case.remote_addresses = vec!["198.51.100.7".parse().expect("an address")];
        let mut facts = sample::quarantine_facts(None);
        facts.acls = Observed::Known(vec![acl(ordinary())]);
        assert!(denials(&case, &facts, &mut Plan::nothing()).is_empty());
    }
}
