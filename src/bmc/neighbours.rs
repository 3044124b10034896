//! What the ports of a machine hear of the switches they are plugged into (LLDP, IEEE 802.1AB). Pure.

use serde::Serialize;

use super::{
    link,
    read::text,
    redfish::{
        json::clean,
        wire::port::{Lldp, Port},
    },
};
use crate::model::Mac;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Neighbour {
    /// Id of the port on the machine.
    pub port: String,
    pub mac: Option<Mac>,
    /// Name or id of the switch.
    pub switch: Option<String>,
    pub switch_port: Option<String>,
    pub vlan: Option<u32>,
}

/// `None`: nothing was heard on this port, or the BMC does not say.
pub fn neighbour(path: &str, port: &Port) -> Option<Neighbour> {
    let ethernet = port.ethernet.clone().unwrap_or_default();
    let heard: Lldp = ethernet.lldp?;
    let silent = |kind: &Option<String>| kind.as_deref() == Some("NotTransmitted");
    let chassis = text(&heard.chassis).filter(|_| !silent(&heard.chassis_kind));
    let switch_port = text(&heard.port).filter(|_| !silent(&heard.port_kind));
    let switch = text(&heard.system).or(chassis);
    if switch.is_none() && switch_port.is_none() {
        return None;
    }
    let macs = ethernet.macs.into_iter().chain(port.addresses.clone()).flatten();
    Some(Neighbour {
        port: text(&port.id).unwrap_or_else(|| clean(link::last_segment(path))),
        mac: macs.filter_map(|m| m.trim().parse::<Mac>().ok()).find(|m| m.0 != [0; 6]),
        switch,
        switch_port,
        // 4095 is "none" (IEEE 802.1Q), and what HPE shows.
        vlan: heard.vlan.filter(|v| (1..4095).contains(v)),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::bmc::redfish::wire::parse;

    #[test]
    fn what_was_heard_and_what_was_not() {
        let heard = parse(json!({"Id": "0", "Ethernet": {"AssociatedMACAddresses": ["52:54:00:00:00:01"],
            "LLDPReceive": {"ChassisId": "aa", "ChassisIdSubtype": "MacAddr", "PortId": "Eth1/7", "SystemName": "leaf-1", "ManagementVlanId": 4095}}}));
        let read = neighbour("/p/0", &heard).unwrap();
        assert_eq!(
            (read.switch.as_deref(), read.switch_port.as_deref(), read.vlan),
            (Some("leaf-1"), Some("Eth1/7"), None)
        );
        assert_eq!(read.mac.map(|m| m.to_string()).as_deref(), Some("52:54:00:00:00:01"));
        let silent = json!({"Ethernet": {"LLDPReceive": {"ChassisId": "", "ChassisIdSubtype": "NotTransmitted", "PortId": "", "PortIdSubtype": "NotTransmitted"}}});
        assert_eq!(neighbour("/p/0", &parse(silent)), None);
        assert_eq!(neighbour("/p/0", &parse(json!({}))), None);
    }
}
