//! Whether pinned maps are those that the programs of this version use.
//!
//! A pinned map is reused by its name alone. So each is compared with what the eBPF object defines,
//! before it is used: kind, sizes, number of elements and flags. What the bytes of a record mean
//! is told by the version in `house`.

use aya::maps::MapInfo;
use aya_obj::Object;
use bitmesh_common::abi::MAPS;

use super::MeterError;
use super::error::describe;
use super::home::Home;

/// Maps that hold what can't be made anew beside the others. The rest may be new in this version:
/// they are then made, empty.
const ESSENTIAL: [&str; 5] = ["directory", "meters", "accounts", "lans", "house"];

/// What defines a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    kind: u32,
    key_bytes: u32,
    value_bytes: u32,
    elements: u32,
    flags: u32,
}

/// Compares every pinned map with the object's definition of it.
///
/// # Errors
///
/// [`MeterError::OtherLayout`] names the first that differs.
pub(super) fn check(home: &Home, object: &[u8]) -> Result<(), MeterError> {
    let object = Object::parse(object).map_err(|error| MeterError::Load(describe(&error)))?;
    for name in MAPS {
        let other = |what: String| MeterError::OtherLayout { path: home.path().to_owned(), what };
        if !home.pin(name).exists() {
            if ESSENTIAL.contains(&name) {
                return Err(other(format!("`{name}` is missing")));
            }
            continue;
        }
        let map = object.maps.get(name);
        let map = map.ok_or_else(|| MeterError::Load(format!("the object has no map `{name}`")))?;
        let wanted = Shape {
            kind: map.map_type(),
            key_bytes: map.key_size(),
            value_bytes: map.value_size(),
            elements: map.max_entries(),
            flags: map.map_flags(),
        };
        let found = shape(home, name)?;
        if found != wanted {
            return Err(other(difference(name, found, wanted)));
        }
    }
    Ok(())
}

fn shape(home: &Home, name: &'static str) -> Result<Shape, MeterError> {
    let failed = MeterError::map(name);
    let info = match MapInfo::from_pin(home.pin(name)) {
        Ok(info) => info,
        Err(error) => return Err(failed(error)),
    };
    Ok(Shape {
        kind: info.map_type().map_err(failed)? as u32,
        key_bytes: info.key_size(),
        value_bytes: info.value_size(),
        elements: info.max_entries(),
        flags: info.map_flags(),
    })
}

fn difference(name: &str, found: Shape, wanted: Shape) -> String {
    let parts = [
        ("kind", found.kind, wanted.kind),
        ("bytes of a key", found.key_bytes, wanted.key_bytes),
        ("bytes of a value", found.value_bytes, wanted.value_bytes),
        ("elements", found.elements, wanted.elements),
        ("flags", found.flags, wanted.flags),
    ];
    let differing = parts.iter().filter(|(_, found, wanted)| found != wanted);
    let listed: Vec<String> = differing
        .map(|(what, found, wanted)| format!("{what} {found} instead of {wanted}"))
        .collect();
    format!("`{name}` has {}", listed.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_the_map_and_both_sides() {
        let wanted = Shape { kind: 1, key_bytes: 8, value_bytes: 104, elements: 16_384, flags: 0 };
        let found = Shape { value_bytes: 96, flags: 1, ..wanted };
        assert_eq!(
            difference("meters", found, wanted),
            "`meters` has bytes of a value 96 instead of 104, flags 1 instead of 0"
        );
    }

    #[test]
    fn every_map_that_is_pinned_is_defined_in_the_object() {
        let object = aya::include_bytes_aligned!(env!("BITMESH_EBPF_OBJECT"));
        let object = Object::parse(object).expect("an eBPF object");
        for name in MAPS {
            assert!(object.maps.contains_key(name), "{name}");
        }
    }
}
