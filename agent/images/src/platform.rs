//! Platforms: which of the manifests in an index is for this machine. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What an image runs on (OCI image index specification).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// As Go names it: `amd64`, `arm64`.
    pub architecture: String,
    /// As Go names it: `linux`.
    pub os: String,
    /// Of the processor, as `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// Of this program.
    #[must_use]
    pub fn of_this_machine() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "x86" => ("386", None),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            "powerpc64" => ("ppc64le", None),
            "loongarch64" => ("loong64", None),
            other => (other, None),
        };
        Self { architecture: architecture.into(), os: "linux".into(), variant: variant.map(Into::into) }
    }

    /// How well an image for `offered` runs here, the higher the better; nothing if it does not.
    pub(crate) fn fitness(&self, offered: &Self) -> Option<u32> {
        let (os, architecture) = (self.os.as_str(), self.architecture.as_str());
        if offered.os != os {
            return None;
        }
        let level = |variant: Option<&str>| {
            variant.and_then(|variant| variant.strip_prefix('v')?.parse::<u32>().ok())
        };
        let default = match offered.architecture.as_str() {
            "arm64" => 8,
            "arm" => 7,
            _ => 1,
        };
        let wanted = level(offered.variant.as_deref()).unwrap_or(default);
        let has = level(self.variant.as_deref()).unwrap_or(default);
        (offered.architecture == architecture && wanted <= has).then_some(wanted + 1)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        let mut parts = text.split('/').map(str::to_owned);
        Platform { os: parts.next().unwrap(), architecture: parts.next().unwrap(), variant: parts.next() }
    }

    #[test]
    fn the_best_variant_that_runs_here_wins() {
        for (here, offered, fits) in [
            ("linux/amd64", "linux/amd64", true),
            ("linux/amd64", "linux/amd64/v1", true),
            ("linux/amd64", "linux/amd64/v3", false),
            ("linux/amd64", "linux/arm64", false),
            ("linux/amd64", "windows/amd64", false),
            ("linux/arm64/v8", "linux/arm64", true),
            ("linux/arm64/v8", "linux/arm64/v9", false),
            ("linux/arm/v7", "linux/arm/v6", true),
            ("linux/arm/v6", "linux/arm/v7", false),
        ] {
            let fitness = platform(here).fitness(&platform(offered));
            assert_eq!(fitness.is_some(), fits, "{offered} on {here}");
        }
        let seven = platform("linux/arm/v7");
        assert!(seven.fitness(&platform("linux/arm/v7")) > seven.fitness(&platform("linux/arm/v6")));
    }
}
