//! Network adapters and what their ports hear of the switch (DSP8010, NetworkAdapter and Port).

use super::Link;

resource! {
    Adapter {
        "@odata.id" odata_id: String,
        "Id" id: String,
        "Name" name: String,
        "Ports" ports: Link,
        "NetworkPorts" old_ports: Link,
    } lists {}
}
resource! {
    Port {
        "@odata.id" odata_id: String,
        "Id" id: String,
        "Name" name: String,
        "LinkStatus" link: String,
        "CurrentSpeedGbps" gbps: f64,
        "Ethernet" ethernet: PortEthernet,
    } lists { "AssociatedNetworkAddresses" addresses: String, }
}
resource! {
    PortEthernet { "LLDPReceive" lldp: Lldp, } lists { "AssociatedMACAddresses" macs: String, }
}
resource! {
    /// `ChassisIdSubtype` is `NotTransmitted` where nothing was heard.
    Lldp {
        "ChassisId" chassis: String,
        "ChassisIdSubtype" chassis_kind: String,
        "PortId" port: String,
        "PortIdSubtype" port_kind: String,
        "SystemName" system: String,
        "ManagementAddressIPv4" address: String,
        "ManagementVlanId" vlan: u32,
    } lists {}
}
