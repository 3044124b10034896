//! The BMC itself: its network, its certificate.

use serde_json::json;

use super::{FIRMWARE, ok};
use crate::lab::bmc::{
    Description,
    documents::{Documents, link},
    paths::{CERTIFICATES, CHASSIS, MANAGER, SYSTEM},
};

pub fn put(docs: &mut Documents, about: &Description) {
    let console = |sessions: u32, kinds: &[&str]| json!({ "ServiceEnabled": true, "MaxConcurrentSessions": sessions, "ConnectTypesSupported": kinds });
    let body = json!({
        "ManagerType": "BMC", "Manufacturer": "rackctl", "Model": "Laboratory BMC", "FirmwareVersion": FIRMWARE,
        "UUID": about.uuid, "ServiceEntryPointUUID": about.uuid, "DateTime": "", "DateTimeLocalOffset": "+00:00",
        "PowerState": "On", "Status": ok(),
        "SerialConsole": console(1, &["Oem"]),
        "NetworkProtocol": link(format!("{MANAGER}/NetworkProtocol")),
        "EthernetInterfaces": link(format!("{MANAGER}/EthernetInterfaces")),
        "LogServices": link(format!("{MANAGER}/LogServices")),
        "Links": {
            "ManagerForServers": [link(SYSTEM)], "ManagerForServers@odata.count": 1,
            "ManagerForChassis": [link(CHASSIS)], "ManagerForChassis@odata.count": 1,
        },
        "Actions": { "#Manager.Reset": {
            "target": format!("{MANAGER}/Actions/Manager.Reset"),
            "ResetType@Redfish.AllowableValues": ["GracefulRestart", "ForceRestart"],
        } },
    });
    docs.resource(MANAGER, "Manager.v1_19_1", "Laboratory BMC", body).writable = &["DateTimeLocalOffset"];
    docs.collection(format!("{MANAGER}/LogServices"), "LogService", "Log services");
    let body = json!({
        "HostName": "bmc", "FQDN": "bmc.lab.internal", "Status": ok(),
        "HTTP": { "ProtocolEnabled": false, "Port": 80 },
        "HTTPS": { "ProtocolEnabled": true, "Port": 443, "Certificates": link(CERTIFICATES) },
        "SSH": { "ProtocolEnabled": false, "Port": 22 },
        "IPMI": { "ProtocolEnabled": true, "Port": 623 },
        "SSDP": { "ProtocolEnabled": false, "Port": 1900 },
        "NTP": { "ProtocolEnabled": false, "Port": 123, "NTPServers": [] },
    });
    docs.resource(format!("{MANAGER}/NetworkProtocol"), "ManagerNetworkProtocol.v1_10_1", "Network protocols", body)
        .writable = &["HostName", "IPMI.ProtocolEnabled", "NTP.ProtocolEnabled", "NTP.NTPServers"];
    docs.collection(CERTIFICATES, "Certificate", "Certificates");
    let body = json!({
        "CertificateType": "PEM", "CertificateString": null,
        "Issuer": { "CommonName": "bmc" }, "Subject": { "CommonName": "bmc" }, "KeyUsage": ["ServerAuthentication"],
    });
    docs.resource(format!("{CERTIFICATES}/1"), "Certificate.v1_9_0", "Certificate of the BMC", body);
    docs.collection(format!("{MANAGER}/EthernetInterfaces"), "EthernetInterface", "Network interfaces of the BMC");
    let body = json!({
        "MACAddress": "52:54:00:b0:00:01", "PermanentMACAddress": "52:54:00:b0:00:01", "LinkStatus": "LinkUp",
        "InterfaceEnabled": true, "SpeedMbps": 1000, "FullDuplex": true, "Status": ok(),
        "DHCPv4": { "DHCPEnabled": false }, "NameServers": [],
    });
    docs.resource(format!("{MANAGER}/EthernetInterfaces/1"), "EthernetInterface.v1_12_1", "Dedicated port", body);
}
