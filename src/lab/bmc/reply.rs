//! Answers as values, and the messages of the Base registry (DSP0266 8.6, DSP8011) that refusals are made of.

use serde_json::{Value, json};

/// What is answered, before it becomes HTTP.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Option<Value>,
    /// Other than JSON: its media type and text.
    pub text: Option<Box<(&'static str, String)>>,
}

impl Reply {
    pub fn empty(status: u16) -> Reply {
        Reply { status, headers: Vec::new(), body: None, text: None }
    }
    pub fn json(status: u16, body: Value) -> Reply {
        Reply { body: Some(body), ..Reply::empty(status) }
    }
    pub fn text(media: &'static str, text: String) -> Reply {
        Reply { text: Some(Box::new((media, text))), ..Reply::empty(200) }
    }
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Reply {
        self.headers.push((name, value.into()));
        self
    }
}

/// One message, with its arguments.
pub fn message(id: &str, text: &str, args: &[&str]) -> Value {
    let severity = if id == "Success" { "OK" } else { "Critical" };
    let resolution = if id == "Success" { "None." } else { "Correct the request and send it again." };
    // Vendors' messages stand in registries of their own.
    let id = if id.contains('.') { id.to_owned() } else { format!("Base.1.18.{id}") };
    json!({ "@odata.type": "#Message.v1_2_1.Message", "MessageId": id, "Message": text, "MessageArgs": args,
            "MessageSeverity": severity, "Resolution": resolution })
}

/// An error response.
pub fn refuse(status: u16, id: &str, text: &str, args: &[&str]) -> Reply {
    errors(status, vec![message(id, text, args)])
}

pub fn errors(status: u16, messages: Vec<Value>) -> Reply {
    let first = messages.first().cloned().unwrap_or_default();
    let body = json!({ "error": {
        "code": first["MessageId"], "message": first["Message"], "@Message.ExtendedInfo": messages } });
    Reply::json(status, body)
}

pub fn missing(path: &str) -> Reply {
    refuse(404, "ResourceMissingAtURI", &format!("The resource at the URI {path} was not found."), &[path])
}

pub fn malformed() -> Reply {
    refuse(400, "MalformedJSON", "The request body submitted was malformed JSON and could not be parsed.", &[])
}

pub fn unauthorized() -> Reply {
    refuse(401, "NoValidSession", "There is no valid session established with the implementation.", &[])
        .header("www-authenticate", "Basic realm=\"BMC\"")
}

pub fn not_allowed(allow: &str) -> Reply {
    let text = "The HTTP method is not allowed on this resource.";
    refuse(405, "OperationNotAllowed", text, &[]).header("allow", allow)
}

pub fn busy(retry: bool) -> Reply {
    let text = "The service is temporarily unavailable.  Retry in 1 seconds.";
    let reply = refuse(503, "ServiceTemporarilyUnavailable", text, &["1"]);
    if retry { reply.header("retry-after", "1") } else { reply }
}

pub fn not_in_list(property: &str, value: &str) -> Value {
    let text = format!("The value '{value}' for the property {property} is not in the list of acceptable values.");
    message("PropertyValueNotInList", &text, &[value, property])
}

pub fn unknown_property(property: &str) -> Value {
    let text = format!("The property {property} is not in the list of valid properties for the resource.");
    message("PropertyUnknown", &text, &[property])
}

pub fn read_only(property: &str) -> Value {
    let text = format!("The property {property} is a read-only property and cannot be assigned a value.");
    message("PropertyNotWritable", &text, &[property])
}

pub fn wrong_type(property: &str, value: &Value) -> Value {
    let value = value.to_string();
    let text = format!("The value '{value}' for the property {property} is not a type that the property can accept.");
    message("PropertyValueTypeError", &text, &[&value, property])
}

pub fn property_missing(property: &str) -> Value {
    let text = format!("The property {property} is a required property and must be included in the request.");
    message("PropertyMissing", &text, &[property])
}

pub fn parameter_missing(action: &str, parameter: &str) -> Reply {
    let text = format!("The action {action} requires the parameter {parameter} to be present in the request body.");
    refuse(400, "ActionParameterMissing", &text, &[action, parameter])
}

pub fn parameter_value(action: &str, parameter: &str, value: &str) -> Reply {
    let text = format!("The value '{value}' for the parameter {parameter} in the action {action} is not in the list.");
    refuse(400, "ActionParameterValueNotInList", &text, &[value, parameter, action])
}

pub fn parameter_unknown(action: &str, parameter: &str) -> Reply {
    let text = format!("The action {action} was submitted with the invalid parameter {parameter}.");
    refuse(400, "ActionParameterUnknown", &text, &[action, parameter])
}

/// 405 for an action that this BMC does not have: it looks like any other path.
pub fn forbidden() -> Reply {
    let text = "There are insufficient privileges for the account or credentials of the current session.";
    refuse(403, "InsufficientPrivilege", text, &[])
}
