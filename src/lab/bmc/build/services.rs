//! Services: sessions, accounts, firmware, tasks, events, certificates.

use serde_json::json;

use super::{FIRMWARE, ok};
use crate::lab::bmc::{
    Description, Fault, Faults,
    accounts::ROLES,
    documents::{Documents, link},
    paths::{
        ACCOUNT_SERVICE, ACCOUNTS, EVENT_SERVICE, INVENTORY, MANAGER, ROOT, SESSION_SERVICE, SESSIONS, SSE,
        SUBSCRIPTIONS, SYSTEM, TASKS, UPDATE_SERVICE,
    },
    update::{PUSH, PUSH_MAX},
};

pub fn put(docs: &mut Documents, about: &Description) {
    let body = json!({ "ServiceEnabled": true, "SessionTimeout": 1800, "Sessions": link(SESSIONS), "Status": ok() });
    docs.resource(SESSION_SERVICE, "SessionService.v1_1_9", "Session Service", body);
    docs.collection(SESSIONS, "Session", "Sessions");
    accounts(docs);
    firmware(docs, about);
    let body = json!({
        "ServiceEnabled": true, "CompletedTaskOverWritePolicy": "Oldest", "LifeCycleEventOnTaskStateChange": false,
        "Status": ok(), "Tasks": link(TASKS),
    });
    docs.resource(format!("{ROOT}/TaskService"), "TaskService.v1_2_1", "Task Service", body);
    docs.collection(TASKS, "Task", "Tasks");
    let body = json!({
        "ServiceEnabled": true, "DeliveryRetryAttempts": 0, "DeliveryRetryIntervalSeconds": 0, "Status": ok(),
        "EventFormatTypes": ["Event"], "ServerSentEventUri": SSE, "Subscriptions": link(SUBSCRIPTIONS),
        "SSEFilterPropertiesSupported": {
            "EventFormatType": false, "MessageId": false, "OriginResource": false, "RegistryPrefix": false,
            "ResourceType": false,
        },
        "Actions": { "#EventService.SubmitTestEvent": {
            "target": format!("{EVENT_SERVICE}/Actions/EventService.SubmitTestEvent") } },
    });
    docs.resource(EVENT_SERVICE, "EventService.v1_10_3", "Event Service", body);
    docs.collection(SUBSCRIPTIONS, "EventDestination", "Subscriptions");
    let service = format!("{ROOT}/CertificateService");
    let action = |name: &str| json!({ "target": format!("{service}/Actions/CertificateService.{name}") });
    let body = json!({
        "CertificateLocations": link(format!("{service}/CertificateLocations")),
        "Actions": {
            "#CertificateService.ReplaceCertificate": action("ReplaceCertificate"),
            "#CertificateService.GenerateCSR": action("GenerateCSR"),
        },
    });
    docs.resource(service.clone(), "CertificateService.v1_1_0", "Certificate Service", body);
    let certificate = format!("{MANAGER}/NetworkProtocol/HTTPS/Certificates/1");
    let body = json!({ "Links": { "Certificates": [link(certificate)], "Certificates@odata.count": 1 } });
    docs.resource(
        format!("{service}/CertificateLocations"),
        "CertificateLocations.v1_0_4",
        "Certificates of the service",
        body,
    );
}

fn accounts(docs: &mut Documents) {
    let body = json!({
        "ServiceEnabled": true, "MinPasswordLength": 8, "MaxPasswordLength": 64, "AuthFailureLoggingThreshold": 1,
        "AccountLockoutThreshold": 0, "AccountLockoutDuration": 0, "AccountLockoutCounterResetAfter": 0,
        "Status": ok(), "Accounts": link(ACCOUNTS), "Roles": link(format!("{ACCOUNT_SERVICE}/Roles")),
    });
    docs.resource(ACCOUNT_SERVICE, "AccountService.v1_15_1", "Account Service", body).writable =
        &["AccountLockoutThreshold", "AccountLockoutDuration", "AccountLockoutCounterResetAfter"];
    docs.collection(ACCOUNTS, "ManagerAccount", "Accounts");
    docs.collection(format!("{ACCOUNT_SERVICE}/Roles"), "Role", "Roles");
    for role in ROLES {
        let privileges: &[&str] = match role {
            "Administrator" => &["Login", "ConfigureManager", "ConfigureUsers", "ConfigureSelf", "ConfigureComponents"],
            "Operator" => &["Login", "ConfigureSelf", "ConfigureComponents"],
            _ => &["Login", "ConfigureSelf"],
        };
        let body = json!({ "RoleId": role, "IsPredefined": true, "AssignedPrivileges": privileges });
        docs.resource(format!("{ACCOUNT_SERVICE}/Roles/{role}"), "Role.v1_3_3", role, body);
    }
}

fn firmware(docs: &mut Documents, about: &Description) {
    let body = json!({
        "ServiceEnabled": true, "Status": ok(), "MaxImageSizeBytes": PUSH_MAX,
        "FirmwareInventory": link(INVENTORY),
        "Actions": { "#UpdateService.SimpleUpdate": {
            "target": format!("{UPDATE_SERVICE}/Actions/UpdateService.SimpleUpdate"),
            "TransferProtocol@Redfish.AllowableValues": ["HTTP", "HTTPS", "TFTP"],
        } },
    });
    docs.resource(UPDATE_SERVICE, "UpdateService.v1_14_0", "Update Service", body);
    docs.collection(INVENTORY, "SoftwareInventory", "Firmware");
    for (id, name, version, about_what) in [
        ("BIOS", "BIOS", about.bios_version.as_str(), SYSTEM),
        ("BMC", "Laboratory BMC", FIRMWARE, MANAGER),
        ("NIC1", "Network card", "1.0.0", "/redfish/v1/Chassis/1/NetworkAdapters/1"),
        ("Controller1", "Storage controller", "1.0.0", "/redfish/v1/Systems/1/Storage/1"),
    ] {
        let body = json!({
            "Version": version, "Updateable": true, "SoftwareId": id, "Manufacturer": "rackctl", "Status": ok(),
            "RelatedItem": [link(about_what)], "RelatedItem@odata.count": 1,
        });
        docs.resource(format!("{INVENTORY}/{id}"), "SoftwareInventory.v1_10_2", name, body);
    }
}

/// What faults give its shape: also at run time.
pub fn shape(docs: &mut Documents, faults: &Faults) {
    let push = !faults.has(Fault::UpdateNoPush);
    docs.change(UPDATE_SERVICE, |body| {
        if let Some(map) = body.as_object_mut() {
            map.shift_remove("MultipartHttpPushUri");
            if push {
                map.insert("MultipartHttpPushUri".into(), json!(PUSH));
            }
        }
    });
}
