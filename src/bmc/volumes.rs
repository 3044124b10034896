//! Volumes of storage controllers: what there is, and what making one needs. Pure.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    link, read,
    read::text,
    redfish::{
        json::clean,
        wire::{Drive, volume::Volume as Wire},
    },
};

/// A controller that holds volumes, or could.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Controller {
    pub id: String,
    pub name: Option<String>,
    /// Its collection of volumes; `None`: it has none, and makes none.
    pub collection: Option<String>,
    pub volumes: Vec<Volume>,
    pub drives: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    pub id: String,
    pub name: String,
    pub path: String,
    /// `RAID1`; `None`: a bare disk, or the BMC does not say.
    pub raid: Option<String>,
    pub size_bytes: Option<u64>,
    pub health: Option<String>,
    /// Ids of its drives.
    pub drives: Vec<String>,
}

/// A drive of a controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Part {
    pub id: String,
    pub path: String,
    pub serial: Option<String>,
    pub wwn: Option<String>,
    pub model: Option<String>,
    pub size_bytes: Option<u64>,
    pub media: Option<String>,
}

/// What a new volume is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Wish {
    /// `RAID0`, `RAID1`, `RAID5`, `RAID6`, `RAID10`.
    pub raid: String,
    /// Ids or serials of drives.
    pub drives: Vec<String>,
    pub name: Option<String>,
}

pub fn volume(path: &str, volume: &Wire) -> Volume {
    let id = text(&volume.id).unwrap_or_else(|| clean(link::last_segment(path)));
    let links = read::paths(&volume.links.clone().unwrap_or_default().drives);
    let old = match volume.kind.as_deref() {
        Some("Mirrored") => Some("RAID1".to_owned()),
        Some("NonRedundant") => Some("RAID0".to_owned()),
        Some("StripedWithParity") => Some("RAID5".to_owned()),
        Some("SpannedMirrors") => Some("RAID10".to_owned()),
        Some("SpannedStripesWithParity") => Some("RAID50".to_owned()),
        _ => None,
    };
    Volume {
        name: text(&volume.display_name).or(text(&volume.name)).unwrap_or_else(|| id.clone()),
        id,
        path: path.to_owned(),
        raid: text(&volume.raid).or(old),
        size_bytes: volume.capacity.filter(|b| *b > 0),
        health: volume.status.as_ref().and_then(|s| text(&s.health)),
        drives: links.iter().map(|p| clean(link::last_segment(p))).collect(),
    }
}

/// `None`: an empty bay.
pub fn part(path: &str, drive: &Drive) -> Option<Part> {
    let facts = read::drive(drive, path)?;
    Some(Part {
        id: text(&drive.id).unwrap_or_else(|| clean(link::last_segment(path))),
        path: path.to_owned(),
        serial: facts.serial,
        wwn: facts.wwn,
        model: facts.model,
        size_bytes: facts.size_bytes,
        media: text(&drive.media),
    })
}

/// Drives that a level needs at least.
fn least(raid: &str) -> Option<usize> {
    Some(match raid {
        "RAID0" => 1,
        "RAID1" => 2,
        "RAID5" => 3,
        "RAID6" | "RAID10" => 4,
        _ => return None,
    })
}

/// Path and body of the POST that makes a volume; all drives must be of one controller, and free.
///
/// # Errors
/// Says what there is instead.
pub fn create(controllers: &[Controller], wish: &Wish) -> Result<(String, Value), String> {
    let needed =
        least(&wish.raid).ok_or_else(|| format!("`{}` is none of RAID0, RAID1, RAID5, RAID6, RAID10", wish.raid))?;
    if wish.drives.len() < needed {
        return Err(format!("{} needs {needed} drives or more, {} are named", wish.raid, wish.drives.len()));
    }
    let is = |part: &Part, word: &str| part.id == word || part.serial.as_deref() == Some(word);
    let Some(first) = wish.drives.first() else { return Err("no drive is named".to_owned()) };
    let Some(controller) = controllers.iter().find(|c| c.drives.iter().any(|d| is(d, first))) else {
        let known: Vec<&str> = controllers.iter().flat_map(|c| &c.drives).map(|d| d.id.as_str()).collect();
        return Err(format!("it has no drive `{}`; it has {}", clean(first), known.join(", ")));
    };
    let Some(collection) = &controller.collection else {
        return Err(format!("controller {} makes no volumes", controller.id));
    };
    let mut drives = Vec::new();
    for word in &wish.drives {
        let Some(part) = controller.drives.iter().find(|d| is(d, word)) else {
            return Err(format!(
                "drive `{}` is not of controller {}, as `{}` is",
                clean(word),
                controller.id,
                clean(first)
            ));
        };
        // A bare disk that is shown as a volume of its own is free (Dell's RawDevice).
        if let Some(volume) = controller.volumes.iter().find(|v| v.raid.is_some() && v.drives.contains(&part.id)) {
            return Err(format!("drive `{}` is in use by volume {}", part.id, volume.id));
        }
        let link = json!({ "@odata.id": part.path });
        if drives.contains(&link) {
            return Err(format!("drive `{}` is named twice", part.id));
        }
        drives.push(link);
    }
    let mut body = json!({ "RAIDType": wish.raid, "Links": { "Drives": drives } });
    if let Some(name) = &wish.name {
        body["Name"] = json!(name);
    }
    Ok((collection.clone(), body))
}

/// The volume of this id or name.
///
/// # Errors
/// Says which there are.
pub fn find<'a>(controllers: &'a [Controller], wanted: &str) -> Result<&'a Volume, String> {
    let all: Vec<&Volume> = controllers.iter().flat_map(|c| &c.volumes).collect();
    let matching: Vec<&&Volume> = all.iter().filter(|v| v.id == wanted || v.name == wanted).collect();
    match matching.as_slice() {
        [one] => Ok(one),
        [] => {
            let ids: Vec<&str> = all.iter().map(|v| v.id.as_str()).collect();
            Err(format!("it has no volume `{}`; it has: {}", clean(wanted), ids.join(", ")))
        }
        _ => Err(format!("several volumes are called `{}`: name the id", clean(wanted))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bmc::redfish::wire::parse;

    fn controllers() -> Vec<Controller> {
        let drive = |id: &str| {
            part(&format!("/d/{id}"), &parse(json!({"Id": id, "SerialNumber": format!("S-{id}"), "CapacityBytes": 9})))
                .unwrap()
        };
        let used = parse(json!({"Id": "v1", "RAIDType": "RAID1", "Links": {"Drives": [{"@odata.id": "/d/c"}]}}));
        let raw = parse(json!({"Id": "r", "VolumeType": "RawDevice", "Links": {"Drives": [{"@odata.id": "/d/a"}]}}));
        vec![
            Controller {
                id: "1".into(),
                name: None,
                collection: Some("/s/1/Volumes".into()),
                volumes: vec![volume("/v/v1", &used), volume("/v/r", &raw)],
                drives: vec![drive("a"), drive("b"), drive("c")],
            },
            Controller { id: "2".into(), name: None, collection: None, volumes: vec![], drives: vec![drive("n")] },
        ]
    }

    fn wish(raid: &str, drives: &[&str]) -> Wish {
        Wish { raid: raid.into(), drives: drives.iter().map(|d| (*d).to_owned()).collect(), name: Some("os".into()) }
    }

    #[test]
    fn a_volume_is_made_of_free_drives_of_one_controller() {
        let all = controllers();
        let (path, body) = create(&all, &wish("RAID1", &["a", "S-b"])).unwrap();
        assert_eq!(path, "/s/1/Volumes");
        assert_eq!(
            body,
            json!({"RAIDType": "RAID1", "Links": {"Drives": [{"@odata.id": "/d/a"}, {"@odata.id": "/d/b"}]}, "Name": "os"})
        );
        for (raid, drives, why) in [
            ("RAID1", vec!["a"], "needs 2"),
            ("RAID7", vec!["a"], "none of"),
            ("RAID1", vec!["a", "c"], "in use by volume v1"),
            ("RAID1", vec!["a", "n"], "not of controller 1"),
            ("RAID1", vec!["x", "a"], "no drive `x`; it has a, b, c, n"),
            ("RAID0", vec!["n"], "makes no volumes"),
            ("RAID1", vec!["a", "S-a"], "named twice"),
        ] {
            let said = create(&all, &wish(raid, &drives)).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn volumes_are_found_by_id_or_name() {
        let all = controllers();
        assert_eq!(find(&all, "v1").map(|v| v.raid.as_deref()), Ok(Some("RAID1")));
        assert!(find(&all, "v9").is_err_and(|e| e.contains("v1, r")));
    }
}
