//! The chassis: temperatures, fans and power in the older and in the newer way, cards and ports.

use serde_json::{Value, json};

use super::ok;
use crate::lab::bmc::{
    Description,
    documents::{Documents, link},
    paths::{CHASSIS, MANAGER, SYSTEM},
};

/// Name, kind of reading, unit, reading, upper caution, upper critical.
const SENSORS: [(&str, &str, &str, f64, f64, f64); 7] = [
    ("InletTemp", "Temperature", "Cel", 22.0, 42.0, 47.0),
    ("CPU1Temp", "Temperature", "Cel", 48.0, 90.0, 95.0),
    ("Fan1", "Rotational", "{rev}/min", 5400.0, 17_000.0, 18_000.0),
    ("Fan2", "Rotational", "{rev}/min", 5520.0, 17_000.0, 18_000.0),
    ("PSU1Input", "Voltage", "V", 230.0, 260.0, 270.0),
    ("PSU2Input", "Voltage", "V", 229.0, 260.0, 270.0),
    ("TotalPower", "Power", "W", 142.0, 700.0, 750.0),
];

pub fn put(docs: &mut Documents, about: &Description) {
    let part = |name: &str| link(format!("{CHASSIS}/{name}"));
    let body = json!({
        "ChassisType": "RackMount", "Manufacturer": about.manufacturer, "Model": about.model,
        "SerialNumber": about.serial, "AssetTag": "", "PowerState": "Off", "LocationIndicatorActive": false,
        "Status": ok(),
        "Thermal": part("Thermal"), "Power": part("Power"), "Sensors": part("Sensors"),
        "ThermalSubsystem": part("ThermalSubsystem"), "PowerSubsystem": part("PowerSubsystem"),
        "EnvironmentMetrics": part("EnvironmentMetrics"), "PCIeDevices": part("PCIeDevices"),
        "NetworkAdapters": part("NetworkAdapters"),
        "Links": {
            "ComputerSystems": [link(SYSTEM)], "ComputerSystems@odata.count": 1,
            "ManagedBy": [link(MANAGER)], "ManagedBy@odata.count": 1,
        },
    });
    docs.resource(CHASSIS, "Chassis.v1_25_0", "Chassis", body).writable = &["AssetTag", "LocationIndicatorActive"];
    classic(docs);
    newer(docs);
    cards(docs, about);
}

fn classic(docs: &mut Documents) {
    let thermal = format!("{CHASSIS}/Thermal");
    let of = |kind: &str| SENSORS.iter().filter(|s| s.1 == kind).enumerate().collect::<Vec<_>>();
    let member = |list: &str, at: usize| format!("{thermal}#/{list}/{at}");
    let temperatures: Vec<Value> = of("Temperature")
        .into_iter()
        .map(|(at, (name, _, _, value, caution, critical))| {
            json!({ "@odata.id": member("Temperatures", at), "MemberId": at.to_string(), "Name": name,
                    "ReadingCelsius": value, "UpperThresholdNonCritical": caution, "UpperThresholdCritical": critical,
                    "Status": ok() })
        })
        .collect();
    let fans: Vec<Value> = of("Rotational")
        .into_iter()
        .map(|(at, (name, _, _, value, ..))| {
            json!({ "@odata.id": member("Fans", at), "MemberId": at.to_string(), "Name": name,
                    "Reading": *value as u64, "ReadingUnits": "RPM", "LowerThresholdCritical": 500, "Status": ok() })
        })
        .collect();
    let body = json!({
        "Temperatures@odata.count": temperatures.len(), "Temperatures": temperatures,
        "Fans@odata.count": fans.len(), "Fans": fans, "Status": ok(),
    });
    docs.resource(thermal.clone(), "Thermal.v1_7_3", "Thermal", body);
    let power = format!("{CHASSIS}/Power");
    let supplies: Vec<Value> = of("Voltage")
        .into_iter()
        .map(|(at, (_, _, _, value, ..))| {
            json!({ "@odata.id": format!("{power}#/PowerSupplies/{at}"), "MemberId": at.to_string(),
                    "Name": format!("PSU {}", at + 1), "PowerSupplyType": "AC", "LineInputVoltage": value,
                    "PowerCapacityWatts": 800, "LastPowerOutputWatts": 71, "SerialNumber": format!("PSU-000{}", at + 1),
                    "Model": "Laboratory supply", "FirmwareVersion": "1.0.0", "Status": ok() })
        })
        .collect();
    let control = json!([{
        "@odata.id": format!("{power}#/PowerControl/0"), "MemberId": "0", "Name": "System power",
        "PowerConsumedWatts": 142, "PowerCapacityWatts": 1600,
        "PowerMetrics": { "IntervalInMin": 60, "MinConsumedWatts": 98, "AverageConsumedWatts": 140, "MaxConsumedWatts": 231 },
        "PowerLimit": { "LimitInWatts": null }, "Status": ok(),
    }]);
    let body = json!({
        "PowerControl@odata.count": 1, "PowerControl": control,
        "PowerSupplies@odata.count": supplies.len(), "PowerSupplies": supplies,
    });
    docs.resource(power, "Power.v1_7_3", "Power", body);
}

fn newer(docs: &mut Documents) {
    docs.collection(format!("{CHASSIS}/Sensors"), "Sensor", "Sensors");
    for (name, kind, unit, value, caution, critical) in SENSORS {
        let body = json!({
            "ReadingType": kind, "ReadingUnits": unit, "Reading": value, "Status": ok(),
            "Thresholds": { "UpperCaution": { "Reading": caution }, "UpperCritical": { "Reading": critical } },
        });
        docs.resource(format!("{CHASSIS}/Sensors/{name}"), "Sensor.v1_10_0", name, body);
    }
    let sensor = |name: &str| format!("{CHASSIS}/Sensors/{name}");
    let reading = |name: &str| {
        let value = SENSORS.iter().find(|s| s.0 == name).map_or(0.0, |s| s.3);
        json!({ "DataSourceUri": sensor(name), "Reading": value })
    };
    let thermal = format!("{CHASSIS}/ThermalSubsystem");
    let body = json!({
        "Status": ok(), "Fans": link(format!("{thermal}/Fans")), "ThermalMetrics": link(format!("{thermal}/ThermalMetrics")),
    });
    docs.resource(thermal.clone(), "ThermalSubsystem.v1_3_2", "Thermal subsystem", body);
    docs.collection(format!("{thermal}/Fans"), "Fan", "Fans");
    for name in ["Fan1", "Fan2"] {
        let mut speed = reading(name);
        speed["SpeedRPM"] = speed["Reading"].clone();
        // The reading is the part of its greatest speed.
        speed["Reading"] = json!(30);
        let body = json!({ "Status": ok(), "SpeedPercent": speed, "PhysicalContext": "SystemBoard" });
        docs.resource(format!("{thermal}/Fans/{name}"), "Fan.v1_5_2", name, body);
    }
    let body = json!({
        "TemperatureSummaryCelsius": { "Intake": reading("InletTemp") },
        "TemperatureReadingsCelsius": [
            { "DataSourceUri": sensor("InletTemp"), "DeviceName": "Inlet", "Reading": 22.0 },
            { "DataSourceUri": sensor("CPU1Temp"), "DeviceName": "CPU 1", "Reading": 48.0 },
        ],
        "TemperatureReadingsCelsius@odata.count": 2,
    });
    docs.resource(format!("{thermal}/ThermalMetrics"), "ThermalMetrics.v1_3_2", "Thermal metrics", body);
    let power = format!("{CHASSIS}/PowerSubsystem");
    let body =
        json!({ "Status": ok(), "CapacityWatts": 1600, "PowerSupplies": link(format!("{power}/PowerSupplies")) });
    docs.resource(power.clone(), "PowerSubsystem.v1_1_2", "Power subsystem", body);
    docs.collection(format!("{power}/PowerSupplies"), "PowerSupply", "Power supplies");
    for number in 1..=2 {
        let body = json!({
            "Status": ok(), "PowerSupplyType": "AC", "PowerCapacityWatts": 800, "Model": "Laboratory supply",
            "SerialNumber": format!("PSU-000{number}"), "FirmwareVersion": "1.0.0", "Manufacturer": "rackctl",
        });
        let name = format!("PSU {number}");
        docs.resource(format!("{power}/PowerSupplies/{number}"), "PowerSupply.v1_6_0", &name, body);
    }
    let body = json!({ "PowerWatts": reading("TotalPower"), "TemperatureCelsius": reading("InletTemp") });
    docs.resource(format!("{CHASSIS}/EnvironmentMetrics"), "EnvironmentMetrics.v1_3_2", "Environment", body);
}

/// One adapter a card; its ports hear their switch (LLDP).
fn cards(docs: &mut Documents, about: &Description) {
    let devices = format!("{CHASSIS}/PCIeDevices");
    docs.collection(devices.clone(), "PCIeDevice", "PCIe devices");
    let body = json!({
        "DeviceType": "SingleFunction", "Manufacturer": "Red Hat", "Model": "Virtio network device",
        "SerialNumber": "NIC-0001", "FirmwareVersion": "1.0.0", "PCIeInterface": { "PCIeType": "Gen4", "LanesInUse": 8 },
        "Status": ok(),
    });
    docs.resource(format!("{devices}/1"), "PCIeDevice.v1_14_0", "Network card", body);
    let adapter = format!("{CHASSIS}/NetworkAdapters/1");
    docs.collection(format!("{CHASSIS}/NetworkAdapters"), "NetworkAdapter", "Network adapters");
    let body = json!({
        "Manufacturer": "Red Hat", "Model": "Virtio network device", "SerialNumber": "NIC-0001", "Status": ok(),
        "Ports": link(format!("{adapter}/Ports")),
        "NetworkDeviceFunctions": link(format!("{adapter}/NetworkDeviceFunctions")),
    });
    docs.resource(adapter.clone(), "NetworkAdapter.v1_11_0", "Network adapter", body);
    docs.collection(format!("{adapter}/Ports"), "Port", "Ports");
    docs.collection(format!("{adapter}/NetworkDeviceFunctions"), "NetworkDeviceFunction", "Functions");
    for (number, mac) in (1..).zip(&about.macs) {
        let body = json!({
            "PortId": number.to_string(), "PortProtocol": "Ethernet", "LinkStatus": "LinkUp", "LinkState": "Enabled",
            "CurrentSpeedGbps": 10, "Status": ok(),
            "Ethernet": {
                "AssociatedMACAddresses": [mac.to_string()], "LLDPEnabled": true,
                "LLDPReceive": {
                    "ChassisId": "02:00:00:00:00:01", "ChassisIdSubtype": "MacAddr",
                    "PortId": format!("02:00:00:00:00:{:02X}", 0x10 + number), "PortIdSubtype": "MacAddr",
                    "SystemName": "leaf-1", "SystemDescription": "laboratory switch", "SystemCapabilities": ["Bridge"],
                },
            },
        });
        docs.resource(format!("{adapter}/Ports/{number}"), "Port.v1_12_0", &format!("Port {number}"), body);
        let body = json!({
            "NetDevFuncType": "Ethernet", "NetDevFuncCapabilities": ["Ethernet"], "Status": ok(),
            "Ethernet": { "MACAddress": mac.to_string(), "PermanentMACAddress": mac.to_string() },
            "Links": { "PhysicalNetworkPortAssignment": link(format!("{adapter}/Ports/{number}")) },
        });
        let path = format!("{adapter}/NetworkDeviceFunctions/{number}");
        docs.resource(path, "NetworkDeviceFunction.v1_9_1", &format!("Function {number}"), body);
    }
}
