//! How the autoscaler behaves where autoscalers do not say, checked.

use std::time::Duration;

use super::ConfigError;

/// The autoscaler's settings.
#[derive(Debug, Clone, Copy)]
pub struct AutoscalingConfig {
    /// How often each autoscaler is looked at.
    pub sync_period: Duration,
    /// For so long no higher recommendation may have been made before it scales down.
    pub downscale_stabilization: Duration,
    /// Changes of less than this share are none.
    pub tolerance: f64,
    /// For so long after a pod's start its use of CPU counts only while it is ready.
    pub cpu_initialization_period: Duration,
    /// Readiness that changes for so long after a pod's start is the first one.
    pub initial_readiness_delay: Duration,
}

impl Default for AutoscalingConfig {
    fn default() -> Self {
        Self {
            sync_period: Duration::from_secs(15),
            downscale_stabilization: Duration::from_secs(300),
            tolerance: 0.1,
            cpu_initialization_period: Duration::from_secs(300),
            initial_readiness_delay: Duration::from_secs(30),
        }
    }
}

impl AutoscalingConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.sync_period.is_zero() {
            return Err(ConfigError::AutoscalingPeriod);
        }
        if !self.tolerance.is_finite() || self.tolerance < 0.0 {
            return Err(ConfigError::AutoscalingTolerance);
        }
        Ok(())
    }
}
