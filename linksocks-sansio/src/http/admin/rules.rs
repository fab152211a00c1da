//! Access rules as JSON.

use std::ops::RangeInclusive;

use serde::de::{IgnoredAny, MapAccess};
use serde::{Deserialize, Serialize};

use super::fields::{Fields, Object, read_into};
use crate::access::{AccessRule, AccessRules, RuleError};

/// A list of rules as it is read.
pub(super) type RuleList = Vec<Object<RuleFields>>;

/// A rule as it is read.
#[derive(Default)]
pub(super) struct RuleFields {
    addrs: Vec<String>,
    ports: Vec<PortRange>,
}

impl Fields for RuleFields {
    fn read<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "addrs" => read_into(&mut self.addrs, map),
            "ports" => read_into(&mut self.ports, map),
            _ => map.next_value().map(|IgnoredAny| ()),
        }
    }
}

/// The rules of a list that was read.
pub(super) fn rules(list: RuleList) -> Result<AccessRules, RuleError> {
    list.into_iter()
        .map(|Object(rule)| {
            let ports = rule.ports.into_iter().map(|PortRange(ports)| ports);
            AccessRule::from_parts(rule.addrs.iter().map(String::as_str), ports)
        })
        .collect()
}

/// A rule as it is written; what is empty is `null`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RuleText {
    addrs: Option<Vec<String>>,
    ports: Option<Vec<PortRange>>,
}

/// The rules to be written; `None` if there are none.
pub(super) fn texts(rules: &AccessRules) -> Option<Vec<RuleText>> {
    let text = |rule: &AccessRule| RuleText {
        addrs: unless_empty(rule.address_texts()),
        ports: unless_empty(rule.ports().iter().cloned().map(PortRange).collect()),
    };
    unless_empty(rules.iter().map(text).collect())
}

fn unless_empty<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

/// Some ports: `80` or `[90,150]`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "PortNumbers", into = "PortNumbers")]
struct PortRange(RangeInclusive<u16>);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum PortNumbers {
    One(u16),
    Range(u16, u16),
}

impl TryFrom<PortNumbers> for PortRange {
    type Error = &'static str;

    fn try_from(numbers: PortNumbers) -> Result<Self, &'static str> {
        match numbers {
            PortNumbers::One(port) | PortNumbers::Range(port, _) if port == 0 => Err("there is no port 0"),
            PortNumbers::Range(low, high) if low > high => Err("the range ends before it begins"),
            PortNumbers::One(port) => Ok(Self(port..=port)),
            PortNumbers::Range(low, high) => Ok(Self(low..=high)),
        }
    }
}

impl From<PortRange> for PortNumbers {
    fn from(PortRange(ports): PortRange) -> Self {
        match ports.into_inner() {
            (low, high) if low == high => Self::One(low),
            (low, high) => Self::Range(low, high),
        }
    }
}
