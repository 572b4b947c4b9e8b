//! Messages of the DMTF Base registry. The registry file itself is embedded (and served under `/Registries`), so that
//! text, severity and resolution of an answer are always those of the registry that it names.

use std::sync::LazyLock;

use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// DSP8011 Base registry 1.22.1, unmodified; copyright DMTF, who permit reproduction with attribution.
pub(crate) const BASE_JSON: &str = include_str!("data/Base.1.22.1.json");
/// MessageIds carry major and minor version only (DSP0266 "MessageId format").
pub(crate) const BASE_PREFIX: &str = "Base.1.22";
pub(crate) const BASE_VERSION: &str = "Base.1.22.1";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Registry {
    messages: IndexMap<String, Definition>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Definition {
    message: String,
    message_severity: String,
    #[cfg(test)]
    number_of_args: usize,
    resolution: String,
}

static BASE: LazyLock<Registry> = LazyLock::new(|| {
    serde_json::from_str(BASE_JSON).expect("the embedded registry is valid, see the test `registry`")
});

/// One message, with its arguments and the property it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    key: &'static str,
    args: Vec<String>,
    /// JSON pointer of the property, `#/Boot/BootSourceOverrideTarget`.
    related: Option<String>,
}

/// A constructor per message that this service uses: name, key, and the names of its arguments.
macro_rules! messages {
    ($($name:ident = $key:literal ( $($arg:ident),* );)*) => {
        impl Message {
            $(pub(crate) fn $name($($arg: &str),*) -> Message {
                Message { key: $key, args: vec![$($arg.to_owned()),*], related: None }
            })*

            #[cfg(test)]
            fn samples() -> Vec<Message> {
                vec![$(Message::$name($(stringify!($arg)),*)),*]
            }
        }
    };
}

messages! {
    access_unauthorized = "AccessUnauthorized"();
    action_parameter_missing = "ActionParameterMissing"(action, parameter);
    action_parameter_unknown = "ActionParameterUnknown"(action, parameter);
    action_parameter_not_in_list = "ActionParameterValueNotInList"(value, parameter, action);
    action_parameter_type = "ActionParameterValueTypeError"(value, parameter, action);
    chassis_power_on_required = "ChassisPowerStateOnRequired"(chassis);
    create_limit_reached = "CreateLimitReachedForResource"();
    create_missing = "CreateFailedMissingReqProperties"(property);
    general_error = "GeneralError"();
    header_invalid = "HeaderInvalid"(header);
    insufficient_privilege = "InsufficientPrivilege"();
    malformed_json = "MalformedJSON"();
    no_operation = "NoOperation"();
    operation_not_allowed = "OperationNotAllowed"();
    password_change_required = "PasswordChangeRequired"(uri);
    password_length = "PasswordIncorrectLength"();
    payload_too_large = "PayloadTooLarge"();
    precondition_failed = "PreconditionFailed"();
    precondition_required = "PreconditionRequired"();
    property_format = "PropertyValueFormatError"(value, property);
    property_missing = "PropertyMissing"(property);
    property_not_in_list = "PropertyValueNotInList"(value, property);
    property_not_writable = "PropertyNotWritable"(property);
    property_out_of_range = "PropertyValueOutOfRange"(value, property);
    property_type = "PropertyValueTypeError"(value, property);
    property_unknown = "PropertyUnknown"(property);
    property_value = "PropertyValueError"(property);
    query_combination_invalid = "QueryCombinationInvalid"();
    query_not_supported_on_operation = "QueryNotSupportedOnOperation"();
    query_not_supported_on_resource = "QueryNotSupportedOnResource"();
    query_out_of_range = "QueryParameterOutOfRange"(value, parameter, range);
    query_unsupported = "QueryParameterUnsupported"(parameter);
    query_value_format = "QueryParameterValueFormatError"(value, parameter);
    query_value_type = "QueryParameterValueTypeError"(value, parameter);
    resource_already_exists = "ResourceAlreadyExists"(kind, property, value);
    resource_cannot_be_deleted = "ResourceCannotBeDeleted"();
    resource_in_use = "ResourceInUse"();
    resource_missing = "ResourceMissingAtURI"(uri);
    service_unavailable = "ServiceTemporarilyUnavailable"(seconds);
    session_limit = "SessionLimitExceeded"();
    string_too_long = "StringValueTooLong"(value, limit);
    unrecognized_request_body = "UnrecognizedRequestBody"();
}

impl Message {
    pub(crate) fn about(self, pointer: &str) -> Message {
        Message {
            related: Some(pointer.to_owned()),
            ..self
        }
    }

    pub(crate) fn id(&self) -> String {
        format!("{BASE_PREFIX}.{}", self.key)
    }

    /// The registry's text with the arguments in their places. `%n` inside an argument stays as it is.
    pub(crate) fn text(&self) -> String {
        let template = BASE
            .messages
            .get(self.key)
            .map_or("", |definition| definition.message.as_str());
        let mut text = String::with_capacity(template.len());
        let mut rest = template;
        while let Some(at) = rest.find('%') {
            text.push_str(&rest[..at]);
            let number = rest[at + 1..].chars().next().and_then(|c| c.to_digit(10));
            match number.and_then(|n| self.args.get((n as usize).wrapping_sub(1))) {
                Some(arg) => {
                    text.push_str(arg);
                    rest = &rest[at + 2..];
                }
                None => {
                    text.push('%');
                    rest = &rest[at + 1..];
                }
            }
        }
        text.push_str(rest);
        text
    }

    pub(crate) fn to_json(&self) -> Value {
        let definition = BASE.messages.get(self.key);
        let severity = definition.map_or("Critical", |definition| definition.message_severity.as_str());
        let resolution = definition.map_or("None.", |definition| definition.resolution.as_str());
        let mut object = Map::new();
        object.insert("@odata.type".to_owned(), json!("#Message.v1_2_0.Message"));
        object.insert("MessageId".to_owned(), json!(self.id()));
        object.insert("Message".to_owned(), json!(self.text()));
        object.insert("MessageArgs".to_owned(), json!(self.args));
        object.insert("MessageSeverity".to_owned(), json!(severity));
        // Deprecated by MessageSeverity, and still the only one that sushy reads.
        object.insert("Severity".to_owned(), json!(severity));
        object.insert("Resolution".to_owned(), json!(resolution));
        if let Some(related) = &self.related {
            object.insert("RelatedProperties".to_owned(), json!([related]));
        }
        Value::Object(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registry() {
        for message in Message::samples() {
            let definition = BASE
                .messages
                .get(message.key)
                .unwrap_or_else(|| panic!("{} unknown", message.key));
            assert_eq!(message.args.len(), definition.number_of_args, "{}", message.key);
            assert!(!message.text().contains('%'), "{}", message.text());
        }
    }

    #[test]
    fn arguments_are_filled_in_once() {
        let message = Message::property_type("%2 %", "Boot");
        assert_eq!(
            message.text(),
            "The value '%2 %' for the property Boot is not a type that the property can accept."
        );
    }
}
