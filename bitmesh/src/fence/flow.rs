//! Flow tables: nftables forwards what is in one past its own chains.

use super::FenceError;
use super::nft;

/// One flow table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FlowTable {
    /// Its name.
    pub(crate) name: String,
    /// The interfaces between which it forwards.
    pub(crate) devices: Vec<String>,
    /// Whether a card may do it, which no program sees.
    pub(crate) in_hardware: bool,
}

/// All flow tables of this network namespace; none on a kernel without them.
///
/// # Errors
///
/// Fails without `nft` or the right to ask it.
pub(crate) fn flow_tables() -> Result<Vec<FlowTable>, FenceError> {
    Ok(nft::list(&["flowtables"])?.map(|listed| parse(&listed)).unwrap_or_default())
}

fn parse(listed: &str) -> Vec<FlowTable> {
    let mut found: Vec<FlowTable> = Vec::new();
    for line in listed.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("flowtable ") {
            let name = name.trim_end_matches(['{', ' ']).to_owned();
            found.push(FlowTable { name, devices: Vec::new(), in_hardware: false });
        }
        let Some(table) = found.last_mut() else { continue };
        if let Some(devices) = line.strip_prefix("devices = {") {
            let names = devices.trim_end_matches([';', ' ', '}']).split(',');
            table.devices = names.map(|name| name.trim().trim_matches('"').to_owned()).collect();
        }
        if let Some(flags) = line.strip_prefix("flags ") {
            table.in_hardware |= flags.split([',', ' ', ';']).any(|flag| flag == "offload");
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nft_lists_is_read() {
        let listed = "table inet fw4 {\n\tflowtable ft {\n\t\thook ingress priority filter\n\
                      \t\tdevices = { \"br-lan\", wan0 }\n\t\tflags offload\n\t\tcounter\n\t}\n}\n\
                      table ip x {\n\tflowtable soft {\n\t\thook ingress priority 0\n\
                      \t\tdevices = { eth0 };\n\t}\n}\n";
        let devices = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(
            parse(listed),
            [
                FlowTable {
                    name: "ft".into(),
                    devices: devices(&["br-lan", "wan0"]),
                    in_hardware: true
                },
                FlowTable { name: "soft".into(), devices: devices(&["eth0"]), in_hardware: false },
            ]
        );
        assert_eq!(parse(""), []);
    }
}
