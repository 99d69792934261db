//! The flags that say how the autoscaler behaves.

use barque_controllers::config::AutoscalingConfig;
use clap::Args;

use super::time;

/// How the autoscaler behaves where autoscalers do not say.
#[derive(Debug, Args)]
pub(super) struct AutoscalingArgs {
    /// How often each autoscaler is looked at.
    #[arg(
        long,
        env = "BARQUE_CONTROLLER_MANAGER_HORIZONTAL_POD_AUTOSCALER_SYNC_PERIOD",
        default_value = "15s",
        value_name = "TIME"
    )]
    horizontal_pod_autoscaler_sync_period: String,
    /// For so long nothing higher may have been recommended before it scales down.
    #[arg(
        long,
        env = "BARQUE_CONTROLLER_MANAGER_HORIZONTAL_POD_AUTOSCALER_DOWNSCALE_STABILIZATION",
        default_value = "5m0s",
        value_name = "TIME"
    )]
    horizontal_pod_autoscaler_downscale_stabilization: String,
    /// Changes of less than this share of the target are none.
    #[arg(
        long,
        env = "BARQUE_CONTROLLER_MANAGER_HORIZONTAL_POD_AUTOSCALER_TOLERANCE",
        default_value = "0.1",
        value_name = "SHARE"
    )]
    horizontal_pod_autoscaler_tolerance: f64,
    /// For so long after a pod's start its use of CPU counts only while it is ready.
    #[arg(
        long,
        env = "BARQUE_CONTROLLER_MANAGER_HORIZONTAL_POD_AUTOSCALER_CPU_INITIALIZATION_PERIOD",
        default_value = "5m0s",
        value_name = "TIME"
    )]
    horizontal_pod_autoscaler_cpu_initialization_period: String,
    /// Readiness that changes for so long after a pod's start is the first one.
    #[arg(
        long,
        env = "BARQUE_CONTROLLER_MANAGER_HORIZONTAL_POD_AUTOSCALER_INITIAL_READINESS_DELAY",
        default_value = "30s",
        value_name = "TIME"
    )]
    horizontal_pod_autoscaler_initial_readiness_delay: String,
}

impl AutoscalingArgs {
    /// The configuration, to be checked.
    pub(super) fn into_config(self) -> Result<AutoscalingConfig, String> {
        let read = |name: &str, text: &str| time(&format!("horizontal-pod-autoscaler-{name}"), text);
        Ok(AutoscalingConfig {
            sync_period: read("sync-period", &self.horizontal_pod_autoscaler_sync_period)?,
            downscale_stabilization: read(
                "downscale-stabilization",
                &self.horizontal_pod_autoscaler_downscale_stabilization,
            )?,
            tolerance: self.horizontal_pod_autoscaler_tolerance,
            cpu_initialization_period: read(
                "cpu-initialization-period",
                &self.horizontal_pod_autoscaler_cpu_initialization_period,
            )?,
            initial_readiness_delay: read(
                "initial-readiness-delay",
                &self.horizontal_pod_autoscaler_initial_readiness_delay,
            )?,
        })
    }
}
