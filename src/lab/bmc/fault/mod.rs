//! How a BMC misbehaves: a set of named faults with values, as data. What each does stands in [`table`], once.
//!
//! A fault is written `name` or `name=value`: `power-noop`, `session-cap=4`, `power-lag=20s`,
//! `reset-types=On,ForceOff`, `account-lockout=3/30s`.

mod profile;
mod table;

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize};

pub use profile::{PROFILES, Profile};
pub use table::Fault;

/// Faults that one BMC may have at a time; there are not many more.
const MAX: usize = 256;
/// Characters of one value.
const VALUE_MAX: usize = 400;
/// A fault that lasts longer than a day is no fault, it is a BMC.
const TIME_MAX: Duration = Duration::from_secs(86_400);

/// What stands after the `=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Nothing: it is there or not.
    Flag,
    /// A number, 0 to this.
    Count(u64),
    /// `20ms`, `5s`, `1m`
    Time,
    /// One of these; the first is meant where none is given.
    Word(&'static [&'static str]),
    /// Anything short.
    Text,
    /// Words, divided by commas.
    Words,
    /// `3/30s`: so many, for so long.
    Rate,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Setting {
    Flag,
    Count(u64),
    Time(Duration),
    Text(String),
    Words(Vec<String>),
    Rate(u64, Duration),
}

/// The faults of one BMC. Read and written as a list of texts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Faults(BTreeMap<Fault, Setting>);

impl Faults {
    /// One fault, or all that a profile means.
    pub fn parse_one(text: &str) -> Result<Faults, String> {
        let mut faults = Faults::default();
        faults.add(text)?;
        Ok(faults)
    }

    /// From words as a person writes them. A later one wins over an earlier one of the same name.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Faults, String> {
        let mut faults = Faults::default();
        for text in texts.into_iter().take(MAX) {
            faults.add(text)?;
        }
        Ok(faults)
    }

    fn add(&mut self, text: &str) -> Result<(), String> {
        if let Some(profile) = PROFILES.iter().find(|p| p.name == text) {
            return profile.faults.iter().try_for_each(|fault| self.add(fault));
        }
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let Some(fault) = Fault::ALL.iter().copied().find(|f| f.name() == name) else {
            return Err(format!("there is no fault `{name}`{}", near(name)));
        };
        let setting = setting(fault, value).map_err(|why| format!("{name}: {why}"))?;
        self.0.insert(fault, setting);
        Ok(())
    }

    /// These over those.
    pub fn over(&self, nature: &Faults) -> Faults {
        let mut all = nature.clone();
        all.0.extend(self.0.iter().map(|(fault, setting)| (*fault, setting.clone())));
        all
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    pub fn iter(&self) -> impl Iterator<Item = Fault> {
        self.0.keys().copied()
    }
    pub fn has(&self, fault: Fault) -> bool {
        self.0.contains_key(&fault)
    }
    pub fn count(&self, fault: Fault) -> Option<u64> {
        match self.0.get(&fault)? {
            Setting::Count(n) => Some(*n),
            _ => None,
        }
    }
    pub fn time(&self, fault: Fault) -> Option<Duration> {
        match self.0.get(&fault)? {
            Setting::Time(time) => Some(*time),
            _ => None,
        }
    }
    pub fn text(&self, fault: Fault) -> Option<&str> {
        match self.0.get(&fault)? {
            Setting::Text(text) => Some(text),
            _ => None,
        }
    }
    pub fn words(&self, fault: Fault) -> Option<&[String]> {
        match self.0.get(&fault)? {
            Setting::Words(words) => Some(words),
            _ => None,
        }
    }
    pub fn rate(&self, fault: Fault) -> Option<(u64, Duration)> {
        match self.0.get(&fault)? {
            Setting::Rate(count, time) => Some((*count, *time)),
            _ => None,
        }
    }
    /// The same words that [`Faults::parse`] takes.
    pub fn texts(&self) -> Vec<String> {
        self.0.iter().map(|(fault, setting)| format!("{}{setting}", fault.name())).collect()
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Setting::Flag => Ok(()),
            Setting::Count(n) => write!(f, "={n}"),
            Setting::Time(time) => write!(f, "={}", shown(*time)),
            Setting::Text(text) => write!(f, "={text}"),
            Setting::Words(words) => write!(f, "={}", words.join(",")),
            Setting::Rate(n, time) => write!(f, "={n}/{}", shown(*time)),
        }
    }
}

impl From<Faults> for Vec<String> {
    fn from(faults: Faults) -> Self {
        faults.texts()
    }
}

impl TryFrom<Vec<String>> for Faults {
    type Error = String;
    fn try_from(texts: Vec<String>) -> Result<Self, String> {
        Faults::parse(texts.iter().map(String::as_str))
    }
}

fn setting(fault: Fault, value: Option<&str>) -> Result<Setting, String> {
    let takes = fault.takes();
    let value = value.filter(|v| !v.is_empty());
    if value.is_some_and(|v| v.len() > VALUE_MAX || v.chars().any(char::is_control)) {
        return Err(format!("the value has more than {VALUE_MAX} bytes or is not plain text"));
    }
    match (takes, value) {
        (Takes::Flag, None) => Ok(Setting::Flag),
        (Takes::Flag, Some(value)) => Err(format!("it takes no value, and got `{value}`")),
        (Takes::Word([first, ..]), None) => Ok(Setting::Text((*first).to_owned())),
        (_, None) => Err(format!("it needs a value: {}={}", fault.name(), takes.example())),
        (Takes::Count(most), Some(value)) => match value.parse::<u64>() {
            Ok(n) if n <= most => Ok(Setting::Count(n)),
            _ => Err(format!("`{value}` is no number from 0 to {most}")),
        },
        (Takes::Time, Some(value)) => time(value).map(Setting::Time),
        (Takes::Word(words), Some(value)) if words.contains(&value) => Ok(Setting::Text(value.to_owned())),
        (Takes::Word(words), Some(value)) => Err(format!("`{value}` is none of {}", words.join(", "))),
        (Takes::Text, Some(value)) => Ok(Setting::Text(value.to_owned())),
        (Takes::Words, Some(value)) => Ok(Setting::Words(value.split(',').map(|w| w.trim().to_owned()).collect())),
        (Takes::Rate, Some(value)) => {
            let fault = || format!("`{value}` is not so many for so long, as in 3/30s");
            let (count, long) = value.split_once('/').ok_or_else(fault)?;
            Ok(Setting::Rate(count.parse().ok().filter(|n| *n <= 1000).ok_or_else(fault)?, time(long)?))
        }
    }
}

/// `20ms`, `5s`, `1m`; a plain number is seconds.
fn time(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let ms = match unit {
        "ms" => 1,
        "s" | "" => 1_000,
        "m" => 60_000,
        _ => 0,
    };
    let time = number.parse::<u64>().ok().and_then(|n| n.checked_mul(ms)).map(Duration::from_millis);
    time.filter(|time| ms > 0 && *time <= TIME_MAX).ok_or_else(|| format!("`{text}` is no time, as in 500ms, 30s, 5m"))
}

/// As [`time`] reads it.
fn shown(time: Duration) -> String {
    let ms = time.as_millis();
    if ms.is_multiple_of(1000) { format!("{}s", ms / 1000) } else { format!("{ms}ms") }
}

fn near(name: &str) -> String {
    let names = Fault::ALL.iter().map(|f| f.name()).chain(PROFILES.iter().map(|p| p.name));
    let best = names.map(|known| (strsim::jaro_winkler(name, known), known)).max_by(|a, b| a.0.total_cmp(&b.0));
    best.filter(|(score, _)| *score > 0.8).map(|(_, known)| format!("; did you mean `{known}`?")).unwrap_or_default()
}

impl Takes {
    pub fn example(self) -> String {
        match self {
            Takes::Flag => String::new(),
            Takes::Count(_) => "N".into(),
            Takes::Time => "DURATION".into(),
            Takes::Word(words) => words.join("|"),
            Takes::Text => "TEXT".into(),
            Takes::Words => "WORD,…".into(),
            Takes::Rate => "N/DURATION".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_faults_and_words_again() {
        let texts =
            ["power-noop", "session-cap=4", "power-lag=20s", "account-lockout=3/30s", "reset-types=On,ForceOff"];
        let faults = Faults::parse(texts).unwrap();
        assert!(faults.has(Fault::PowerNoop) && !faults.has(Fault::PowerStuck));
        assert_eq!(faults.count(Fault::SessionCap), Some(4));
        assert_eq!(faults.time(Fault::PowerLag), Some(Duration::from_secs(20)));
        assert_eq!(faults.rate(Fault::AccountLockout), Some((3, Duration::from_secs(30))));
        assert_eq!(faults.words(Fault::ResetTypes).unwrap(), ["On", "ForceOff"]);
        let again: Faults = serde_json::from_str(&serde_json::to_string(&faults).unwrap()).unwrap();
        assert_eq!(again, faults);
        let over = Faults::parse(["power-lag=1s"]).unwrap().over(&faults);
        assert_eq!((over.time(Fault::PowerLag), over.has(Fault::PowerNoop)), (Some(Duration::from_secs(1)), true));
    }

    #[test]
    fn what_is_no_fault_is_said() {
        for (text, why) in [
            ("power-nop", "did you mean `power-noop`"),
            ("power-noop=1", "takes no value"),
            ("session-cap", "session-cap=N"),
            ("session-cap=many", "no number"),
            ("power-lag=9h", "no time"),
            ("account-lockout=3", "so many for so long"),
            ("hostile-body=rude", "none of"),
        ] {
            let error = Faults::parse([text]).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn the_table_is_sound() {
        let mut names: Vec<&str> = Fault::ALL.iter().map(|f| f.name()).chain(PROFILES.iter().map(|p| p.name)).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count, "a name stands twice");
        for fault in Fault::ALL {
            assert!(!fault.does().is_empty() && !fault.source().is_empty(), "{}", fault.name());
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(fault.name().chars().all(plain), "{}", fault.name());
        }
        for profile in PROFILES {
            let faults = Faults::parse([profile.name]).unwrap_or_else(|why| panic!("{}: {why}", profile.name));
            assert!(!faults.is_empty() && !profile.source.is_empty(), "{}", profile.name);
        }
    }
}
