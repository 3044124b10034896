//! Lines of QEMU's machine protocol (QMP, docs/interop/qmp-spec of QEMU). Pure.

use serde_json::Value;

/// A line of QMP is small; a longer one is not QMP.
pub const LINE_MAX: u64 = 64 * 1024;

#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    Greeting,
    /// Answer to the command with this id.
    Answer {
        id: u64,
        result: Result<Value, String>,
    },
    /// The guest or the host ended the machine's execution; the reason as QEMU words it.
    Shutdown {
        reason: String,
    },
    /// Anything else: other events.
    Other,
}

pub fn parse(line: &str) -> Option<Message> {
    let value: Value = serde_json::from_str(line).ok()?;
    if value.get("QMP").is_some() {
        return Some(Message::Greeting);
    }
    if let Some(event) = value.get("event") {
        let reason = value.pointer("/data/reason").and_then(Value::as_str).unwrap_or_default();
        return Some(match event.as_str()? {
            "SHUTDOWN" => Message::Shutdown { reason: reason.to_owned() },
            _ => Message::Other,
        });
    }
    let id = value.get("id")?.as_u64()?;
    let result = match (value.get("return"), value.pointer("/error/desc").and_then(Value::as_str)) {
        (Some(value), _) => Ok(value.clone()),
        (None, Some(desc)) => Err(desc.to_owned()),
        (None, None) => return None,
    };
    Some(Message::Answer { id, result })
}

pub fn command(id: u64, name: &str) -> String {
    format!("{}\n", serde_json::json!({ "execute": name, "id": id }))
}

/// What the guest wants after it stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It asked for a reset: start again with the boot order that applies then.
    StartAgain,
    StayOff,
}

/// By the reason of a SHUTDOWN event (`ShutdownCause` in QEMU's qapi/run-state.json).
pub fn after(reason: &str) -> After {
    match reason {
        "guest-reset" | "host-qmp-system-reset" => After::StartAgain,
        _ => After::StayOff,
    }
}

/// `status` of query-status: is the machine under power?
pub fn is_on(status: &str) -> bool {
    !matches!(status, "shutdown" | "guest-panicked" | "internal-error")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_qemu_says() {
        // As QEMU 10.0.2 printed them.
        assert_eq!(
            parse(
                r#"{"QMP": {"version": {"qemu": {"micro": 2, "minor": 0, "major": 10}, "package": "x"}, "capabilities": ["oob"]}}"#
            ),
            Some(Message::Greeting)
        );
        assert_eq!(
            parse(
                r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}"#
            ),
            Some(Message::Shutdown { reason: "guest-reset".into() })
        );
        assert_eq!(
            parse(r#"{"return": {"status": "running", "running": true}, "id": 7}"#),
            Some(Message::Answer { id: 7, result: Ok(serde_json::json!({"status": "running", "running": true})) })
        );
        assert_eq!(
            parse(r#"{"id": 8, "error": {"class": "CommandNotFound", "desc": "The command x has not been found"}}"#),
            Some(Message::Answer { id: 8, result: Err("The command x has not been found".into()) })
        );
        for text in ["", "{", "{}", "[]", r#"{"return": {}}"#, r#"{"id": 1}"#, r#"{"event": 3}"#] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn only_a_reset_starts_again() {
        assert_eq!(after("guest-reset"), After::StartAgain);
        for reason in ["guest-shutdown", "host-qmp-quit", "guest-panic", ""] {
            assert_eq!(after(reason), After::StayOff, "{reason}");
        }
    }
}
