//! What the readers of a BMC's corners stand on: its root and system, managers and chassis, and collections whose members
//! come written out or as links.

use std::collections::BTreeSet;

use futures_util::{StreamExt, stream};
use reqwest::Method;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    Client,
    send::{Answer, Request, Wire},
    walk::{self, Source},
};
use crate::{
    bmc::{
        link,
        read::{self, SystemView},
        redfish::{
            json::clean,
            wire::{Chassis, Link, Manager, ServiceRoot},
        },
    },
    model::{Failure, failure::Cause},
};

const MAX_MANAGERS: usize = 16;
const MAX_CHASSIS: usize = 16;
/// Pages of one collection: a Dell lifecycle log has 50 entries a page.
const MAX_PAGES: usize = 64;
/// Requests that a reader has under way; the client's own limit holds below it.
const SIDE_BY_SIDE: usize = 2;

/// Where a reader starts: a BMC or a recorded tree, with its root and the driven system.
pub struct Ground<'a, S> {
    pub source: &'a S,
    pub root: &'a ServiceRoot,
    pub view: &'a SystemView,
}

/// A member of a collection: its path, and itself where the collection writes it out.
pub(super) type Raw = (String, Option<Value>);

impl<S: Source> Ground<'_, S> {
    /// The managers of the system, else all.
    pub async fn managers(&self) -> Result<Vec<(String, Manager)>, Failure> {
        let own = read::paths(&self.view.system.links.clone().unwrap_or_default().managed_by);
        self.these_or_all(own, &self.root.managers, MAX_MANAGERS).await
    }

    /// The chassis of the system, else all.
    pub async fn chassis(&self) -> Result<Vec<(String, Chassis)>, Failure> {
        let own = read::paths(&self.view.system.links.clone().unwrap_or_default().chassis);
        self.these_or_all(own, &self.root.chassis, MAX_CHASSIS).await
    }

    /// The chassis that are not the system's: cards and shelves, whose sensors count where its own have none.
    pub async fn other_chassis(&self, own: &[(String, Chassis)]) -> Result<Vec<(String, Chassis)>, Failure> {
        let all: Vec<(String, Chassis)> = self.these_or_all(Vec::new(), &self.root.chassis, MAX_CHASSIS).await?;
        Ok(all.into_iter().filter(|(path, _)| !own.iter().any(|(known, _)| link::same(known, path))).collect())
    }

    async fn these_or_all<T: DeserializeOwned + Default + Send>(
        &self,
        own: Vec<String>,
        all: &Option<Link>,
        limit: usize,
    ) -> Result<Vec<(String, T)>, Failure> {
        let found: Vec<(String, T)> = walk::each(self.source, own.into_iter().take(limit).collect()).await?;
        match Link::path(all) {
            Some(path) if found.is_empty() => {
                let paths = walk::optional(walk::collection(self.source, path, limit)).await?.unwrap_or_default();
                walk::each(self.source, paths).await
            }
            _ => Ok(found),
        }
    }

    /// A resource that may not be there.
    pub async fn maybe<T: DeserializeOwned + Default>(&self, link: &Option<Link>) -> Result<Option<T>, Failure> {
        match Link::path(link) {
            Some(path) => Ok(walk::optional(walk::get::<S, T>(self.source, path)).await?.map(|(value, _)| value)),
            None => Ok(None),
        }
    }

    /// All members, in order; those that are not there are left out. `None`: there is no such collection.
    pub async fn members<T: DeserializeOwned + Default + Send>(
        &self,
        path: &str,
        limit: usize,
    ) -> Result<Option<Vec<(String, T)>>, Failure> {
        let Some((members, more)) = walk::optional(self.raw(path, limit)).await? else { return Ok(None) };
        if more {
            let what = format!("{}: read {}", self.source.node(), clean(path));
            return Err(Failure::new(Cause::Malformed, what, format!("the collection has more than {limit} members")));
        }
        Ok(Some(self.filled(members).await?))
    }

    /// Up to `limit` members as they come, and whether there are more. Asked for written out where the BMC knows that.
    async fn raw(&self, path: &str, limit: usize) -> Result<(Vec<Raw>, bool), Failure> {
        if self.expands() {
            let asked = format!("{}?$expand=.($levels=1)", path.trim_end_matches('/'));
            // Announced and refused all the same, by some: the plain collection is there in any case.
            if let Some(found) = walk::optional(self.pages(&asked, limit)).await? {
                return Ok(found);
            }
        }
        self.pages(path, limit).await
    }

    /// Whether the BMC says that it writes members out where that is asked for.
    pub(super) fn expands(&self) -> bool {
        let expand = self.root.features.as_ref().and_then(|f| f.expand.as_ref());
        expand.and_then(|e| e.no_links) == Some(true)
    }

    async fn pages(&self, path: &str, limit: usize) -> Result<(Vec<Raw>, bool), Failure> {
        let (mut members, mut known, mut pages) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        let mut next = Some(path.to_owned());
        while let Some(page) = next {
            if pages.len() >= MAX_PAGES || !pages.insert(page.clone()) {
                return Ok((members, true));
            }
            // A page that is promised and missing ends the collection; its first page does not.
            let body = match self.source.fetch(&page).await {
                Ok((body, _)) => body,
                Err(failure) if failure.cause == Cause::Refused && pages.len() > 1 => break,
                Err(failure) => return Err(failure),
            };
            for member in body.get("Members").and_then(Value::as_array).into_iter().flatten() {
                let Some(object) = member.as_object() else { continue };
                let path = object.get("@odata.id").and_then(Value::as_str).unwrap_or_default().to_owned();
                let written_out = object.keys().any(|key| key != "@odata.id");
                if (path.is_empty() && !written_out) || (!path.is_empty() && !known.insert(path.clone())) {
                    continue;
                }
                if members.len() >= limit {
                    return Ok((members, true));
                }
                members.push((path, written_out.then(|| member.clone())));
            }
            let more = body.get("Members@odata.nextLink").and_then(Value::as_str);
            next = more.filter(|n| !n.is_empty()).map(str::to_owned);
        }
        Ok((members, false))
    }

    /// Those that came as links are fetched.
    pub(super) async fn filled<T: DeserializeOwned + Default + Send>(
        &self,
        members: Vec<Raw>,
    ) -> Result<Vec<(String, T)>, Failure> {
        let fetched: Vec<Result<Option<(String, T)>, Failure>> = stream::iter(members)
            .map(|(path, body)| async move {
                match body {
                    Some(body) => Ok(Some((path, super::parsed(body)))),
                    None => {
                        let found = walk::optional(walk::get::<S, T>(self.source, &path)).await?;
                        Ok(found.map(|(value, _)| (path, value)))
                    }
                }
            })
            .buffered(SIDE_BY_SIDE)
            .collect()
            .await;
        fetched.into_iter().filter_map(Result::transpose).collect()
    }

    /// What a BMC does not have is no fault of it: said with where it was looked for.
    pub fn lacks(&self, doing: &str, what: &str, looked: &[&str]) -> Failure {
        lacks(self.source.node(), doing, what, looked)
    }
}

/// See [`Ground::lacks`].
pub(super) fn lacks(node: &str, doing: &str, what: &str, looked: &[&str]) -> Failure {
    let looked: Vec<String> = looked.iter().map(|l| clean(l)).collect();
    let why = match looked.is_empty() {
        true => format!("this BMC offers no {what}"),
        false => format!("this BMC offers no {what} (looked at {})", looked.join(", ")),
    };
    Failure::new(Cause::Guard, format!("{node}: {doing}"), why)
}

impl Client {
    pub(super) fn ground<'a>(&'a self, view: &'a SystemView) -> Ground<'a, Wire> {
        Ground { source: &self.wire, root: &self.root, view }
    }

    pub(super) fn lacks(&self, doing: &str, what: &str, looked: &[&str]) -> Failure {
        lacks(&self.wire.node, doing, what, looked)
    }

    /// A POST of an action, that is no reset of a machine.
    pub(super) async fn post(&self, target: &str, body: Value) -> Result<Answer, Failure> {
        self.wire.ask(&Request { method: Method::POST, body: Some(body), ..Request::get(target) }).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::bmc::{quirks, redfish::wire::update::Software};

    /// A BMC of which every path is answered by a function.
    struct Told<F>(F);

    impl<F: Fn(&str) -> Option<Value> + Sync> Source for Told<F> {
        async fn fetch(&self, path: &str) -> Result<(Value, Option<String>), Failure> {
            let missing = || Failure::new(Cause::Refused, format!("GET {path}"), "HTTP 404");
            (self.0)(path).map(|body| (body, None)).ok_or_else(missing)
        }
        fn node(&self) -> &str {
            "n1"
        }
    }

    async fn members<F: Fn(&str) -> Option<Value> + Sync>(
        root: Value,
        limit: usize,
        told: F,
    ) -> Result<Option<Vec<String>>, Failure> {
        let root: ServiceRoot = crate::bmc::redfish::wire::parse(root);
        let system = Default::default();
        let quirks = quirks::classify(&root, &system);
        let view = SystemView { path: "/s".into(), system, etag: None, settings: None, reset_types: vec![], quirks };
        let source = Told(told);
        let ground = Ground { source: &source, root: &root, view: &view };
        let found = ground.members::<Software>("/c", limit).await?;
        Ok(found.map(|list| list.into_iter().map(|(path, s)| s.id.unwrap_or(path)).collect()))
    }

    #[tokio::test]
    async fn members_come_as_links_written_out_or_both() {
        let tell = |path: &str| match path {
            "/c" => Some(
                json!({"Members": [{"@odata.id": "/c/1"}, {"@odata.id": "/c/2", "Id": "two"}, {"@odata.id": "/c/gone"},
                7, {}, {"@odata.id": "/c/1"}], "Members@odata.nextLink": "/c?page=2"}),
            ),
            "/c?page=2" => Some(json!({"Members": [{"Id": "nameless"}]})),
            "/c/1" => Some(json!({"Id": "one"})),
            _ => None,
        };
        let list = |ids: &[&str]| Some(ids.iter().map(|i| (*i).to_owned()).collect::<Vec<_>>());
        assert_eq!(members(json!({}), 9, tell).await, Ok(list(&["one", "two", "nameless"])));
        assert!(members(json!({}), 1, tell).await.is_err_and(|f| f.why.contains("more than 1 members")));
        assert_eq!(members(json!({}), 9, |_| None).await, Ok(None));
    }

    #[tokio::test]
    async fn what_is_announced_is_used_and_what_is_refused_all_the_same_is_not_missed() {
        let root = || json!({"ProtocolFeaturesSupported": {"ExpandQuery": {"NoLinks": true}}});
        let whole = |path: &str| match path {
            "/c?$expand=.($levels=1)" => Some(json!({"Members": [{"@odata.id": "/c/1", "Id": "one"}]})),
            _ => None,
        };
        assert_eq!(members(root(), 9, whole).await, Ok(Some(vec!["one".to_owned()])));
        let refusing = |path: &str| match path {
            "/c" => Some(json!({"Members": [{"@odata.id": "/c/1"}]})),
            "/c/1" => Some(json!({"Id": "one"})),
            _ => None,
        };
        assert_eq!(members(root(), 9, refusing).await, Ok(Some(vec!["one".to_owned()])));
    }

    #[tokio::test]
    async fn a_collection_without_an_end_ends() {
        let circle = |_: &str| Some(json!({"Members": [], "Members@odata.nextLink": "/c"}));
        assert!(members(json!({}), 9, circle).await.is_err());
        let endless = |path: &str| {
            let page: u32 = path.trim_start_matches("/c").parse().unwrap_or_default();
            Some(json!({"Members": [{"Id": format!("{page}")}], "Members@odata.nextLink": format!("/c{}", page + 1)}))
        };
        assert!(members(json!({}), 100_000, endless).await.is_err());
    }
}
