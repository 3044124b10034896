//! Choosing nodes: by name, glob and range (`n[001-040]`, `!n017`), and by label (`role=control-plane,rack!=r1,gpu`).
//! Pure.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    rc::Rc,
};

use super::fault::nearest;
use crate::model::fleet::{Lifecycle, Management, Node};

/// Names that one pattern may stand for: a slip in a range ends here.
pub const MAX_NAMES: usize = 100_000;
/// Requirements of one selector.
pub const MAX_REQUIREMENTS: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    #[error("`{0}`: a range is written n[001-040], with the smaller number first")]
    Range(String),
    #[error("`{0}` stands for more than {MAX_NAMES} names")]
    TooMany(String),
    #[error("no node matches `{word}`{}", .near.as_ref().map(|n| format!("; did you mean `{n}`?")).unwrap_or_default())]
    Nothing { word: String, near: Option<String> },
    #[error("`{0}` is no selector: write key=value, key!=value, key or !key, with commas between")]
    Selector(String),
}

/// Names, globs and ranges, some of them excluded by `!`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameSet {
    wanted: Vec<Pattern>,
    refused: Vec<Pattern>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    word: String,
    names: Names,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Names {
    /// A plain name or the names of a range.
    These(HashSet<String>),
    /// `n*`, `n?`
    Glob(String),
}

/// Reads words such as `n1`, `n*`, `n[001-040]`, `r[1-2]n[1,3-5]`, `!n017`. A word may hold several, with commas.
pub fn ranges<S: AsRef<str>>(words: &[S]) -> Result<NameSet, SelectError> {
    let mut set = NameSet { wanted: Vec::new(), refused: Vec::new() };
    for word in words.iter().flat_map(|w| split_commas(w.as_ref())) {
        match word.strip_prefix('!') {
            Some(word) => set.refused.push(pattern(word)?),
            None => set.wanted.push(pattern(word)?),
        }
    }
    Ok(set)
}

/// At commas outside of brackets.
fn split_commas(text: &str) -> Vec<&str> {
    let mut depth = 0usize;
    text.split(|c| {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
    .filter(|w| !w.is_empty())
    .collect()
}

fn pattern(word: &str) -> Result<Pattern, SelectError> {
    let names = if word.contains(['*', '?']) && !word.contains('[') {
        Names::Glob(word.to_owned())
    } else {
        Names::These(expand(word)?.into_iter().collect())
    };
    Ok(Pattern { word: word.to_owned(), names })
}

/// `n[08-10]` → `n08`, `n09`, `n10`: as many digits as the first number has.
fn expand(word: &str) -> Result<Vec<String>, SelectError> {
    let fault = || SelectError::Range(word.to_owned());
    let mut names = vec![String::new()];
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('[') {
        let (inside, behind) = after.split_once(']').ok_or_else(fault)?;
        let mut numbers = Vec::new();
        for part in inside.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let digits = |t: &str| !t.is_empty() && t.len() <= 9 && t.bytes().all(|b| b.is_ascii_digit());
            if !digits(first) || !digits(last) {
                return Err(fault());
            }
            let (from, to): (usize, usize) = (first.parse().map_err(|_| fault())?, last.parse().map_err(|_| fault())?);
            if from > to {
                return Err(fault());
            }
            if to - from >= MAX_NAMES {
                return Err(SelectError::TooMany(word.to_owned()));
            }
            numbers.extend((from..=to).map(|n| format!("{n:0width$}", width = first.len())));
        }
        if names.len().saturating_mul(numbers.len()) > MAX_NAMES {
            return Err(SelectError::TooMany(word.to_owned()));
        }
        names = names.iter().flat_map(|n| numbers.iter().map(move |number| format!("{n}{before}{number}"))).collect();
        rest = behind;
    }
    if rest.contains(']') {
        return Err(fault());
    }
    names.iter_mut().for_each(|n| n.push_str(rest));
    Ok(names)
}

impl Names {
    fn matches(&self, name: &str) -> bool {
        match self {
            Names::These(names) => names.contains(name),
            Names::Glob(glob) => glob_matches(glob, name),
        }
    }
}

impl NameSet {
    /// Only exclusions: everything else is meant.
    pub fn matches(&self, name: &str) -> bool {
        (self.wanted.is_empty() || self.wanted.iter().any(|p| p.names.matches(name)))
            && !self.refused.iter().any(|p| p.names.matches(name))
    }

    /// The names that are meant, in the order given. A word that means none of them is an error; so is a name of
    /// a plain range that does not exist.
    pub fn pick<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<Vec<&'a str>, SelectError> {
        let all: Vec<&str> = names.into_iter().collect();
        let known: HashSet<&str> = all.iter().copied().collect();
        for pattern in &self.wanted {
            let missing = match &pattern.names {
                Names::These(names) => names.iter().filter(|n| !known.contains(n.as_str())).min(),
                Names::Glob(glob) => Some(&pattern.word).filter(|_| !all.iter().any(|n| glob_matches(glob, n))),
            };
            if let Some(word) = missing {
                let near = nearest(word, all.iter().copied()).map(str::to_owned);
                return Err(SelectError::Nothing { word: word.clone(), near });
            }
        }
        Ok(all.into_iter().filter(|n| self.matches(n)).collect())
    }
}

/// `*` stands for any text, `?` for one character. Linear but for the last star, as every such matcher should be.
pub fn glob_matches(glob: &str, text: &str) -> bool {
    let (glob, text): (Vec<char>, Vec<char>) = (glob.chars().collect(), text.chars().collect());
    let (mut g, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match glob.get(g) {
            Some('*') => {
                star = Some((g, t));
                g += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                g += 1;
                t += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    g = at + 1;
                    t = taken + 1;
                }
                None => return false,
            },
        }
    }
    glob[g..].iter().all(|c| *c == '*')
}

/// All of its requirements must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    Is(String, String),
    IsNot(String, String),
    Has(String),
    HasNot(String),
}

/// Reads `role=control-plane,rack!=r1,gpu,!old`. `==` is `=`. A key that is missing satisfies `!=`, as with kubectl.
pub fn selector(text: &str) -> Result<Selector, SelectError> {
    let fault = || SelectError::Selector(text.to_owned());
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    if parts.len() > MAX_REQUIREMENTS {
        return Err(fault());
    }
    let key = |key: &str| {
        let key = key.trim();
        if super::format::is_label_key(key) { Ok(key.to_owned()) } else { Err(fault()) }
    };
    let word = |word: &str| {
        let word = word.trim();
        if super::format::is_label(word) { Ok(word.to_owned()) } else { Err(fault()) }
    };
    let one = |part: &&str| {
        if let Some((k, v)) = part.split_once("!=") {
            Ok(Requirement::IsNot(key(k)?, word(v)?))
        } else if let Some((k, v)) = part.split_once("==").or_else(|| part.split_once('=')) {
            Ok(Requirement::Is(key(k)?, word(v)?))
        } else if let Some(k) = part.strip_prefix('!') {
            Ok(Requirement::HasNot(key(k)?))
        } else {
            Ok(Requirement::Has(key(part)?))
        }
    };
    Ok(Selector(parts.iter().map(one).collect::<Result<_, _>>()?))
}

impl Selector {
    /// `value_of` gives the value of a key, `None` where there is none.
    pub fn matches_with<'a>(&self, value_of: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|requirement| match requirement {
            Requirement::Is(key, value) => value_of(key) == Some(value),
            Requirement::IsNot(key, value) => value_of(key) != Some(value),
            Requirement::Has(key) => value_of(key).is_some(),
            Requirement::HasNot(key) => value_of(key).is_none(),
        })
    }
    pub fn matches(&self, node: &Node) -> bool {
        self.matches_with(|key| value_of(node, key))
    }
    /// The keys that it asks for.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|r| match r {
            Requirement::Is(k, _) | Requirement::IsNot(k, _) | Requirement::Has(k) | Requirement::HasNot(k) => {
                k.as_str()
            }
        })
    }
}

/// Things by the values that selectors ask for: a hundred selectors need not look at ten thousand nodes each.
pub(crate) struct ByValue<'a, T, F> {
    things: &'a [T],
    value_of: F,
    /// Of each key that was asked for.
    known: RefCell<HashMap<String, Rc<Values<'a, T>>>>,
}

type Values<'a, T> = HashMap<&'a str, Vec<&'a T>>;

impl<'a, T, F: Fn(&'a T, &str) -> Option<&'a str>> ByValue<'a, T, F> {
    pub(crate) fn new(things: &'a [T], value_of: F) -> Self {
        ByValue { things, value_of, known: RefCell::default() }
    }

    /// Those that the selector matches, in their order.
    pub(crate) fn matching(&self, selector: &Selector) -> Vec<&'a T> {
        let wanted = selector.0.iter().find_map(|r| if let Requirement::Is(k, v) = r { Some((k, v)) } else { None });
        let matches = |thing: &&'a T| selector.matches_with(|key| (self.value_of)(thing, key));
        match wanted {
            Some((key, value)) => {
                let values = self.values(key);
                values.get(value.as_str()).into_iter().flatten().copied().filter(matches).collect()
            }
            None => self.things.iter().filter(matches).collect(),
        }
    }

    fn values(&self, key: &str) -> Rc<Values<'a, T>> {
        if let Some(values) = self.known.borrow().get(key) {
            return Rc::clone(values);
        }
        let mut values: Values<'a, T> = HashMap::new();
        for thing in self.things {
            if let Some(value) = (self.value_of)(thing, key) {
                values.entry(value).or_default().push(thing);
            }
        }
        let values = Rc::new(values);
        self.known.borrow_mut().insert(key.to_owned(), Rc::clone(&values));
        values
    }
}

/// What a selector's key means for a node: `name`, `lifecycle` and `management` are never labels; `site`, `profile`,
/// `hardwareClass`, `rack` and `chassis` are labels only where the field is empty.
pub fn value_of<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    let field = match key {
        "name" => return Some(&node.name),
        "lifecycle" => {
            return Some(match node.lifecycle {
                Lifecycle::Active => "active",
                Lifecycle::Spare => "spare",
                Lifecycle::Maintenance => "maintenance",
                Lifecycle::Decommissioned => "decommissioned",
            });
        }
        "management" => {
            return Some(match node.management {
                Management::Full => "full",
                Management::Power => "power",
                Management::Observe => "observe",
            });
        }
        "site" => node.site.as_deref(),
        "profile" => node.profile.as_deref(),
        "hardwareClass" => node.hardware_class.as_deref(),
        "rack" => node.location.rack.as_deref(),
        "chassis" => node.location.chassis.as_deref(),
        _ => None,
    };
    field.or_else(|| node.labels.get(key).map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked<'a>(words: &[&str], names: &[&'a str]) -> Result<Vec<&'a str>, SelectError> {
        ranges(words)?.pick(names.iter().copied())
    }

    #[test]
    fn ranges_keep_their_digits_and_exclusions_win() {
        let names = ["n08", "n09", "n10", "n11", "m1"];
        assert_eq!(picked(&["n[08-10]", "!n09"], &names), Ok(vec!["n08", "n10"]));
        assert_eq!(picked(&["!n[08-11]"], &names), Ok(vec!["m1"]));
        assert_eq!(picked(&["n1?", "m*"], &names), Ok(vec!["n10", "n11", "m1"]));
        assert_eq!(picked(&["n[08,10-11]"], &names), Ok(vec!["n08", "n10", "n11"]));
        assert_eq!(picked(&["n08,m1"], &names), Ok(vec!["n08", "m1"]));
        assert_eq!(picked(&["r[1-2]n[1-2]"], &["r1n1", "r1n2", "r2n1", "r2n2"]).map(|v| v.len()), Ok(4));
    }

    #[test]
    fn what_means_nothing_is_an_error_with_the_nearest_name() {
        let error = picked(&["node-11"], &["node-1", "node-2"]).unwrap_err();
        assert_eq!(error.to_string(), "no node matches `node-11`; did you mean `node-1`?");
        assert!(picked(&["n[1-3]"], &["n1", "n2"]).is_err());
        assert!(picked(&["x*"], &["n1"]).is_err());
    }

    #[test]
    fn bad_ranges() {
        for word in ["n[3-1]", "n[1-", "n[]", "n[a-b]", "n]1", "n[1-99999999999]"] {
            assert!(matches!(ranges(&[word]), Err(SelectError::Range(_))), "{word}");
        }
        assert!(matches!(ranges(&["n[0-999999]"]), Err(SelectError::TooMany(_))));
        assert!(matches!(ranges(&["n[0-999][0-999]"]), Err(SelectError::TooMany(_))));
    }

    #[test]
    fn selectors() {
        let labels = |key: &str| match key {
            "role" => Some("control-plane"),
            "gpu" => Some(""),
            _ => None,
        };
        let holds = |text: &str| selector(text).map(|s| s.matches_with(labels));
        assert_eq!(holds("role=control-plane,rack!=r1,gpu"), Ok(true));
        assert_eq!(holds("role==worker"), Ok(false));
        assert_eq!(holds("!gpu"), Ok(false));
        assert_eq!(holds("role!=control-plane"), Ok(false));
        for text in ["", ",", "=x", "a b", "a=b c", "a=(x)"] {
            assert!(selector(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn globs_do_not_explode() {
        assert!(!glob_matches(&format!("{}c", "*a".repeat(30)), &"a".repeat(20_000)));
        assert!(glob_matches("SAMSUNG MZ*", "SAMSUNG MZ7L3480"));
        assert!(glob_matches("*", ""));
        assert!(!glob_matches("a?c", "ac"));
    }
}
