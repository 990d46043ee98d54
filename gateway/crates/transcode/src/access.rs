//! The access rule of a method, read from the option `hybrid.options.v1.access` by its full name.

use prost_reflect::{ExtensionDescriptor, MethodDescriptor, Value};

/// The full name of the option.
const OPTION: &str = "hybrid.options.v1.access";

/// Who may call a method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Nobody: the contract states no rule, or one with an unspecified or unknown level.
    Denied,
    /// Anybody, also without a token.
    Public,
    /// A user, or a service acting for one, whose token holds all of the scopes.
    Authenticated {
        /// The scopes, in the contract's order.
        scopes: Vec<String>,
        /// Whether a service may call for itself, too, through the internal listener.
        services: bool,
    },
    /// Services only, through the internal listener.
    Internal,
}

/// Reads access rules; made once for a pool.
pub(crate) struct AccessReader(Option<ExtensionDescriptor>);

impl AccessReader {
    pub(crate) fn new(pool: &prost_reflect::DescriptorPool) -> Self {
        Self(pool.get_extension_by_name(OPTION))
    }

    /// Everything that is not a rule we know denies: a newer contract never opens a method by accident.
    pub(crate) fn read(&self, method: &MethodDescriptor) -> Access {
        let Some(extension) = &self.0 else { return Access::Denied };
        let options = method.options();
        if !options.has_extension(extension) {
            return Access::Denied;
        }
        let value = options.get_extension(extension);
        let Some(rule) = value.as_message() else { return Access::Denied };
        let level = rule.get_field_by_name("level").and_then(|level| level.as_enum_number());
        match level {
            Some(1) => Access::Public,
            Some(2) => Access::Authenticated { scopes: scopes(rule), services: services(rule) },
            Some(3) => Access::Internal,
            _ => Access::Denied,
        }
    }
}

fn scopes(rule: &prost_reflect::DynamicMessage) -> Vec<String> {
    let list = rule.get_field_by_name("scopes");
    let values = list.as_ref().and_then(|list| list.as_list()).unwrap_or_default();
    values.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn services(rule: &prost_reflect::DynamicMessage) -> bool {
    rule.get_field_by_name("services").and_then(|value| value.as_bool()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::notes;

    #[test]
    fn every_level_is_read_and_a_missing_rule_denies() {
        let contract = notes();
        let access = |name: &str| {
            contract.methods().iter().find(|method| method.name() == name).unwrap().access().clone()
        };
        assert_eq!(access("Get"), Access::Public);
        assert_eq!(
            access("Create"),
            Access::Authenticated { scopes: vec!["notes".into(), "notes.write".into()], services: false }
        );
        assert_eq!(access("Count"), Access::Authenticated { scopes: vec!["notes".into()], services: true });
        assert_eq!(access("Purge"), Access::Internal);
        assert_eq!(access("Unruled"), Access::Denied);
        assert_eq!(access("Unspecified"), Access::Denied);
    }
}
