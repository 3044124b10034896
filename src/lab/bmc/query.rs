//! Query parameters (DSP0266 7.3): $skip, $top, $expand, $select, only, and the pages that collections come in.

use serde_json::{Map, Value, json};

use super::{
    Fault, Faults,
    documents::Documents,
    paths::ROOT,
    reply::{Reply, refuse},
};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    skip: usize,
    top: Option<usize>,
    expand: bool,
    select: Option<Vec<String>>,
    only: bool,
}

/// `$top=2&$skip=4`; names that begin with `$` and are not known are refused, others ignored.
pub fn parse(text: &str, faults: &Faults) -> Result<Query, Reply> {
    let mut query = Query::default();
    for part in text.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let (name, value) = (decoded(name), decoded(value));
        let fault = |status, id: &str| {
            let text = format!("The value '{value}' for the query parameter {name} is not possible.");
            refuse(status, id, &text, &[&value, &name])
        };
        let number = || value.parse::<usize>().map_err(|_| fault(400, "QueryParameterValueFormatError"));
        match name.as_str() {
            "$skip" => query.skip = number()?,
            "$top" => query.top = Some(number()?),
            "$expand" if faults.has(Fault::ExpandRefused) => return Err(fault(501, "QueryParameterUnsupported")),
            "$expand" => {
                // `.`, `*`, `~`, with or without `($levels=1)`.
                let plain = value.split('(').next().unwrap_or_default();
                if ![".", "*", "~"].contains(&plain) {
                    return Err(fault(400, "QueryParameterValueFormatError"));
                }
                query.expand = true;
            }
            "$select" => query.select = Some(value.split(',').map(|w| w.trim().to_owned()).collect()),
            "only" if value.is_empty() => query.only = true,
            "only" => return Err(fault(400, "QueryParameterValueFormatError")),
            other if other.starts_with('$') => return Err(fault(501, "QueryParameterUnsupported")),
            _ => {}
        }
    }
    Ok(query)
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = (first == b'%').then(|| after.get(..2)).flatten();
        let byte = hex.and_then(|h| std::str::from_utf8(h).ok()).and_then(|h| u8::from_str_radix(h, 16).ok());
        match byte {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(if first == b'+' { b' ' } else { first });
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Query {
    /// The one member of a collection that has but one, if that was asked for.
    pub fn only(&self, body: &Value) -> Result<Option<String>, Reply> {
        if !self.only {
            return Ok(None);
        }
        match body.get("Members").and_then(Value::as_array).map(Vec::as_slice) {
            Some([one]) => Ok(one["@odata.id"].as_str().map(str::to_owned)),
            Some(_) => Ok(None),
            None => Err(refuse(400, "QueryNotSupportedOnResource", "The query is for collections alone.", &[])),
        }
    }

    /// Cuts a collection to the page that is asked for, or to the size of this BMC's pages.
    pub fn page(&self, path: &str, body: &mut Value, faults: &Faults) -> Result<(), Reply> {
        let Some(members) = body.get_mut("Members").and_then(Value::as_array_mut) else {
            if self.top.is_some() || self.skip > 0 {
                return Err(refuse(400, "QueryNotSupportedOnResource", "The query is for collections alone.", &[]));
            }
            return Ok(());
        };
        let all = members.len();
        let size = faults.count(Fault::PageSize).map(|n| (n as usize).max(1));
        let most = [self.top, size].into_iter().flatten().min();
        let page: Vec<Value> = members.iter().skip(self.skip).take(most.unwrap_or(usize::MAX)).cloned().collect();
        let next = self.skip + page.len();
        *members = page;
        // Where less was asked for than there is, the page is what was asked for.
        let asked = self.top.is_some_and(|top| size.is_none_or(|size| top <= size));
        if next < all && !asked {
            body["Members@odata.nextLink"] = json!(format!("{path}?$skip={next}"));
        }
        Ok(())
    }

    /// Puts the documents in the place of links to members and subordinates, one level deep.
    pub fn expand(&self, docs: &Documents, path: &str, body: &mut Value, show: &dyn Fn(&str) -> Option<Value>) {
        if !self.expand {
            return;
        }
        let one = |link: &mut Value| {
            let lone = link.as_object().filter(|o| o.len() == 1).and_then(|o| o.get("@odata.id"));
            let target = lone.and_then(Value::as_str).map(|t| t.trim_end_matches('/').to_owned());
            // Subordinates alone: what stands elsewhere stays a link.
            let below = |t: &String| path == ROOT || t.starts_with(path);
            if let Some(target) = target.filter(|t| below(t) && t != path && docs.get(t).is_some())
                && let Some(shown) = show(&target)
            {
                *link = shown;
            }
        };
        let Some(map) = body.as_object_mut() else { return };
        for (name, value) in map.iter_mut().filter(|(name, _)| !["Links", "Actions", "Oem"].contains(&name.as_str())) {
            match value {
                Value::Array(items) if name == "Members" => items.iter_mut().for_each(one),
                value @ Value::Object(_) => one(value),
                _ => {}
            }
        }
    }

    /// The properties that were asked for, and those that are always there.
    pub fn select(&self, body: &mut Value) {
        let (Some(wanted), Some(map)) = (&self.select, body.as_object_mut()) else { return };
        let mut kept = Map::new();
        for (name, value) in std::mem::take(map) {
            let always = name.starts_with("@odata.");
            if always || wanted.iter().any(|w| *w == name || w.split('/').next() == Some(&name)) {
                kept.insert(name, value);
            }
        }
        *map = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_have_a_next_one_until_the_last() {
        let faults = Faults::parse(["page-size=2"]).unwrap();
        let whole = json!({"Members": [1, 2, 3, 4, 5], "Members@odata.count": 5});
        let mut first = whole.clone();
        parse("", &faults).unwrap().page("/l", &mut first, &faults).unwrap();
        assert_eq!(
            (first["Members"].clone(), first["Members@odata.nextLink"].clone()),
            (json!([1, 2]), json!("/l?$skip=2"))
        );
        let mut last = whole.clone();
        parse("%24skip=4", &faults).unwrap().page("/l", &mut last, &faults).unwrap();
        assert_eq!((last["Members"].clone(), last.get("Members@odata.nextLink")), (json!([5]), None));
        let mut asked = whole.clone();
        parse("$top=1&$skip=1&x=y", &Faults::default()).unwrap().page("/l", &mut asked, &Faults::default()).unwrap();
        assert_eq!((asked["Members"].clone(), asked.get("Members@odata.nextLink")), (json!([2]), None));
        assert_eq!(parse("$top=x", &faults).unwrap_err().status, 400);
        assert_eq!(parse("$wish=x", &faults).unwrap_err().status, 501);
    }
}
