//! Texts with a form of their own: each is a JSON Schema `format`, checked by `inventory::format`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident = $format:literal, $pattern:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "format": $format, "pattern": $pattern })
            }
        }
    )*
    /// Every format and its pattern.
    pub const FORMATS: &[(&str, &str)] = &[$(($format, $pattern)),*];
    };
}

texts! {
    /// Name of an object.
    Name = "rackctl-name", "^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$";
    /// Value of a label.
    LabelValue = "rackctl-label", "^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$";
    /// `30s`, `10m`, `1h30m`.
    Duration = "rackctl-duration", "^([0-9]+(ms|s|m|h|d))+$";
    /// `30s`, or a parameter of a playbook: `"{{ soak }}"`.
    DurationOrTemplate = "rackctl-duration-or-template", "^([0-9]+(ms|s|m|h|d))+$|\\{\\{.*\\}\\}";
    /// `400Gi`, `1Ti`, `512M`: bytes with a unit.
    Size = "rackctl-size", "^[0-9]+(\\.[0-9]+)?(Ki|Mi|Gi|Ti|Pi|k|K|M|G|T|P)?B?$";
    /// `10.77.0.0/24`
    Cidr = "rackctl-cidr", "^[0-9.]+/[0-9]{1,2}$";
    /// `10.77.0.11/24`
    InterfaceAddress = "rackctl-interface-address", "^[0-9.]+/[0-9]{1,2}$";
    /// `10.77.0.1`
    Ipv4 = "rackctl-ipv4", "^[0-9.]+$";
    /// `52:54:00:77:00:01`
    MacText = "rackctl-mac", "^[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}$";
    /// `4c4c4544-0034-5010-8031-c6c04f474831`
    UuidText = "rackctl-uuid", "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$";
    /// 64 hex digits.
    Sha256 = "rackctl-sha256", "^[0-9a-fA-F]{64}$";
    /// `sha256:` and 64 hex digits.
    Pin = "rackctl-pin", "^sha256:[0-9a-fA-F]{64}$";
    /// `https://HOST[:PORT]`
    HttpsUrl = "rackctl-https-url", "^https://[^@\\s]+$";
    /// `HOST[:PORT]`
    HostPort = "rackctl-host-port", "^[A-Za-z0-9._-]+(:[0-9]{1,5})?$";
    /// Octal, as `chmod` takes it: `0400`.
    FileMode = "rackctl-file-mode", "^[0-7]{3,4}$";
    /// `08:00`
    TimeOfDay = "rackctl-time-of-day", "^([01][0-9]|2[0-3]):[0-5][0-9]$";
    /// `role=control-plane,rack!=r1,gpu`
    SelectorText = "rackctl-selector", "^[^\\s].*$";
    /// `3.4.23`
    Version = "rackctl-version", "^v?[0-9]+\\.[0-9]+(\\.[0-9]+)?([.+~-][0-9A-Za-z.+~-]+)?$";
}

/// A number of things, or a share of them: `1`, `"25%"`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Count {
    Number(u32),
    Percent(String),
}

impl JsonSchema for Count {
    fn schema_name() -> Cow<'static, str> {
        "Count".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["integer", "string"], "format": "rackctl-count", "minimum": 0, "pattern": "^[0-9]{1,3}%$" })
    }
}
