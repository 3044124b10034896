//! The newest end of a log. BMCs give logs in either order and in pages: where the oldest come first, the end is what
//! counts, and it is gone to at once where the BMC can skip, else page by page.

use std::collections::{BTreeSet, VecDeque};

use serde_json::Value;

use super::{
    ground::{Ground, Raw},
    walk::{self, Source},
};
use crate::{
    bmc::{logs, redfish::wire::log as wire},
    model::Failure,
};

/// Pages of one log. At a third of a second each, most of the time that a look at a log has.
const MAX_PAGES: usize = 320;

/// One answer of a collection.
struct Page {
    members: Vec<Raw>,
    next: Option<String>,
    /// Of the whole collection, as it says.
    count: Option<usize>,
}

/// What is kept of the pages seen.
struct Kept {
    limit: usize,
    members: VecDeque<Raw>,
    known: BTreeSet<String>,
    /// Members that were seen, or are known to be there, and are not kept.
    more: bool,
}

impl Kept {
    fn new(limit: usize) -> Kept {
        Kept { limit, members: VecDeque::new(), known: BTreeSet::new(), more: false }
    }

    /// Takes what is new. `end`: the oldest are dropped for it; else what does not fit is. Says how many were new.
    fn take(&mut self, members: Vec<Raw>, end: bool) -> usize {
        let mut new = 0;
        for member in members {
            if !member.0.is_empty() && !self.known.insert(member.0.clone()) {
                continue;
            }
            new += 1;
            if self.members.len() >= self.limit {
                self.more = true;
                if !end {
                    continue;
                }
                self.members.pop_front();
            }
            self.members.push_back(member);
        }
        new
    }

    fn done(self) -> (Vec<Raw>, bool) {
        (self.members.into(), self.more)
    }
}

impl<S: Source> Ground<'_, S> {
    /// The newest `limit` entries of a log, in the BMC's order, and whether there are others. Asked for written out where
    /// the BMC knows that.
    pub(super) async fn newest(&self, path: &str, limit: usize) -> Result<(Vec<Raw>, bool), Failure> {
        if self.expands() {
            let asked = format!("{}?$expand=.($levels=1)", path.trim_end_matches('/'));
            if let Some(found) = walk::optional(self.end_of(&asked, limit)).await? {
                return Ok(found);
            }
        }
        self.end_of(path, limit).await
    }

    async fn end_of(&self, path: &str, limit: usize) -> Result<(Vec<Raw>, bool), Failure> {
        let first = self.page(path).await?;
        let falls = logs::falls(&told(&first.members));
        let more = first.count.is_some_and(|count| count > limit) && first.next.is_some();
        if !falls
            && more
            && self.skips(first.next.as_deref())
            && let Some(found) = self.skipped_to(path, &first, limit).await?
        {
            return Ok(found);
        }
        let mut kept = Kept::new(limit);
        kept.take(first.members, !falls);
        self.follow(first.next, &mut kept, !falls).await?;
        Ok(kept.done())
    }

    /// Page after page, until there is none, or nothing more is wanted.
    async fn follow(&self, mut next: Option<String>, kept: &mut Kept, end: bool) -> Result<(), Failure> {
        let mut pages = BTreeSet::new();
        while let Some(at) = next {
            let enough = !end && kept.members.len() >= kept.limit;
            if enough || pages.len() >= MAX_PAGES || !pages.insert(at.clone()) {
                kept.more = true;
                break;
            }
            // A page that is promised and missing ends the collection.
            let Some(page) = walk::optional(self.page(&at)).await? else { break };
            kept.take(page.members, end);
            next = page.next;
        }
        Ok(())
    }

    /// The end by `$skip`, proven by what comes: as many new members as the collection says that it has, and none older
    /// than the first page's. `None`: this BMC does not do what was asked, so all pages are walked.
    async fn skipped_to(&self, path: &str, first: &Page, limit: usize) -> Result<Option<(Vec<Raw>, bool)>, Failure> {
        let count = first.count.unwrap_or_default();
        let mut kept = Kept::new(limit);
        // Known, so that a BMC that gives them once more is found out; not kept: there is a gap behind them.
        kept.known.extend(first.members.iter().map(|(path, _)| path.clone()));
        kept.more = true;
        let mut at = count.saturating_sub(limit).max(first.members.len());
        let mark = if path.contains('?') { '&' } else { '?' };
        let mut pages = 0;
        while at < count {
            pages += 1;
            let asked = format!("{path}{mark}$skip={at}");
            let Some(page) = walk::optional(self.page(&asked)).await? else { return Ok(None) };
            let before = kept.members.len();
            // The last of the first page, then these: they must not turn back.
            let joint: Vec<Raw> = first.members.last().into_iter().chain(page.members.first()).cloned().collect();
            let new = kept.take(page.members, true);
            if new == 0 || pages > MAX_PAGES || (before == 0 && logs::falls(&told(&joint))) {
                return Ok(None);
            }
            at += new;
        }
        Ok(Some(kept.done()))
    }

    /// Whether the BMC says that it knows `$skip`, or uses it itself.
    fn skips(&self, next: Option<&str>) -> bool {
        let said = self.root.features.as_ref().and_then(|f| f.skip);
        said.unwrap_or_else(|| next.is_some_and(|n| n.contains("$skip=") || n.contains("%24skip=")))
    }

    async fn page(&self, path: &str) -> Result<Page, Failure> {
        let (body, _) = self.source.fetch(path).await?;
        let member = |member: &Value| {
            let object = member.as_object()?;
            let path = object.get("@odata.id").and_then(Value::as_str).unwrap_or_default().to_owned();
            let written_out = object.keys().any(|key| key != "@odata.id");
            (!path.is_empty() || written_out).then(|| (path, written_out.then(|| member.clone())))
        };
        let members = body.get("Members").and_then(Value::as_array);
        let next = body.get("Members@odata.nextLink").and_then(Value::as_str).filter(|n| !n.is_empty());
        Ok(Page {
            members: members.into_iter().flatten().filter_map(member).collect(),
            next: next.map(str::to_owned),
            count: body.get("Members@odata.count").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok()),
        })
    }
}

/// As far as members tell their time or their number.
fn told(members: &[Raw]) -> Vec<logs::Entry> {
    let one = |(path, body): &Raw| {
        let entry: wire::LogEntry = body.clone().map(super::parsed).unwrap_or_default();
        logs::entry(path, &entry).unwrap_or_else(|| logs::nameless(path))
    };
    members.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::json;

    use super::*;
    use crate::bmc::{
        quirks,
        read::SystemView,
        redfish::wire::{ServiceRoot, parse},
    };

    /// A log of so many entries, and how its BMC pages it.
    struct Long {
        count: usize,
        page: usize,
        /// The newest first.
        falls: bool,
        /// `$skip` is answered as if it was not there.
        deaf: bool,
        asked: Mutex<Vec<String>>,
    }

    impl Source for Long {
        async fn fetch(&self, path: &str) -> Result<(Value, Option<String>), Failure> {
            self.asked.lock().unwrap().push(path.to_owned());
            let number = |name: &str| path.split_once(name).and_then(|(_, n)| n.parse::<usize>().ok());
            let skip = number("$skip=").filter(|_| !self.deaf).or_else(|| number("page=")).unwrap_or_default();
            let id = |at: usize| if self.falls { self.count - at } else { at + 1 };
            let members: Vec<Value> = (skip..self.count.min(skip + self.page))
                .map(|at| json!({"@odata.id": format!("/e/{}", id(at)), "Id": id(at).to_string(), "Message": "m"}))
                .collect();
            let mut body = json!({"Members": members, "Members@odata.count": self.count});
            if skip + self.page < self.count {
                body["Members@odata.nextLink"] = json!(format!("/e?page={}", skip + self.page));
            }
            Ok((body, None))
        }
        fn node(&self) -> &str {
            "n1"
        }
    }

    async fn newest(long: &Long, skips: Option<bool>) -> (Vec<usize>, bool, usize) {
        let root: ServiceRoot = parse(json!({"ProtocolFeaturesSupported": {"TopSkipQuery": skips}}));
        let system = Default::default();
        let quirks = quirks::classify(&root, &system);
        let view = SystemView { path: "/s".into(), system, etag: None, settings: None, reset_types: vec![], quirks };
        let ground = Ground { source: long, root: &root, view: &view };
        let (found, more) = ground.newest("/e", 20).await.unwrap();
        let mut ids: Vec<usize> = found.iter().map(|(path, _)| path[3..].parse().unwrap()).collect();
        ids.sort_unstable();
        let asked = long.asked.lock().unwrap().len();
        (ids, more, asked)
    }

    fn long(count: usize, page: usize, falls: bool, deaf: bool) -> Long {
        Long { count, page, falls, deaf, asked: Mutex::default() }
    }

    #[tokio::test]
    async fn the_newest_are_found_in_either_order_and_however_they_are_paged() {
        let end: Vec<usize> = (81..=100).collect();
        for (falls, page, deaf, skips) in [
            (false, 100, false, None),
            (false, 7, false, None),
            (false, 7, false, Some(true)),
            (false, 7, true, Some(true)),
            (false, 25, false, Some(true)),
            (true, 100, false, Some(true)),
            (true, 7, false, Some(true)),
        ] {
            let (found, more, _) = newest(&long(100, page, falls, deaf), skips).await;
            assert_eq!((found, more), (end.clone(), true), "falls {falls}, pages of {page}, deaf {deaf}, {skips:?}");
        }
        let (found, more, asked) = newest(&long(15, 7, false, false), Some(true)).await;
        assert_eq!((found.len(), more, asked), (15, false, 3));
    }

    #[tokio::test]
    async fn who_can_skip_is_not_asked_for_every_page() {
        let (_, _, asked) = newest(&long(5_000, 10, false, false), Some(true)).await;
        assert_eq!(asked, 3, "the first page, and two of the end");
        let (found, more, asked) = newest(&long(5_000, 10, true, false), Some(true)).await;
        assert_eq!((found.last(), more, asked), (Some(&5_000), true, 2), "the newest come first");
        // Without it there is an end to the asking, and it is said that there is more.
        let (found, more, asked) = newest(&long(5_000, 10, false, false), Some(false)).await;
        assert_eq!((found.last(), more, asked), (Some(&3_210), true, MAX_PAGES + 1));
    }
}
