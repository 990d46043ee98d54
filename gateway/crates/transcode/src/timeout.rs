//! How long a call of a method may take, read from the option `hybrid.options.v1.timeout` by its full name.

use std::time::Duration;

use prost_reflect::{DescriptorPool, ExtensionDescriptor, MethodDescriptor};

/// The full name of the option.
const OPTION: &str = "hybrid.options.v1.timeout";
/// Less is no time to answer in, and is lost where budgets are passed on in milliseconds.
const SHORTEST: Duration = Duration::from_millis(1);

/// Reads the option; made once for a pool.
pub(crate) struct TimeoutReader(Option<ExtensionDescriptor>);

impl TimeoutReader {
    pub(crate) fn new(pool: &DescriptorPool) -> Self {
        Self(pool.get_extension_by_name(OPTION))
    }

    /// The method's own bound, where the contract states one.
    pub(crate) fn read(&self, method: &MethodDescriptor) -> Result<Option<Duration>, String> {
        let Some(extension) = &self.0 else { return Ok(None) };
        let options = method.options();
        if !options.has_extension(extension) {
            return Ok(None);
        }
        let value = options.get_extension(extension);
        let seconds = value.as_message().and_then(|timeout| timeout.get_field_by_name("max_seconds"));
        let seconds = seconds.and_then(|seconds| seconds.as_f64()).unwrap_or_default();
        let timeout = Duration::try_from_secs_f64(seconds).ok().filter(|timeout| *timeout >= SHORTEST);
        let refusal = || format!("{OPTION}: max_seconds is {seconds}: expected a number of 0.001 or more");
        timeout.map(Some).ok_or_else(refusal)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{Contract, LoadError};

    fn contract(option: &str) -> Result<Contract, LoadError> {
        let source = format!(
            "syntax = \"proto3\";\npackage t;\nimport \"hybrid/options/v1/timeout.proto\";\n\
             service S {{\n  rpc M(In) returns (In) {{ {option} }}\n}}\nmessage In {{}}"
        );
        Contract::from_sources(&BTreeMap::from([("t.proto", source)]))
    }

    #[test]
    fn a_methods_own_bound_is_read() {
        for (text, millis) in [("2", 2000), ("0.25", 250), ("0.001", 1), ("86400", 86_400_000)] {
            let contract =
                contract(&format!("option (hybrid.options.v1.timeout) = {{max_seconds: {text}}};")).unwrap();
            assert_eq!(contract.methods()[0].timeout(), Some(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(contract("").unwrap().methods()[0].timeout(), None);
    }

    #[test]
    fn a_bound_that_is_none_is_refused_by_file_and_line() {
        for (text, shown) in
            [("max_seconds: 0", "0"), ("", "0"), ("max_seconds: -1", "-1"), ("max_seconds: inf", "inf")]
        {
            let error = contract(&format!("option (hybrid.options.v1.timeout) = {{{text}}};")).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "t.proto:5: t.S.M: hybrid.options.v1.timeout: max_seconds is {shown}: \
                     expected a number of 0.001 or more"
                )
            );
        }
    }
}
