//! The service root and what stands beside it.

use serde_json::json;

use crate::lab::bmc::{
    Description,
    documents::{Documents, link},
    paths::{ROOT, SESSIONS},
};

pub fn put(docs: &mut Documents, about: &Description) {
    docs.put("/redfish", json!({ "v1": "/redfish/v1/" }));
    let services = [
        "Systems",
        "Managers",
        "Chassis",
        "SessionService",
        "AccountService",
        "UpdateService",
        "EventService",
        "CertificateService",
        "Registries",
        "JsonSchemas",
    ];
    let mut body = json!({
        "@odata.context": "/redfish/v1/$metadata#ServiceRoot.ServiceRoot",
        "@odata.id": format!("{ROOT}/"),
        "@odata.type": "#ServiceRoot.v1_17_0.ServiceRoot",
        "Id": "RootService",
        "Name": "Root Service",
        "RedfishVersion": "1.18.0",
        "UUID": about.uuid,
        "Vendor": "rackctl",
        "Product": "Laboratory BMC",
        "ProtocolFeaturesSupported": {
            "ExcerptQuery": false, "FilterQuery": false, "OnlyMemberQuery": true, "SelectQuery": true,
            "TopSkipQuery": true,
            "ExpandQuery": { "ExpandAll": true, "Levels": false, "Links": true, "NoLinks": true },
        },
        "Tasks": link(format!("{ROOT}/TaskService")),
        "Links": { "Sessions": link(SESSIONS) },
    });
    for service in services {
        body[service] = link(format!("{ROOT}/{service}"));
    }
    docs.put(ROOT, body);
    let urls = services.iter().map(|name| (*name, format!("{ROOT}/{name}")));
    let all =
        [("Service", format!("{ROOT}/")), ("Tasks", format!("{ROOT}/TaskService")), ("Sessions", SESSIONS.to_owned())];
    let value: Vec<_> = all
        .into_iter()
        .chain(urls)
        .map(|(name, url)| json!({ "name": name, "kind": "Singleton", "url": url }))
        .collect();
    docs.put(format!("{ROOT}/odata"), json!({ "@odata.context": "/redfish/v1/$metadata", "value": value }));
    docs.collection(format!("{ROOT}/Systems"), "ComputerSystem", "Systems");
    docs.collection(format!("{ROOT}/Managers"), "Manager", "Managers");
    docs.collection(format!("{ROOT}/Chassis"), "Chassis", "Chassis");
}
