//! Logs: the system event log and the BMC's own, bounded, cleared by ClearLog.

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{
    build::stamp,
    documents::Documents,
    paths::{MANAGER, SYSTEM},
    reply::Reply,
    state::State,
};

/// Entries of one log; the oldest go first.
pub const MAX_ENTRIES: usize = 5000;

/// `…/LogServices/SEL/Entries`
pub fn sel() -> String {
    format!("{MANAGER}/LogServices/SEL/Entries")
}
/// `…/LogServices/EventLog/Entries`
pub fn event_log() -> String {
    format!("{SYSTEM}/LogServices/EventLog/Entries")
}

/// One entry, its message as given.
pub fn add(docs: &mut Documents, entries: &str, number: u64, now: OffsetDateTime, severity: &str, text: &str) {
    let kind = if entries.contains("/SEL/") { "SEL" } else { "Event" };
    let mut body = json!({
        "EntryType": kind, "Severity": severity, "Created": stamp(now), "Message": text,
        "MessageId": if severity == "OK" { "Base.1.18.Success" } else { "Base.1.18.GeneralError" },
    });
    if kind == "SEL" {
        body["SensorNumber"] = json!(0);
        body["EntryCode"] = json!("Assert");
        body["SensorType"] = json!("System Event");
    }
    docs.resource(format!("{entries}/{number}"), "LogEntry.v1_16_2", &format!("Log entry {number}"), body);
}

impl State {
    /// Something happened: it stands in both logs and goes to those who listen.
    pub fn log_event(&mut self, now: OffsetDateTime, severity: &str, text: &str) {
        self.event_count += 1;
        // Beyond what was there from the beginning.
        let number = MAX_ENTRIES as u64 + self.event_count;
        if !self.places.recorded {
            for entries in [sel(), event_log()] {
                add(&mut self.docs, &entries, number, now, severity, text);
                let there = self.docs.below(&entries);
                for old in there.iter().take(there.len().saturating_sub(MAX_ENTRIES)) {
                    self.docs.remove(old);
                }
            }
        }
        let record: Value = json!({
            "EventType": "Other", "EventId": number.to_string(), "EventTimestamp": stamp(now), "MemberId": "0",
            "MessageSeverity": severity, "Message": text,
            "MessageId": if severity == "OK" { "Base.1.18.Success" } else { "Base.1.18.GeneralError" },
        });
        self.fresh.push(json!({
            "@odata.type": "#Event.v1_11_0.Event", "Id": number.to_string(), "Name": "Event", "Events": [record] }));
    }

    pub fn clear_log(&mut self, now: OffsetDateTime, service: &str) -> Reply {
        let entries = format!("{service}/Entries");
        for path in self.docs.below(&entries) {
            self.docs.remove(&path);
        }
        self.event_count += 1;
        let number = MAX_ENTRIES as u64 + self.event_count;
        add(&mut self.docs, &entries, number, now, "OK", "the log was cleared");
        Reply::empty(204)
    }
}
