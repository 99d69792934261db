//! When images go that nobody uses: the kubelet's flags of these names, checked. Must never look at the machine.

use barque_images::CollectPolicy;

use super::{ConfigError, not_negative, value};

/// What was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageCollectionFlags {
    /// `--image-gc-high-threshold`, in percent.
    pub high_threshold: u8,
    /// `--image-gc-low-threshold`, in percent.
    pub low_threshold: u8,
    /// `--minimum-image-ttl-duration`, a duration.
    pub minimum_age: String,
    /// `--image-maximum-gc-age`, a duration; 0 is any age.
    pub maximum_age: String,
}

impl Default for ImageCollectionFlags {
    fn default() -> Self {
        Self {
            high_threshold: 85,
            low_threshold: 80,
            minimum_age: "2m0s".to_owned(),
            maximum_age: "0s".to_owned(),
        }
    }
}

impl ImageCollectionFlags {
    /// Checked.
    ///
    /// # Errors
    /// With a sentence about the flag that is wrong.
    pub fn validate(&self) -> Result<CollectPolicy, ConfigError> {
        const HIGH: &str = "--image-gc-high-threshold";
        const LOW: &str = "--image-gc-low-threshold";
        const MAXIMUM: &str = "--image-maximum-gc-age";
        let (high, low) = (self.high_threshold, self.low_threshold);
        if high > 100 {
            return Err(value(HIGH, &high.to_string(), "must be at most 100"));
        }
        if low >= high {
            return Err(value(LOW, &low.to_string(), format!("must be less than the {high} of {HIGH}")));
        }
        let min_age = not_negative("--minimum-image-ttl-duration", &self.minimum_age)?;
        let max_age = Some(not_negative(MAXIMUM, &self.maximum_age)?).filter(|age| !age.is_zero());
        if max_age.is_some_and(|max_age| max_age <= min_age) {
            let problem = "must be more than --minimum-image-ttl-duration says";
            return Err(value(MAXIMUM, &self.maximum_age, problem));
        }
        Ok(CollectPolicy { high_percent: high, low_percent: low, min_age, max_age })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_a_policy_or_is_wrong() {
        assert_eq!(ImageCollectionFlags::default().validate().unwrap(), CollectPolicy::default());
        let told = |high, low, minimum: &str, maximum: &str| {
            let flags = ImageCollectionFlags {
                high_threshold: high,
                low_threshold: low,
                minimum_age: minimum.to_owned(),
                maximum_age: maximum.to_owned(),
            };
            match flags.validate() {
                Ok(policy) => format!("{:?}", policy.max_age),
                Err(error) => error.to_string(),
            }
        };
        assert_eq!(told(1, 0, "0s", "1h"), "Some(3600s)");
        for (said, expected) in [
            (told(101, 80, "2m", "0s"), "--image-gc-high-threshold: \"101\" must be at most 100"),
            (told(80, 80, "2m", "0s"), "--image-gc-low-threshold: \"80\" must be less than the 80 of"),
            (told(85, 80, "-2m", "0s"), "--minimum-image-ttl-duration: \"-2m\" must not be negative"),
            (told(85, 80, "2m", "1m"), "--image-maximum-gc-age: \"1m\" must be more than"),
            (told(85, 80, "2", "1m"), "--minimum-image-ttl-duration: \"2\""),
        ] {
            assert!(said.contains(expected), "{said}");
        }
    }
}
