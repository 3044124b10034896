//! RAID volumes: made and removed by tasks.

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{
    paths::SYSTEM,
    reply::{self, Reply, errors, refuse},
    state::State,
    tasks::Effect,
};

pub const VOLUMES: &str = "/redfish/v1/Systems/1/Storage/1/Volumes";
/// RAID types, and how many drives each needs at least.
pub const TYPES: [(&str, usize); 6] =
    [("RAID0", 1), ("RAID1", 2), ("RAID5", 3), ("RAID6", 4), ("RAID10", 4), ("None", 1)];
const MAX_VOLUMES: usize = 16;

impl State {
    pub fn post_volume(&mut self, now: OffsetDateTime, sent: &Value) -> Reply {
        let known = ["Name", "DisplayName", "RAIDType", "CapacityBytes", "Links", "@Redfish.OperationApplyTime"];
        if let Some(name) = sent.as_object().and_then(|m| m.keys().find(|k| !known.contains(&k.as_str()))) {
            return errors(400, vec![reply::unknown_property(name)]);
        }
        let Some(word) = sent["RAIDType"].as_str() else {
            return errors(400, vec![reply::property_missing("RAIDType")]);
        };
        let Some((_, least)) = TYPES.iter().find(|(name, _)| *name == word) else {
            return errors(400, vec![reply::not_in_list("RAIDType", word)]);
        };
        let all = self.docs.below(&format!("{SYSTEM}/Storage/1/Drives"));
        let named: Option<Vec<String>> = sent["Links"]["Drives"]
            .as_array()
            .map(|list| list.iter().filter_map(|d| d["@odata.id"].as_str().map(super::paths::bare)).collect());
        let drives = named.unwrap_or_else(|| all.clone());
        if let Some(other) = drives.iter().find(|d| !all.contains(d)) {
            return errors(400, vec![reply::not_in_list("Drives", other)]);
        }
        if drives.len() < *least {
            let text = format!("{word} needs {least} drives and {} were given.", drives.len());
            return refuse(400, "ArraySizeTooShort", &text, &["Drives", &least.to_string()]);
        }
        let used = |drive: &String| {
            let link = json!({ "@odata.id": drive });
            let volumes = self.docs.below(VOLUMES);
            volumes
                .iter()
                .filter_map(|v| self.docs.body(v))
                .any(|v| v["Links"]["Drives"].as_array().is_some_and(|list| list.contains(&link)))
        };
        if let Some(drive) = drives.iter().find(|d| used(d)) {
            let text = format!("The drive {drive} is part of a volume.");
            return refuse(400, "ResourceInUse", &text, &[drive]);
        }
        if self.docs.below(VOLUMES).len() >= MAX_VOLUMES {
            return refuse(400, "CreateLimitReachedForResource", "There are as many volumes as can be.", &[]);
        }
        let sizes = drives.iter().filter_map(|d| self.docs.body(d)?["CapacityBytes"].as_u64());
        let (count, smallest) = (drives.len() as u64, sizes.min().unwrap_or(0));
        let whole = match word {
            "RAID1" => smallest,
            "RAID5" => smallest * (count - 1),
            "RAID6" => smallest * (count - 2),
            "RAID10" => smallest * (count / 2),
            _ => smallest * count,
        };
        let size = sent["CapacityBytes"].as_u64().unwrap_or(whole);
        if size > whole {
            let text = format!("{size} bytes do not fit into {whole}.");
            return errors(
                400,
                vec![reply::message("PropertyValueOutOfRange", &text, &[&size.to_string(), "CapacityBytes"])],
            );
        }
        let number = (1..).find(|n| self.docs.get(&format!("{VOLUMES}/{n}")).is_none()).unwrap_or(1u32);
        let links: Vec<Value> = drives.iter().map(|d| json!({ "@odata.id": d })).collect();
        let mut body = json!({
            "RAIDType": word, "CapacityBytes": size, "Status": { "State": "Enabled", "Health": "OK" },
            "Links": { "Drives": links, "Drives@odata.count": drives.len() },
        });
        if let Some(name) = sent["Name"].as_str().or(sent["DisplayName"].as_str()) {
            body["DisplayName"] = json!(name);
            body["Name"] = json!(name);
        }
        self.begin(now, "Create volume", Effect::Create(format!("{VOLUMES}/{number}"), body))
    }

    pub fn delete_volume(&mut self, now: OffsetDateTime, path: &str) -> Reply {
        self.begin(now, "Delete volume", Effect::Delete(path.to_owned()))
    }
}
