//! `rackctl get`

use std::time::Duration;

use super::{args::look::Get, args::targets::Select, globals::Globals, seen, targets};
use crate::{
    model::Fleet,
    output::{
        Exit, Kind, Stop, Table, age,
        records::{self, Record},
        resource, stdout,
    },
};

/// `-w` looks again this often.
const WATCH_EVERY: Duration = Duration::from_secs(2);

/// `get KIND` with nothing else said.
pub fn of(kind: &str) -> Get {
    Get { kind: kind.to_owned(), names: Vec::new(), select: Select::default(), watch: false, refresh: false }
}

pub fn run(globals: &Globals, args: &Get) -> Result<Exit, Stop> {
    let (kind, names) = split(args)?;
    // Who asks machines reads what they are from the manifests alone.
    let fleet = match args.refresh || kind == Kind::Member {
        true => globals.fleet()?,
        false => globals.fleet_to_look()?,
    };
    let mut view = View::look(globals, &fleet, kind, &names, args)?;
    if view.is_empty() && globals.format.is_for_people() {
        stdout::note(&format!("no {} found", kind.plural()));
    } else {
        stdout::print(&view.render(globals, None))?;
    }
    if !args.watch {
        // The process ends: what ten thousand nodes filled need not be emptied.
        std::mem::forget(view);
        std::mem::forget(fleet);
        return Ok(Exit::Done);
    }
    // Until ^C, a closed pipe or a fault.
    loop {
        std::thread::sleep(WATCH_EVERY);
        let now = View::look(globals, &fleet, kind, &names, args)?;
        let news = news(&view.items, &now.items);
        if !news.is_empty() {
            let text = now.render(globals, Some(&news));
            // The header stands above already.
            let rows = if globals.format.is_for_people() && !view.is_empty() {
                text.split_once('\n').map_or("", |(_, rows)| rows)
            } else {
                &text
            };
            stdout::print(rows)?;
        }
        view = now;
    }
}

/// `get nodes n1`, and `get node/n1` as `-o name` prints it.
fn split(args: &Get) -> Result<(Kind, Vec<String>), Stop> {
    match args.kind.split_once('/') {
        None => Ok((Kind::parse(&args.kind).map_err(Stop::usage)?, args.names.clone())),
        Some((kind, name)) => {
            let kind = Kind::parse(kind).map_err(Stop::usage)?;
            Ok((kind, std::iter::once(name.to_owned()).chain(args.names.iter().cloned()).collect()))
        }
    }
}

/// The table of some of the items, or of all; `true`: wide.
type Rows<'a> = Box<dyn Fn(Option<&[serde_json::Value]>, bool) -> Table + 'a>;

/// What is shown at one moment.
struct View<'a> {
    count: usize,
    /// Empty where nothing but the table is shown.
    items: Vec<serde_json::Value>,
    table: Rows<'a>,
}

impl<'a> View<'a> {
    fn look(globals: &Globals, fleet: &'a Fleet, kind: Kind, names: &[String], args: &Get) -> Result<View<'a>, Stop> {
        let now = age::now();
        if !kind.is_desired() {
            let mut found = seen::records(globals, fleet, kind)?;
            found.retain(|r| names.is_empty() || names.iter().any(|name| r.is_about(name)));
            return Ok(View {
                count: found.len(),
                items: found.iter().map(Record::item).collect(),
                table: Box::new(move |items, _| match items {
                    None => records::table(kind, &found, now),
                    Some(items) => {
                        let shown: Vec<Record> = found.iter().filter(|r| items.contains(&r.item())).cloned().collect();
                        records::table(kind, &shown, now)
                    }
                }),
            });
        }
        let status = seen::status(globals, fleet, now, args.refresh)?;
        let chosen = targets::choose(fleet, &status, kind, names, &args.select)?;
        // A watch compares items whatever it shows.
        let items = match globals.format.is_for_people() && !args.watch {
            true => Vec::new(),
            false => chosen.iter().filter_map(|name| resource::item(fleet, &status, kind, name)).collect(),
        };
        Ok(View {
            count: chosen.len(),
            items,
            table: Box::new(move |items, wide| {
                let name = |item: &serde_json::Value| item["metadata"]["name"].as_str().map(str::to_owned);
                match items {
                    None => resource::table(fleet, &status, kind, &chosen, wide),
                    Some(items) => {
                        let names: Vec<String> = items.iter().filter_map(name).collect();
                        resource::table(fleet, &status, kind, &names, wide)
                    }
                }
            }),
        })
    }

    fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Some of the items, or all.
    fn render(&self, globals: &Globals, some: Option<&[serde_json::Value]>) -> String {
        let items = some.unwrap_or(&self.items);
        globals.format.render(items, stdout::width(), |wide| (self.table)(some, wide))
    }
}

/// The items that are new or differ.
fn news(before: &[serde_json::Value], now: &[serde_json::Value]) -> Vec<serde_json::Value> {
    now.iter().filter(|item| !before.contains(item)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn kinds_with_names() {
        let mut args = of("node/n1");
        args.names = vec!["n2".into()];
        let (kind, names) = split(&args).unwrap();
        assert_eq!((kind, names), (Kind::Node, vec!["n1".to_owned(), "n2".to_owned()]));
        assert_eq!(split(&of("nothing")).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn a_watch_shows_what_changed() {
        let before = [json!({"metadata": {"name": "a"}, "status": 1}), json!({"metadata": {"name": "b"}})];
        let now = [json!({"metadata": {"name": "a"}, "status": 2}), json!({"metadata": {"name": "b"}})];
        assert_eq!(news(&before, &now), now[..1]);
    }
}
