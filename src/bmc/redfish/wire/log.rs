//! Logs of systems, managers and chassis (DSP8010, LogService and LogEntry).

use super::{Action, Link};

resource! {
    LogService {
        "@odata.id" odata_id: String,
        "@odata.type" odata_type: String,
        "Id" id: String,
        "Name" name: String,
        "ServiceEnabled" enabled: bool,
        "MaxNumberOfRecords" most: u64,
        "OverWritePolicy" overwrites: String,
        "LogEntryType" entry_type: String,
        "Entries" entries: Link,
        "Actions" actions: LogActions,
    } lists {}
}
resource! { LogActions { "#LogService.ClearLog" clear: Action, } lists {} }

resource! {
    LogEntry {
        "@odata.id" odata_id: String,
        "@odata.type" odata_type: String,
        "Id" id: String,
        "Name" name: String,
        "Created" created: String,
        "EventTimestamp" happened: String,
        "EntryType" entry_type: String,
        "EntryCode" entry_code: String,
        "Severity" severity: String,
        "Message" message: String,
        "MessageId" message_id: String,
        "SensorType" sensor_type: String,
        "SensorNumber" sensor_number: u64,
        "Resolved" resolved: bool,
    } lists {}
}
