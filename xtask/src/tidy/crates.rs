//! Dependencies point one way, crate by crate.

use serde_json::Value;

use super::Complaint;

/// A crate and all that it may depend on, tests and optional dependencies aside.
struct Allowed {
    package: &'static str,
    dependencies: &'static [&'static str],
}

/// The crates that must stay pure.
const ALLOWED: &[Allowed] = &[
    Allowed { package: "bitmesh-common", dependencies: &[] },
    Allowed {
        package: "bitmesh-ebpf",
        dependencies: &["aya-ebpf", "aya-log-ebpf", "bitmesh-common"],
    },
    Allowed {
        package: "bitmesh-core",
        dependencies: &["bitcoin", "bitmesh-common", "secp256k1", "serde", "thiserror"],
    },
];

/// Complains of each dependency that is not allowed.
pub(super) fn check(packages: &[Value]) -> Vec<Complaint> {
    packages
        .iter()
        .flat_map(|package| {
            let name = package["name"].as_str().unwrap_or_default();
            let allowed = ALLOWED.iter().find(|allowed| allowed.package == name);
            allowed.map_or_else(Vec::new, |allowed| foreign(package, allowed))
        })
        .collect()
}

fn foreign(package: &Value, allowed: &Allowed) -> Vec<Complaint> {
    let dependencies = package["dependencies"].as_array().map_or(&[][..], Vec::as_slice);
    dependencies
        .iter()
        .filter(|dependency| dependency["kind"].is_null() && dependency["optional"] != true)
        .filter_map(|dependency| dependency["name"].as_str())
        .filter(|name| !allowed.dependencies.contains(name))
        .map(|name| Complaint::new(allowed.package, format_args!("must not depend on {name}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pure_crate_must_not_gain_a_dependency() {
        let package = |kind: Value, optional: bool| {
            json!({"name": "bitmesh-common", "dependencies":
                [{"name": "tokio", "kind": kind, "optional": optional}]})
        };
        assert_eq!(
            check(&[package(Value::Null, false)]),
            [Complaint::new("bitmesh-common", "must not depend on tokio")]
        );
        assert_eq!(check(&[package("dev".into(), false)]), []);
        assert_eq!(check(&[package(Value::Null, true)]), []);
    }
}
