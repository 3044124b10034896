//! What describes the service: $metadata (OData CSDL 4.0), registries, schema files.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::lab::bmc::{bios, documents::Documents, paths::ROOT};

const SCHEMAS: &str = "http://redfish.dmtf.org/schemas/v1";
/// Named in documents, without being a resource of their own.
const BESIDES: [&str; 3] = ["Message.v1_2_1", "Settings.v1_3_5", "Event.v1_11_0"];

/// Registries and schema files of all that stands in the documents by now.
pub fn put(docs: &mut Documents) {
    let kinds = kinds(docs);
    let registries = format!("{ROOT}/Registries");
    docs.collection(registries.clone(), "MessageRegistryFile", "Registries");
    for (id, name, uri) in [
        ("Base", "Base.1.18", "https://redfish.dmtf.org/registries/Base.1.18.1.json"),
        ("Update", "Update.1.1", "https://redfish.dmtf.org/registries/Update.1.1.0.json"),
    ] {
        let body = json!({
            "Registry": name, "Languages": ["en"], "Languages@odata.count": 1,
            "Location": [{ "Language": "en", "PublicationUri": uri }], "Location@odata.count": 1,
        });
        docs.resource(format!("{registries}/{id}"), "MessageRegistryFile.v1_1_5", &format!("{id} registry"), body);
    }
    let own = format!("{registries}/BiosAttributeRegistryLab");
    let file = format!("{own}/BiosAttributeRegistryLab.v1_0_0.json");
    let body = json!({
        "Registry": "BiosAttributeRegistryLab.v1_0_0", "Languages": ["en"], "Languages@odata.count": 1,
        "Location": [{ "Language": "en", "Uri": file }], "Location@odata.count": 1,
    });
    docs.resource(own, "MessageRegistryFile.v1_1_5", "BIOS attributes", body);
    docs.put(file, attributes());
    let files = format!("{ROOT}/JsonSchemas");
    docs.collection(files.clone(), "JsonSchemaFile", "Schema files");
    for kind in kinds {
        let bare = kind.split('.').next().unwrap_or(&kind).to_owned();
        let schema = if kind.contains('.') { format!("#{kind}.{bare}") } else { format!("#{bare}.{bare}") };
        let body = json!({
            "Schema": schema, "Languages": ["en"], "Languages@odata.count": 1,
            "Location": [{ "Language": "en", "PublicationUri": format!("{SCHEMAS}/{kind}.json") }],
            "Location@odata.count": 1,
        });
        docs.resource(format!("{files}/{kind}"), "JsonSchemaFile.v1_1_5", &format!("{bare} schema"), body);
    }
}

/// `Thermal.v1_7_3`, `SessionCollection`, …
fn kinds(docs: &Documents) -> BTreeSet<String> {
    let types = docs.paths().filter_map(|path| docs.body(path)?["@odata.type"].as_str());
    let named = types.filter_map(|t| Some(t.strip_prefix('#')?.rsplit_once('.')?.0.to_owned()));
    named.chain(BESIDES.map(str::to_owned)).collect()
}

fn attributes() -> Value {
    let entries: Vec<Value> = bios::ATTRIBUTES
        .iter()
        .map(|(name, default, words)| {
            let mut entry = json!({
                "AttributeName": name, "DisplayName": name, "DefaultValue": default, "ReadOnly": false,
                "ResetRequired": true, "Type": if words.is_empty() { "String" } else { "Enumeration" },
            });
            if words.is_empty() {
                (entry["MinLength"], entry["MaxLength"]) = (json!(0), json!(255));
            } else {
                entry["Value"] = words.iter().map(|w| json!({ "ValueName": w, "ValueDisplayName": w })).collect();
            }
            entry
        })
        .collect();
    json!({
        "@odata.type": "#AttributeRegistry.v1_3_8.AttributeRegistry", "Id": "BiosAttributeRegistryLab.v1_0_0",
        "Name": "BIOS attributes of the laboratory", "Language": "en", "OwningEntity": "rackctl",
        "RegistryVersion": "1.0.0", "RegistryEntries": { "Attributes": entries },
    })
}

/// The service's metadata document: a reference for each schema that a document names.
pub fn metadata(docs: &Documents) -> String {
    let mut text = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<edmx:Edmx xmlns:edmx=\"http://docs.oasis-open.org/odata/ns/edmx\" Version=\"4.0\">\n",
    );
    let kinds = kinds(docs);
    let files: BTreeSet<&str> = kinds.iter().map(|kind| kind.split('.').next().unwrap_or(kind)).collect();
    for file in files {
        text.push_str(&format!("  <edmx:Reference Uri=\"{SCHEMAS}/{file}_v1.xml\">\n"));
        text.push_str(&format!("    <edmx:Include Namespace=\"{file}\"/>\n"));
        for kind in kinds.iter().filter(|kind| kind.split('.').next() == Some(file) && kind.contains('.')) {
            text.push_str(&format!("    <edmx:Include Namespace=\"{kind}\"/>\n"));
        }
        text.push_str("  </edmx:Reference>\n");
    }
    text.push_str(&format!(
        "  <edmx:Reference Uri=\"{SCHEMAS}/RedfishExtensions_v1.xml\">\n    \
         <edmx:Include Namespace=\"RedfishExtensions.v1_0_0\" Alias=\"Redfish\"/>\n  </edmx:Reference>\n"
    ));
    text.push_str(
        "  <edmx:DataServices>\n    <Schema xmlns=\"http://docs.oasis-open.org/odata/ns/edm\" Namespace=\"Service\">\n      \
         <EntityContainer Name=\"Service\" Extends=\"ServiceRoot.v1_17_0.ServiceContainer\"/>\n    </Schema>\n  \
         </edmx:DataServices>\n</edmx:Edmx>\n",
    );
    text
}
