//! Values that are a number or a text, such as ports (`8080`, `http`) and shares (`3`, `25%`). Must never round but as told.

use std::fmt;

use serde_json::Value;

/// A number, or a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IntOrString {
    /// A number.
    Int(i32),
    /// A text: a name, or a share with `%`.
    Text(String),
}

/// Which way a share of a whole is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// To more.
    Up,
    /// To less.
    Down,
}

/// A value that is no share.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// A text without `%`.
    #[error("invalid value for IntOrString: invalid type: string is not a percentage")]
    NotPercent,
    /// No whole number stands before `%`.
    #[error(
        "invalid value for IntOrString: invalid value {text:?}: strconv.Atoi: parsing {:?}: {why}",
        .text.strip_suffix('%').unwrap_or(.text)
    )]
    NotNumber {
        /// The text.
        text: String,
        /// What is wrong with the number.
        why: &'static str,
    },
}

impl IntOrString {
    /// From a field of an object; nothing if it is neither a text nor a whole number of 32 bits.
    #[must_use]
    pub fn of_value(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self::Text(text.clone())),
            Value::Number(number) => Some(Self::Int(i32::try_from(number.as_i64()?).ok()?)),
            _ => None,
        }
    }

    /// As a field of an object.
    #[must_use]
    pub fn to_value(&self) -> Value {
        match self {
            Self::Int(number) => (*number).into(),
            Self::Text(text) => text.as_str().into(),
        }
    }

    /// The number itself, or the share of `total` that the text tells.
    ///
    /// # Errors
    /// When the text is no whole number with `%`.
    pub fn scaled(&self, total: i64, round: Round) -> Result<i64, ShareError> {
        let text = match self {
            Self::Int(number) => return Ok((*number).into()),
            Self::Text(text) => text,
        };
        let number = text.strip_suffix('%').ok_or(ShareError::NotPercent)?;
        let percent = whole(number).map_err(|why| ShareError::NotNumber { text: text.clone(), why })?;
        let product = i128::from(percent) * i128::from(total);
        let share = match round {
            Round::Down => product.div_euclid(100),
            Round::Up => -(-product).div_euclid(100),
        };
        Ok(i64::try_from(share).unwrap_or(if share < 0 { i64::MIN } else { i64::MAX }))
    }
}

fn whole(text: &str) -> Result<i64, &'static str> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    text.parse().map_err(|error: std::num::ParseIntError| match error.kind() {
        PosOverflow | NegOverflow => "value out of range",
        _ => "invalid syntax",
    })
}

impl fmt::Display for IntOrString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(number) => number.fmt(f),
            Self::Text(text) => f.pad(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn shares_are_rounded_as_told() {
        let table = [
            (json!(3), 10, 3, 3),
            (json!("25%"), 10, 3, 2),
            (json!("0%"), 10, 0, 0),
            (json!("100%"), 7, 7, 7),
            (json!("150%"), 3, 5, 4),
            (json!("-25%"), 10, -2, -3),
            (json!("33%"), 0, 0, 0),
        ];
        for (value, total, up, down) in table {
            let value = IntOrString::of_value(&value).unwrap();
            assert_eq!(value.scaled(total, Round::Up), Ok(up), "{value}");
            assert_eq!(value.scaled(total, Round::Down), Ok(down), "{value}");
        }
    }

    #[test]
    fn what_is_no_share() {
        let table = [
            ("http", "invalid value for IntOrString: invalid type: string is not a percentage"),
            (
                "a%",
                r#"invalid value for IntOrString: invalid value "a%": strconv.Atoi: parsing "a": invalid syntax"#,
            ),
            (
                "99999999999999999999%",
                r#"invalid value for IntOrString: invalid value "99999999999999999999%": strconv.Atoi: parsing "99999999999999999999": value out of range"#,
            ),
        ];
        for (text, error) in table {
            let value = IntOrString::Text(text.to_owned());
            assert_eq!(value.scaled(1, Round::Up).unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn values_come_back() {
        for value in [json!(80), json!("http"), json!(-1), json!("")] {
            assert_eq!(IntOrString::of_value(&value).unwrap().to_value(), value);
        }
        for value in [json!(2_147_483_648u64), json!(1.5), json!(null), json!({})] {
            assert_eq!(IntOrString::of_value(&value), None, "{value}");
        }
    }
}
