//! Virtual media: slots, and the ladder of requests that inserts an image. Pure.

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    boot::Write,
    link,
    read::text,
    redfish::{
        json::clean,
        wire::{Action, media::VirtualMedia},
    },
};

/// A slot that an image can be put into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Slot {
    pub id: String,
    pub path: String,
    /// `CD`, `DVD`, `Floppy`, `USBStick`.
    pub kinds: Vec<String>,
    pub inserted: bool,
    pub image: Option<String>,
    pub write_protected: Option<bool>,
    /// The slot takes images; one that can only be emptied does not.
    pub takes: bool,
    #[serde(skip)]
    pub insert: Option<String>,
    #[serde(skip)]
    pub eject: Option<String>,
}

/// `None`: a slot of the BMC's own (Lenovo's RDOC and Remote; ansible _redfish_utils.py:3032).
pub fn slot(path: &str, media: &VirtualMedia) -> Option<Slot> {
    let id = text(&media.id).unwrap_or_else(|| clean(link::last_segment(path)));
    if id.starts_with("RDOC") || id.starts_with("Remote") {
        return None;
    }
    let actions = media.actions.clone().unwrap_or_default();
    let (insert, eject) =
        (Action::target(&actions.insert).map(str::to_owned), Action::target(&actions.eject).map(str::to_owned));
    let image = text(&media.image);
    // Some forget to say it; some keep the name of what is gone (Supermicro; ansible :3038), so that does not count.
    let inserted = media.inserted.unwrap_or(image.is_some());
    Some(Slot {
        id,
        path: path.to_owned(),
        kinds: media.kinds.iter().flatten().map(|k| clean(k)).collect(),
        inserted,
        image: image.filter(|_| inserted),
        write_protected: media.write_protected,
        // Without any action it is a PATCH (Lenovo's EXTn); with an eject alone it takes nothing (GB300).
        takes: insert.is_some() || eject.is_none(),
        insert,
        eject,
    })
}

/// The slots that an image may go to, best first: the named one, or those that are for a disc and empty.
///
/// # Errors
/// Says which slots there are.
pub fn choose<'a>(slots: &'a [Slot], wanted: Option<&str>) -> Result<Vec<&'a Slot>, String> {
    let names = || slots.iter().map(|s| s.id.clone()).collect::<Vec<_>>().join(", ");
    if let Some(wanted) = wanted {
        let named: Vec<&Slot> = slots.iter().filter(|s| s.id.eq_ignore_ascii_case(wanted)).collect();
        return if named.is_empty() {
            Err(format!("it has no slot `{wanted}`; it has {}", names()))
        } else {
            Ok(named)
        };
    }
    let disc = |s: &&Slot| s.kinds.is_empty() || s.kinds.iter().any(|k| k == "CD" || k == "DVD");
    let free: Vec<&Slot> = slots.iter().filter(|s| s.takes && !s.inserted).filter(disc).collect();
    if free.is_empty() { Err(format!("none of its slots is free and takes a disc ({})", names())) } else { Ok(free) }
}

/// What is sent to a slot, mildest first; the next only where the BMC refuses the one before.
///
/// Sources: sushy virtual_media.py:191-270 (TransferProtocolType, then TransferMethod, then user and password), :195
/// (X11 and iLO4 refuse Inserted and WriteProtected); Lenovo's EXTn know PATCH alone.
pub fn inserts(slot: &Slot, image: &str) -> Vec<Write> {
    let scheme = image.split("://").next().unwrap_or_default().to_uppercase();
    let full = json!({ "Image": image, "Inserted": true, "WriteProtected": true });
    let with = |more: &[(&str, &str)], bare: bool| {
        let mut body = if bare { json!({ "Image": image }) } else { full.clone() };
        more.iter().for_each(|(key, value)| body[*key] = json!(value));
        body
    };
    let protocol = ("TransferProtocolType", scheme.as_str());
    let method = ("TransferMethod", "Stream");
    let bodies: Vec<Value> = match &slot.insert {
        Some(_) => vec![
            with(&[], true),
            full.clone(),
            with(&[protocol], false),
            with(&[protocol, method], false),
            with(&[protocol, method, ("UserName", "none"), ("Password", "none")], false),
        ],
        None => vec![full.clone(), with(&[protocol], false)],
    };
    let (verb, path) = match &slot.insert {
        Some(target) => ("POST", target.clone()),
        None => ("PATCH", slot.path.clone()),
    };
    bodies.into_iter().map(|body| Write { method: verb, path: path.clone(), body, if_match: None }).collect()
}

pub fn ejects(slot: &Slot) -> Vec<Write> {
    let patch = |body: Value| Write { method: "PATCH", path: slot.path.clone(), body, if_match: None };
    match &slot.eject {
        Some(target) => vec![Write { method: "POST", path: target.clone(), body: json!({}), if_match: None }],
        None => vec![patch(json!({ "Image": null, "Inserted": false })), patch(json!({ "Image": null }))],
    }
}

/// What a slot shows of an image that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// That very address.
    This,
    /// A file of that name without a place, or nothing: it may be another place's.
    Perhaps,
    Not,
}

/// BMCs show the address as they got it, its path, or its file alone. Two whole addresses that differ are two images.
pub fn held(slot: &Slot, image: &str) -> Held {
    let (shown, image) = (slot.image.as_deref().unwrap_or_default(), clean(image));
    match (slot.inserted, whole(shown), whole(&image)) {
        (false, ..) => Held::Not,
        (true, Some(shown), Some(image)) if shown == image => Held::This,
        (true, Some(_), Some(_)) => Held::Not,
        _ if shown == image => Held::This,
        _ if shown.is_empty() || link::last_segment(shown) == link::last_segment(&image) => Held::Perhaps,
        _ => Held::Not,
    }
}

/// Scheme, host and path; user and password are not shown by those who take them.
fn whole(address: &str) -> Option<(String, String, &str)> {
    let (scheme, rest) = address.split_once("://")?;
    let (place, path) = rest.split_once('/')?;
    let host = place.rsplit_once('@').map_or(place, |(_, host)| host);
    Some((scheme.to_lowercase(), host.to_lowercase(), path))
}

/// Whether the slot, which was empty before, shows the image that was just put in, as far as it says.
pub fn holds(slot: &Slot, image: &str) -> bool {
    let shown = slot.image.as_deref().unwrap_or_default();
    slot.inserted && (shown.is_empty() || link::last_segment(shown) == link::last_segment(&clean(image)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bmc::redfish::wire::parse;

    fn of(id: &str, value: Value) -> Option<Slot> {
        slot(&format!("/m/{id}"), &parse(value))
    }

    #[test]
    fn slots_of_the_bmcs_own_are_skipped() {
        assert_eq!(of("RDOC1", json!({})), None);
        assert_eq!(of("Remote4", json!({"Id": "Remote4"})), None);
        let ext = of("EXT1", json!({"MediaTypes": ["CD"], "Inserted": false})).unwrap();
        assert!(ext.takes && ext.insert.is_none());
        let eject_only = json!({"Actions": {"#VirtualMedia.EjectMedia": {"target": "/e"}}});
        assert!(!of("Slot_0", eject_only).unwrap().takes);
        let gone = of("CD1", json!({"Inserted": false, "Image": "None", "ImageName": "old.iso"})).unwrap();
        assert_eq!((gone.inserted, gone.image), (false, None));
    }

    #[test]
    fn a_free_disc_slot_is_chosen_or_the_named_one() {
        let insert = json!({"#VirtualMedia.InsertMedia": {"target": "/i"}});
        let usb = of("1", json!({"MediaTypes": ["USBStick"], "Actions": insert})).unwrap();
        let full = of("2", json!({"MediaTypes": ["CD"], "Inserted": true, "Actions": insert})).unwrap();
        let free = of("3", json!({"MediaTypes": ["DVD"], "Actions": insert})).unwrap();
        let slots = [usb, full, free];
        let ids = |found: Result<Vec<&Slot>, String>| found.map(|f| f.iter().map(|s| s.id.clone()).collect::<Vec<_>>());
        assert_eq!(ids(choose(&slots, None)), Ok(vec!["3".to_owned()]));
        assert_eq!(ids(choose(&slots, Some("1"))), Ok(vec!["1".to_owned()]));
        assert!(choose(&slots, Some("CD")).is_err_and(|e| e.contains("1, 2, 3")));
        assert!(choose(&slots[..2], None).is_err());
    }

    #[test]
    fn the_ladder_is_bounded_and_grows() {
        let cd = of("CD", json!({"Actions": {"#VirtualMedia.InsertMedia": {"target": "/i"}}})).unwrap();
        let writes = inserts(&cd, "https://h/x.iso");
        assert_eq!(writes.len(), 5);
        assert_eq!(writes[0].body, json!({"Image": "https://h/x.iso"}));
        assert_eq!(writes[4].body["TransferProtocolType"], "HTTPS");
        assert_eq!(writes[4].body["Password"], "none");
        let ext = of("EXT1", json!({})).unwrap();
        assert!(inserts(&ext, "http://h/x.iso").iter().all(|w| w.method == "PATCH" && w.path == "/m/EXT1"));
        assert_eq!(ejects(&ext)[0].body, json!({"Image": null, "Inserted": false}));
    }

    #[test]
    fn the_same_file_of_another_place_is_another_image() {
        let shown =
            |image: Value| held(&of("CD", json!({"Inserted": true, "Image": image})).unwrap(), "http://b/i/x.iso");
        assert_eq!(shown(json!("http://b/i/x.iso")), Held::This);
        assert_eq!(shown(json!("HTTP://B/i/x.iso")), Held::This);
        for other in ["http://a/i/x.iso", "http://b/x.iso", "https://b/i/x.iso", "y.iso"] {
            assert_eq!(shown(json!(other)), Held::Not, "{other}");
        }
        for part in [json!("x.iso"), json!("/i/x.iso"), json!("b:/i/x.iso"), json!(null)] {
            assert_eq!(shown(part.clone()), Held::Perhaps, "{part}");
        }
        let signed = of("CD", json!({"Inserted": true, "Image": "http://b/x.iso"})).unwrap();
        assert_eq!(held(&signed, "http://me:word@b/x.iso"), Held::This);
    }

    #[test]
    fn an_image_is_known_by_address_or_file() {
        let shown = |image: Value| of("CD", json!({"Inserted": true, "Image": image})).unwrap();
        assert!(holds(&shown(json!("http://h/a/x.iso")), "http://h/a/x.iso"));
        assert!(holds(&shown(json!("x.iso")), "http://h/a/x.iso"));
        assert!(holds(&shown(json!(null)), "http://h/a/x.iso"));
        assert!(!holds(&shown(json!("http://h/a/y.iso")), "http://h/a/x.iso"));
        assert!(!holds(&of("CD", json!({"Inserted": false})).unwrap(), "http://h/x.iso"));
    }
}
